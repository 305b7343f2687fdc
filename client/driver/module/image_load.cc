#include "client/driver/module/image_load.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/base/unique_fd.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

using wire::IdOf;

// Such bytes cannot be sent from where they are: system calls do not fault, and a fault under the
// stream's lock would wait for itself.
bool InManagedMemory(std::span<const std::byte> bytes) {
  Process* process = Process::Get();
  if (process == nullptr || bytes.empty() || !process->managed().any()) return false;
  const auto first = reinterpret_cast<std::uint64_t>(bytes.data());
  return process->managed().Find(first).address != 0 ||
         process->managed().Find(first + bytes.size() - 1).address != 0;
}

CUresult Load(Session& session, wire::InternalCommand id, wire::Handle handle, const Image& image,
              JitRequest& jit, std::shared_ptr<const FunctionTable>* table) {
  Reply reply;
  CUresult result;
  std::vector<std::byte> own;
  std::span<const std::byte> bytes = image.bytes;
  if (InManagedMemory(bytes)) {
    own.assign(bytes.begin(), bytes.end());
    bytes = own;
  }
  {
    Command command(session, IdOf(id), BulkBytes(bytes.size()));
    command.body().Put(handle.bits());
    jit.Put(command.body());
    PutBulk(session, command, bytes);
    result = command.Call(reply);
  }
  if (reply.has_body()) jit.Take(reply.body(), result);
  if (result != CUDA_SUCCESS) return result;
  auto decoded = std::make_shared<FunctionTable>(FunctionTable::Decode(reply.body()));
  if (result = reply.Finish(); result == CUDA_SUCCESS) *table = std::move(decoded);
  return result;
}

CUresult Refuse(const Status& status, JitRequest& jit) {
  FARWARP_LOG(kWarn, "device code was not accepted: %s", status.message().c_str());
  jit.WriteError(status.message());
  return CUDA_ERROR_INVALID_IMAGE;
}

}  // namespace

void PutBulk(Session& session, Command& command, std::span<const std::byte> bytes) {
  command.body().Put(static_cast<std::uint64_t>(bytes.size()));
  if (bytes.size() <= wire::kInlineDataBytes) {
    command.body().Put(std::uint64_t{0});
    command.body().PutRaw(bytes.data(), bytes.size());
  } else {
    const std::uint64_t transfer = session.NewTransfer();
    command.body().Put(transfer);
    command.AttachBulk(transfer, bytes.data(), bytes.size());
  }
}

CUresult LoadImage(Session& session, wire::InternalCommand command, wire::Handle handle,
                   const void* image, const JitOptions& options,
                   std::shared_ptr<const FunctionTable>* table) {
  JitRequest jit;
  if (image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult valid = jit.Read(options); valid != CUDA_SUCCESS) return valid;
  const auto found = FindImage(image);
  if (!found.ok()) return Refuse(found.status(), jit);
  return Load(session, command, handle, *found, jit, table);
}

CUresult ReadImageFile(const char* path, std::vector<std::byte>* contents) {
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  struct stat facts{};
  if (!file.valid() || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return CUDA_ERROR_FILE_NOT_FOUND;
  }
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (size > wire::kMaxImageBytes) return CUDA_ERROR_INVALID_IMAGE;
  contents->resize(static_cast<std::size_t>(size));
  std::size_t have = 0;
  while (have < contents->size()) {
    const ssize_t got = ::read(file.get(), contents->data() + have, contents->size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return CUDA_ERROR_FILE_NOT_FOUND;
    have += static_cast<std::size_t>(got);
  }
  return CUDA_SUCCESS;
}

CUresult LoadImageFile(Session& session, wire::InternalCommand command, wire::Handle handle,
                       const char* path, const JitOptions& options,
                       std::shared_ptr<const FunctionTable>* table) {
  JitRequest jit;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult valid = jit.Read(options); valid != CUDA_SUCCESS) return valid;
  std::vector<std::byte> contents;
  const CUresult read = ReadImageFile(path, &contents);
  if (read == CUDA_ERROR_INVALID_IMAGE) {
    return Refuse(Status::Limit(std::string(path) + " is too large for a module"), jit);
  }
  if (read != CUDA_SUCCESS) return read;
  const auto found = FindImage(std::span<const std::byte>(contents));
  if (!found.ok()) return Refuse(found.status(), jit);
  return Load(session, command, handle, *found, jit, table);
}

CUresult AskVariable(Session& session, wire::InternalCommand id, wire::Handle handle,
                     const char* name, std::uint64_t* address, std::uint64_t* bytes) {
  const std::size_t length = ::strnlen(name, wire::kMaxStringBytes + 1);
  if (length > wire::kMaxStringBytes) return CUDA_ERROR_NOT_FOUND;
  Reply reply;
  {
    Command command(session, IdOf(id));
    command.body().Put(handle.bits());
    command.body().PutString({name, length});
    if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  }
  *address = reply.body().Get<std::uint64_t>();
  *bytes = reply.body().Get<std::uint64_t>();
  return reply.Finish();
}

}  // namespace farwarp::client
