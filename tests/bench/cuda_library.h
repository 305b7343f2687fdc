// CudaLibrary: the CUDA driver functions that the benchmark calls, looked up in whatever
// libcuda.so.1 the library path offers, so that one binary measures the remoting client, the
// software GPU in-process, or a real driver. One thread.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "cuda/driver_api.h"

namespace farwarp::bench {

// Ends the program with the name of the call and the error: a benchmark of failing calls measures
// nothing.
inline void Check(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  std::fprintf(stderr, "farwarp-bench: %s failed with CUDA error %d\n", call,
               static_cast<int>(result));
  std::exit(1);
}
#define BENCH_CHECK(call) ::farwarp::bench::Check(call, #call)

class CudaLibrary {
 public:
  CudaLibrary() {
    handle_ = dlopen("libcuda.so.1", RTLD_NOW);
    if (handle_ == nullptr) {
      std::fprintf(stderr,
                   "farwarp-bench: %s (start it with `farwarp run`, or set LD_LIBRARY_PATH)\n",
                   dlerror());
      std::exit(1);
    }
#define BENCH_FUNCTION(name) Load(name, #name)
    BENCH_FUNCTION(cuInit);
    BENCH_FUNCTION(cuDevicePrimaryCtxRetain);
    BENCH_FUNCTION(cuCtxSetCurrent);
    BENCH_FUNCTION(cuCtxSynchronize);
    BENCH_FUNCTION(cuModuleLoadData);
    BENCH_FUNCTION(cuModuleUnload);
    BENCH_FUNCTION(cuModuleGetFunction);
    BENCH_FUNCTION(cuMemAlloc_v2);
    BENCH_FUNCTION(cuMemFree_v2);
    BENCH_FUNCTION(cuMemGetInfo_v2);
    BENCH_FUNCTION(cuMemHostAlloc);
    BENCH_FUNCTION(cuMemsetD8_v2);
    BENCH_FUNCTION(cuMemcpyHtoD_v2);
    BENCH_FUNCTION(cuMemcpyDtoH_v2);
    BENCH_FUNCTION(cuLaunchKernel);
#undef BENCH_FUNCTION
  }

  decltype(&::cuInit) cuInit;
  decltype(&::cuDevicePrimaryCtxRetain) cuDevicePrimaryCtxRetain;
  decltype(&::cuCtxSetCurrent) cuCtxSetCurrent;
  decltype(&::cuCtxSynchronize) cuCtxSynchronize;
  decltype(&::cuModuleLoadData) cuModuleLoadData;
  decltype(&::cuModuleUnload) cuModuleUnload;
  decltype(&::cuModuleGetFunction) cuModuleGetFunction;
  decltype(&::cuMemAlloc_v2) cuMemAlloc_v2;
  decltype(&::cuMemFree_v2) cuMemFree_v2;
  decltype(&::cuMemGetInfo_v2) cuMemGetInfo_v2;
  decltype(&::cuMemHostAlloc) cuMemHostAlloc;
  decltype(&::cuMemsetD8_v2) cuMemsetD8_v2;
  decltype(&::cuMemcpyHtoD_v2) cuMemcpyHtoD_v2;
  decltype(&::cuMemcpyDtoH_v2) cuMemcpyDtoH_v2;
  decltype(&::cuLaunchKernel) cuLaunchKernel;

 private:
  template <typename Function>
  void Load(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    if (function == nullptr) {
      std::fprintf(stderr, "farwarp-bench: libcuda.so.1 has no %s\n", name);
      std::exit(1);
    }
  }

  void* handle_ = nullptr;
};

}  // namespace farwarp::bench
