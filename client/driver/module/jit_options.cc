#include "client/driver/module/jit_options.h"

#include <algorithm>
#include <cstring>

#include "farwarp/base/log.h"
#include "farwarp/wire/limits.h"
#include "proto/cuda/jit_options.h"

namespace farwarp::client {
namespace {

constexpr unsigned kMaxOptions = 256;

}  // namespace

CUresult JitRequest::Read(const JitOptions& options) {
  if (options.count == 0) return CUDA_SUCCESS;
  if (options.options == nullptr || options.values == nullptr || options.count > kMaxOptions) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < options.count; ++i) {
    const CUjit_option option = options.options[i];
    if (static_cast<unsigned>(option) >= static_cast<unsigned>(CU_JIT_NUM_OPTIONS)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (option == CU_JIT_GLOBAL_SYMBOL_NAMES || option == CU_JIT_GLOBAL_SYMBOL_ADDRESSES ||
        option == CU_JIT_GLOBAL_SYMBOL_COUNT) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (option == CU_JIT_WALL_TIME) wall_time_ = &options.values[i];
    if (!cuda::IsNumberForCompiler(option)) continue;
    forwarded_.push_back(
        {option, static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(options.values[i]))});
  }
  info_ = FindBuffer(options, CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
  error_ = FindBuffer(options, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
  return CUDA_SUCCESS;
}

JitRequest::LogBuffer JitRequest::FindBuffer(const JitOptions& options, CUjit_option buffer,
                                             CUjit_option size) const {
  LogBuffer found;
  for (unsigned i = 0; i < options.count; ++i) {
    if (options.options[i] == buffer) found.text = static_cast<char*>(options.values[i]);
    if (options.options[i] == size) found.size = &options.values[i];
  }
  if (found.text == nullptr || found.size == nullptr) return {};
  // The size is a 32-bit number in the place of a pointer, and the count of bytes goes back there.
  found.capacity = std::min<std::uint64_t>(
      reinterpret_cast<std::uintptr_t>(*found.size) & 0xffffffff, wire::kMaxLogBytes);
  return found;
}

void JitRequest::LogBuffer::Write(std::string_view log) const {
  if (capacity == 0) return;
  const std::size_t bytes = std::min<std::size_t>(log.size(), capacity - 1);
  std::memcpy(text, log.data(), bytes);
  text[bytes] = '\0';
  *size = reinterpret_cast<void*>(static_cast<std::uintptr_t>(bytes));
}

void JitRequest::Put(wire::Encoder& body) const {
  body.Put(static_cast<std::uint64_t>(forwarded_.size()));
  for (const Forwarded& forwarded : forwarded_) {
    body.Put(static_cast<std::int32_t>(forwarded.option));
    body.Put(forwarded.value);
  }
  body.Put(info_.capacity);
  // Our own log wants the reason even where the application does not.
  body.Put(std::max<std::uint64_t>(error_.capacity, 4096));
}

void JitRequest::Take(wire::Decoder& body, CUresult result) {
  info_.Write(body.GetString(wire::kMaxLogBytes));
  const std::string_view errors = body.GetString(wire::kMaxLogBytes);
  error_.Write(errors);
  const auto microseconds = body.Get<std::uint64_t>();
  if (wall_time_ != nullptr) {
    const float milliseconds = static_cast<float>(microseconds) / 1000.0f;
    std::memcpy(wall_time_, &milliseconds, sizeof milliseconds);
  }
  if (result != CUDA_SUCCESS && !errors.empty()) {
    FARWARP_LOG(kWarn, "device code was not accepted: %.*s", static_cast<int>(errors.size()),
                errors.data());
  }
}

}  // namespace farwarp::client
