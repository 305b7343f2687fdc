#include "server/softgpu/api/jit_options.h"

#include <algorithm>
#include <cstring>

namespace farwarp::softgpu {

JitOptions::JitOptions(unsigned count, CUjit_option* options, void** values)
    : count_(count), options_(options), values_(values) {}

CUresult JitOptions::Check() const {
  if (count_ == 0) return CUDA_SUCCESS;
  if (options_ == nullptr || values_ == nullptr || count_ > CU_JIT_NUM_OPTIONS) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool known = std::all_of(options_, options_ + count_, [](CUjit_option option) {
    return static_cast<unsigned>(option) < static_cast<unsigned>(CU_JIT_NUM_OPTIONS);
  });
  return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void** JitOptions::Find(CUjit_option option) {
  for (unsigned i = 0; i < count_; ++i) {
    if (options_[i] == option) return &values_[i];
  }
  return nullptr;
}

void JitOptions::Write(const std::string& text, CUjit_option buffer, CUjit_option size) {
  void** to = Find(buffer);
  void** bytes = Find(size);
  if (to == nullptr || *to == nullptr || bytes == nullptr) return;
  // The size is a 32-bit number in the place of a pointer, and the count of bytes goes back there.
  const auto room =
      static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(*bytes) & 0xffffffffu);
  if (room == 0) return;
  const std::size_t used = std::min<std::size_t>(text.size(), room - 1);
  std::memcpy(*to, text.data(), used);
  static_cast<char*>(*to)[used] = '\0';
  *bytes = reinterpret_cast<void*>(static_cast<std::uintptr_t>(used));
}

void JitOptions::Finish(const JitLog& log) {
  Write(log.info, CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES);
  Write(log.error, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
  if (void** time = Find(CU_JIT_WALL_TIME)) {
    const std::chrono::duration<float, std::milli> passed =
        std::chrono::steady_clock::now() - start_;
    const float milliseconds = passed.count();
    std::memcpy(time, &milliseconds, sizeof milliseconds);
  }
}

}  // namespace farwarp::softgpu
