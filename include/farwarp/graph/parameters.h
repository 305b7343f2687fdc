// How the parameters of a launch come into the buffer that the kernel reads: the same for a launch
// at once and for a node of a graph.
//
// Threads: functions of their arguments.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "cuda/driver_api.h"

namespace farwarp::graph {

// In bytes; CUDA's limit since 12.1 (CUDA C++ Programming Guide).
inline constexpr std::size_t kMaxParameterBytes = 32764;

// The first `needed` bytes of the buffer that an `extra` list names, if it has as many.
CUresult PackExtra(void** extra, std::size_t needed, std::vector<std::byte>* packed);

// `places` is a range of what has an offset and a size in `bytes` (ParameterPlace and the like);
// the buffer has `bytes`. One of `kernel_params` and `extra` is null. Nothing is read beyond what a
// place says, nor written beyond the buffer.
template <typename Places>
CUresult PackParameters(const Places& places, std::size_t bytes, void** kernel_params, void** extra,
                        std::vector<std::byte>* packed) {
  if (bytes > kMaxParameterBytes || (kernel_params != nullptr && extra != nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  packed->assign(bytes, std::byte{0});
  std::size_t needed = 0;
  for (const auto& place : places) {
    if (place.bytes > bytes || place.offset > bytes - place.bytes) return CUDA_ERROR_INVALID_VALUE;
    needed = std::max<std::size_t>(needed, place.offset + place.bytes);
  }
  if (extra != nullptr) return PackExtra(extra, needed, packed);
  std::size_t index = 0;
  for (const auto& place : places) {
    if (kernel_params == nullptr || kernel_params[index] == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    std::memcpy(packed->data() + place.offset, kernel_params[index], place.bytes);
    ++index;
  }
  return CUDA_SUCCESS;
}

}  // namespace farwarp::graph
