// Uses a vGPU until that fails: prints "ready", asks the device again and again, and prints the
// CUDA error that ended it. Stands for a program in the middle of its work when its server has an
// accident.
#include <dlfcn.h>

#include <cstdio>

#include "cuda/driver_api.h"

int main() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) reinterpret_cast<decltype(&name)>(dlsym(library, #name))
  CUcontext context = nullptr;
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CUresult result = CUDA(cuInit)(0);
  if (result == CUDA_SUCCESS) result = CUDA(cuDevicePrimaryCtxRetain)(&context, 0);
  if (result == CUDA_SUCCESS) result = CUDA(cuCtxSetCurrent)(context);
  if (result == CUDA_SUCCESS) {
    std::printf("ready\n");
    std::fflush(stdout);
  }
  while (result == CUDA_SUCCESS) result = CUDA(cuMemGetInfo_v2)(&free_bytes, &total_bytes);
  // Sticky: the next call fails too, at once.
  const CUresult next = CUDA(cuCtxSynchronize)();
  std::printf("error %d then %d\n", static_cast<int>(result), static_cast<int>(next));
  return 0;
}
