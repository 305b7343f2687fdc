// Which options of the compiler travel: those whose value is a number that only the driver uses.
// All others point to the application's memory; client and server answer for these themselves.
#pragma once

#include "cuda/driver_api.h"

namespace farwarp::cuda {

constexpr bool IsNumberForCompiler(CUjit_option option) noexcept {
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

}  // namespace farwarp::cuda
