#include "client/driver/image_load.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/base/unique_fd.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {
namespace {

using wire::IdOf;

// Options whose value is a number that only the driver's compiler needs.
bool IsForwarded(CUjit_option option) {
  switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET_FROM_CUCONTEXT:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
      return true;
    default:
      return false;
  }
}

// A log buffer of the application's: the buffer and the option that holds its size.
class LogBuffer {
 public:
  LogBuffer(const JitOptions& options, CUjit_option buffer, CUjit_option size) {
    for (unsigned i = 0; i < options.count; ++i) {
      if (options.options[i] == buffer) text_ = static_cast<char*>(options.values[i]);
      if (options.options[i] == size) size_ = &options.values[i];
    }
  }

  std::uint64_t capacity() const {
    if (text_ == nullptr || size_ == nullptr) return 0;
    return std::min<std::uint64_t>(reinterpret_cast<std::uintptr_t>(*size_) & 0xffffffff,
                                   wire::kMaxLogBytes);
  }
  void Write(std::string_view log) {
    if (capacity() == 0) return;
    const std::size_t bytes = std::min<std::size_t>(log.size(), capacity() - 1);
    std::memcpy(text_, log.data(), bytes);
    text_[bytes] = '\0';
    *size_ = reinterpret_cast<void*>(static_cast<std::uintptr_t>(bytes));
  }

 private:
  char* text_ = nullptr;
  void** size_ = nullptr;
};

bool ValidOptions(const JitOptions& options) {
  return options.count == 0 ||
         (options.options != nullptr && options.values != nullptr && options.count <= 256);
}

void WriteWallTime(const JitOptions& options, std::uint64_t microseconds) {
  for (unsigned i = 0; i < options.count; ++i) {
    if (options.options[i] != CU_JIT_WALL_TIME) continue;
    const float milliseconds = static_cast<float>(microseconds) / 1000.0f;
    std::memcpy(&options.values[i], &milliseconds, sizeof milliseconds);
  }
}

CUresult Load(Session& session, wire::InternalCommand id, wire::Handle handle, const Image& image,
              const JitOptions& options, std::shared_ptr<const FunctionTable>* table) {
  LogBuffer info_log(options, CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
  LogBuffer error_log(options, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
  std::vector<unsigned> forwarded;
  for (unsigned i = 0; i < options.count; ++i) {
    if (IsForwarded(options.options[i])) forwarded.push_back(i);
  }
  Reply reply;
  CUresult result;
  {
    Command command(session, IdOf(id));
    wire::Encoder& body = command.body();
    body.Put(handle.bits());
    body.Put(static_cast<std::uint64_t>(forwarded.size()));
    for (const unsigned i : forwarded) {
      body.Put(static_cast<std::int32_t>(options.options[i]));
      body.Put(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(options.values[i])));
    }
    body.Put(info_log.capacity());
    // Our own log wants the reason even where the application does not.
    body.Put(std::max<std::uint64_t>(error_log.capacity(), 4096));
    body.Put(static_cast<std::uint64_t>(image.bytes.size()));
    if (image.bytes.size() <= wire::kInlineDataBytes) {
      body.Put(std::uint64_t{0});
      body.PutRaw(image.bytes.data(), image.bytes.size());
    } else {
      const std::uint64_t transfer = session.NewTransfer();
      body.Put(transfer);
      command.AttachBulk(transfer, image.bytes.data(), image.bytes.size());
    }
    result = command.Call(reply);
  }
  if (reply.has_body()) {
    info_log.Write(reply.body().GetString(wire::kMaxLogBytes));
    const std::string_view errors = reply.body().GetString(wire::kMaxLogBytes);
    error_log.Write(errors);
    WriteWallTime(options, reply.body().Get<std::uint64_t>());
    if (result != CUDA_SUCCESS && !errors.empty()) {
      FARWARP_LOG(kWarn, "a module was not loaded: %.*s", static_cast<int>(errors.size()),
                  errors.data());
    }
  }
  if (result != CUDA_SUCCESS) return result;
  auto decoded = std::make_shared<FunctionTable>(FunctionTable::Decode(reply.body()));
  if (result = reply.Finish(); result == CUDA_SUCCESS) *table = std::move(decoded);
  return result;
}

CUresult Refuse(const Status& status, const JitOptions& options) {
  FARWARP_LOG(kWarn, "a module was not loaded: %s", status.message().c_str());
  LogBuffer(options, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      .Write(status.message());
  return CUDA_ERROR_INVALID_IMAGE;
}

}  // namespace

CUresult LoadImage(Session& session, wire::InternalCommand command, wire::Handle handle,
                   const void* image, const JitOptions& options,
                   std::shared_ptr<const FunctionTable>* table) {
  if (image == nullptr || !ValidOptions(options)) return CUDA_ERROR_INVALID_VALUE;
  const auto found = FindImage(image);
  if (!found.ok()) return Refuse(found.status(), options);
  return Load(session, command, handle, *found, options, table);
}

CUresult LoadImageFile(Session& session, wire::InternalCommand command, wire::Handle handle,
                       const char* path, const JitOptions& options,
                       std::shared_ptr<const FunctionTable>* table) {
  if (path == nullptr || !ValidOptions(options)) return CUDA_ERROR_INVALID_VALUE;
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  struct stat facts{};
  if (!file.valid() || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return CUDA_ERROR_FILE_NOT_FOUND;
  }
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (size > wire::kMaxImageBytes) {
    return Refuse(Status::Limit(std::string(path) + " is too large for a module"), options);
  }
  std::vector<std::byte> contents(static_cast<std::size_t>(size));
  std::size_t have = 0;
  while (have < contents.size()) {
    const ssize_t got = ::read(file.get(), contents.data() + have, contents.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return CUDA_ERROR_FILE_NOT_FOUND;
    have += static_cast<std::size_t>(got);
  }
  const auto found = FindImage(std::span<const std::byte>(contents));
  if (!found.ok()) return Refuse(found.status(), options);
  return Load(session, command, handle, *found, options, table);
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
