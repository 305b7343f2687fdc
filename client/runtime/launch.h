// The launch path and how a kernel is found from what the API takes for one.
//
// Thread-safe. A launch of a resolved kernel makes exactly one driver call, allocates nothing and
// takes no lock.
#pragma once

#include "client/runtime/api.h"
#include "client/runtime/registry.h"

namespace farwarp::runtime {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
};

// The driver's kernel for a host stub (or a handle that the API gave out).
cudaError_t ResolveKernel(const Driver& d, const void* host, CUkernel* kernel);

// The driver takes kernels wherever it takes functions.
inline CUfunction AsFunction(CUkernel kernel) noexcept {
  return reinterpret_cast<CUfunction>(kernel);
}

// What no CUDA device can launch is refused here, with the code that CUDA documents for it.
cudaError_t CheckShape(const LaunchShape& shape) noexcept;

Outcome Launch(const Driver& d, Function* function, const LaunchShape& shape, void** arguments,
               cudaStream_t stream);

}  // namespace farwarp::runtime
