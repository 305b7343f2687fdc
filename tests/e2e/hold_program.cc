// Allocates most of the vGPU's memory, prints "holding" and stays until it is killed: stands for a
// user who keeps a GPU.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>

#include "cuda/driver_api.h"

int main() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) reinterpret_cast<decltype(&name)>(dlsym(library, #name))
  CUcontext context;
  CUdeviceptr memory;
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  if (CUDA(cuInit)(0) != CUDA_SUCCESS ||
      CUDA(cuDevicePrimaryCtxRetain)(&context, 0) != CUDA_SUCCESS ||
      CUDA(cuCtxSetCurrent)(context) != CUDA_SUCCESS ||
      CUDA(cuMemGetInfo_v2)(&free_bytes, &total_bytes) != CUDA_SUCCESS ||
      CUDA(cuMemAlloc_v2)(&memory, total_bytes / 2) != CUDA_SUCCESS) {
    std::fprintf(stderr, "hold_program: no memory to hold\n");
    return 1;
  }
  std::printf("holding\n");
  std::fflush(stdout);
  for (;;) pause();
}
