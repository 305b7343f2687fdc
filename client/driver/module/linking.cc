// cuLink*: inputs are kept until the program asks for what they are together; see link_state.h.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "client/custom.h"
#include "client/driver/module/image_load.h"
#include "client/driver/module/link_state.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client::custom {
namespace {

using wire::IdOf;
using wire::InternalCommand;

std::atomic<std::uint64_t> next_link{1};

CUresult Refuse(Link& link, const std::string& why, CUresult result) REQUIRES(link.mutex) {
  FARWARP_LOG(kWarn, "device code cannot be linked: %s", why.c_str());
  link.jit.WriteError(why);
  return result;
}

CUresult CheckType(CUjitInputType type) {
  return static_cast<unsigned>(type) < static_cast<unsigned>(CU_JIT_NUM_INPUT_TYPES)
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

// An input's own options only steer its compilation; those of the link are what travels.
CUresult CheckOptions(const JitOptions& options) {
  JitRequest request;
  return request.Read(options);
}

CUresult Append(Link& link, CUjitInputType type, std::string_view name,
                std::span<const std::byte> input) {
  const MutexLock lock(link.mutex);
  if (!link.image.empty()) return CUDA_ERROR_INVALID_VALUE;
  if (link.inputs.size() == wire::kMaxLinkInputs ||
      input.size() > wire::kMaxImageBytes - link.bytes.size()) {
    return Refuse(link, "too much device code for one link", CUDA_ERROR_OUT_OF_MEMORY);
  }
  link.bytes.insert(link.bytes.end(), input.begin(), input.end());
  link.inputs.push_back({type, std::string(name.substr(0, wire::kMaxLinkNameBytes)), input.size()});
  return CUDA_SUCCESS;
}

// What `data` is: a wrapper points to the code, which lies elsewhere.
Result<std::span<const std::byte>> InputAt(CUjitInputType type, const void* data,
                                           std::size_t size) {
  const std::span<const std::byte> whole(static_cast<const std::byte*>(data), size);
  constexpr std::uint32_t kWrapperMagic = 0x466243B1;
  std::uint32_t magic = 0;
  if (size >= sizeof magic) std::memcpy(&magic, data, sizeof magic);
  if (type != CU_JIT_INPUT_FATBINARY || magic != kWrapperMagic) return whole;
  const auto found = FindImage(data);
  if (!found.ok()) return found.status();
  return found->bytes;
}

// The reply to kLink, or what is left of it on the server.
CUresult TakeImage(const Caller& caller, std::uint64_t number, Reply& reply,
                   std::vector<std::byte>* image) {
  const auto bytes = reply.body().Get<std::uint64_t>();
  if (bytes > wire::kMaxImageBytes) return CUDA_ERROR_UNKNOWN;
  std::vector<std::byte> taken(static_cast<std::size_t>(bytes));
  if (bytes <= wire::kMaxLinkedInReply) {
    const auto data = reply.body().GetRaw(taken.size());
    if (const CUresult whole = reply.Finish(); whole != CUDA_SUCCESS) return whole;
    std::copy(data.begin(), data.end(), taken.begin());
  } else {
    Session& session = caller.session();
    const std::uint64_t transfer = session.ExpectTransfer(taken.data(), taken.size());
    Reply arrived;
    CUresult result;
    {
      Command command(session, IdOf(InternalCommand::kLinkedImage));
      command.body().Put(number);
      command.body().Put(transfer);
      result = command.Call(arrived);
    }
    session.CancelTransfer(transfer);
    if (result != CUDA_SUCCESS) return result;
  }
  *image = std::move(taken);
  return CUDA_SUCCESS;
}

CUresult LinkNow(const Caller& caller, Link& link) REQUIRES(link.mutex) {
  const std::uint64_t number = next_link.fetch_add(1, std::memory_order_relaxed);
  Reply reply;
  CUresult result;
  {
    Command command(caller.session(), IdOf(InternalCommand::kLink), BulkBytes(link.bytes.size()));
    wire::Encoder& body = command.body();
    body.Put(number);
    body.Put(static_cast<std::uint64_t>(link.inputs.size()));
    for (const LinkInput& input : link.inputs) {
      body.Put(static_cast<std::int32_t>(input.type));
      body.PutString(input.name);
      body.Put(static_cast<std::uint64_t>(input.bytes));
    }
    link.jit.Put(body);
    PutBulk(caller.session(), command, link.bytes);
    result = command.Call(reply);
  }
  if (reply.has_body()) link.jit.Take(reply.body(), result);
  if (result != CUDA_SUCCESS) return result;
  return TakeImage(caller, number, reply, &link.image);
}

}  // namespace

CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option* options, void** optionValues,
                         CUlinkState* stateOut) {
  FARWARP_ENTER_CONTEXT(caller);
  if (stateOut == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto link = std::make_unique<Link>();
  {
    const MutexLock lock(link->mutex);
    const CUresult valid = link->jit.Read({numOptions, options, optionValues});
    if (valid != CUDA_SUCCESS) return valid;
  }
  const wire::Handle handle = caller.process->links.Mint(std::move(link));
  if (handle.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  *stateOut = wire::ToPointer<CUlinkState>(handle);
  return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size,
                          const char* name, unsigned int numOptions, CUjit_option* options,
                          void** optionValues) {
  FARWARP_ENTER_CONTEXT(caller);
  Link* link = caller.process->links.Find(state);
  if (link == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (data == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult valid = CheckType(type); valid != CUDA_SUCCESS) return valid;
  const CUresult valid = CheckOptions({numOptions, options, optionValues});
  if (valid != CUDA_SUCCESS) return valid;
  const auto input = InputAt(type, data, size);
  if (!input.ok()) {
    const MutexLock lock(link->mutex);
    return Refuse(*link, input.status().message(), CUDA_ERROR_INVALID_IMAGE);
  }
  return Append(*link, type, name == nullptr ? "" : name, *input);
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path,
                          unsigned int numOptions, CUjit_option* options, void** optionValues) {
  FARWARP_ENTER_CONTEXT(caller);
  Link* link = caller.process->links.Find(state);
  if (link == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult valid = CheckType(type); valid != CUDA_SUCCESS) return valid;
  const CUresult valid = CheckOptions({numOptions, options, optionValues});
  if (valid != CUDA_SUCCESS) return valid;
  std::vector<std::byte> contents;
  if (const CUresult read = ReadImageFile(path, &contents); read != CUDA_SUCCESS) return read;
  if (contents.empty()) return CUDA_ERROR_INVALID_IMAGE;
  return Append(*link, type, path, contents);
}

CUresult cuLinkComplete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
  FARWARP_ENTER_CONTEXT(caller);
  Link* link = caller.process->links.Find(state);
  if (link == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (cubinOut == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(link->mutex);
  if (link->image.empty()) {
    const CUresult result = LinkNow(caller, *link);
    if (result != CUDA_SUCCESS) return result;
  }
  *cubinOut = link->image.data();
  if (sizeOut != nullptr) *sizeOut = link->image.size();
  return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state) {
  FARWARP_ENTER(caller);
  return caller.process->links.Remove(wire::FromPointer(state)) == nullptr
             ? CUDA_ERROR_INVALID_HANDLE
             : CUDA_SUCCESS;
}

// Programs built before CUDA 6.5 call these.
CUresult cuLinkCreate(unsigned int numOptions, CUjit_option* options, void** optionValues,
                      CUlinkState* stateOut) {
  return custom::cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}
CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t size,
                       const char* name, unsigned int numOptions, CUjit_option* options,
                       void** optionValues) {
  return custom::cuLinkAddData_v2(state, type, data, size, name, numOptions, options, optionValues);
}
CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char* path,
                       unsigned int numOptions, CUjit_option* options, void** optionValues) {
  return custom::cuLinkAddFile_v2(state, type, path, numOptions, options, optionValues);
}

}  // namespace farwarp::client::custom
