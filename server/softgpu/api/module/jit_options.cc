#include "server/softgpu/api/module/jit_options.h"

#include <algorithm>
#include <cstring>

namespace farwarp::softgpu {

CUresult JitOptions::ReadOne(CUjit_option option, std::uintptr_t value) {
  // Options hold 32-bit numbers in the place of pointers; the upper half may be anything.
  const auto number = static_cast<std::uint32_t>(value);
  const auto at_most = [&](std::uint32_t most) {
    return number <= most ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  switch (option) {
    case CU_JIT_OPTIMIZATION_LEVEL:
      return at_most(4);
    case CU_JIT_FALLBACK_STRATEGY:
      return at_most(CU_PREFER_BINARY);
    case CU_JIT_CACHE_MODE:
      return at_most(CU_JIT_CACHE_OPTION_CA);
    case CU_JIT_LOG_VERBOSE:
      verbose_ = number != 0;
      return CUDA_SUCCESS;
    case CU_JIT_TARGET:
      // The bits above the number mark variants for one architecture or one family.
      target_ = static_cast<int>(number & 0xffffu);
      return target_ >= 10 && target_ <= 999 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_JIT_GLOBAL_SYMBOL_NAMES:
    case CU_JIT_GLOBAL_SYMBOL_ADDRESSES:
    case CU_JIT_GLOBAL_SYMBOL_COUNT:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return static_cast<unsigned>(option) < static_cast<unsigned>(CU_JIT_NUM_OPTIONS)
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult JitOptions::Read() {
  if (count_ == 0) return CUDA_SUCCESS;
  if (options_ == nullptr || values_ == nullptr || count_ > CU_JIT_NUM_OPTIONS) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < count_; ++i) {
    const auto value = reinterpret_cast<std::uintptr_t>(values_[i]);
    if (const CUresult result = ReadOne(options_[i], value); result != CUDA_SUCCESS) return result;
  }
  info_ = FindBuffer(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
  error_ = FindBuffer(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
  return CUDA_SUCCESS;
}

void** JitOptions::Find(CUjit_option option) {
  for (unsigned i = 0; i < count_; ++i) {
    if (options_[i] == option) return &values_[i];
  }
  return nullptr;
}

JitOptions::Buffer JitOptions::FindBuffer(CUjit_option buffer, CUjit_option size) {
  void** const text = Find(buffer);
  void** const bytes = Find(size);
  if (text == nullptr || *text == nullptr || bytes == nullptr) return {};
  return {static_cast<char*>(*text), bytes,
          static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(*bytes))};
}

void JitOptions::Write(const std::string& text, const Buffer& buffer) {
  if (buffer.room == 0) return;
  const std::size_t used = std::min<std::size_t>(text.size(), buffer.room - 1);
  std::memcpy(buffer.text, text.data(), used);
  buffer.text[used] = '\0';
  *buffer.size = reinterpret_cast<void*>(static_cast<std::uintptr_t>(used));
}

void JitOptions::Finish(const JitLog& log) {
  Write(log.info, info_);
  Write(log.error, error_);
  if (void** time = Find(CU_JIT_WALL_TIME)) {
    const std::chrono::duration<float, std::milli> passed =
        std::chrono::steady_clock::now() - start_;
    const float milliseconds = passed.count();
    std::memcpy(time, &milliseconds, sizeof milliseconds);
  }
}

}  // namespace farwarp::softgpu
