// Prints what is free on its vGPU, takes some of it, and then makes its worker use up the host
// memory that it may have; prints the CUDA error that ended it.
#include <dlfcn.h>

#include <cstdio>

#include "cuda/driver_api.h"
#include "tests/unit/daemon/fake_libcuda.h"

int main() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) reinterpret_cast<decltype(&name)>(dlsym(library, #name))
  constexpr std::size_t kSome = std::size_t{100} << 20;
  CUcontext context = nullptr;
  CUdeviceptr address = 0;
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CUresult result = CUDA(cuInit)(0);
  if (result == CUDA_SUCCESS) result = CUDA(cuDevicePrimaryCtxRetain)(&context, 0);
  if (result == CUDA_SUCCESS) result = CUDA(cuCtxSetCurrent)(context);
  if (result == CUDA_SUCCESS) result = CUDA(cuMemGetInfo_v2)(&free_bytes, &total_bytes);
  if (result == CUDA_SUCCESS) result = CUDA(cuMemAlloc_v2)(&address, kSome);
  if (result == CUDA_SUCCESS) {
    std::printf("free %zu\n", free_bytes);
    std::fflush(stdout);
    result = CUDA(cuMemAlloc_v2)(&address, farwarp::testing::kHogBytes);
  }
  while (result == CUDA_SUCCESS) result = CUDA(cuMemGetInfo_v2)(&free_bytes, &total_bytes);
  // Sticky: the next call fails too, at once.
  const CUresult next = CUDA(cuCtxSynchronize)();
  std::printf("error %d then %d\n", static_cast<int>(result), static_cast<int>(next));
  return 0;
}
