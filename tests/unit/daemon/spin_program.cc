// Starts a kernel that never ends, prints "spinning", and waits for it. Stands for a program that
// is killed in the middle of its work.
#include <dlfcn.h>

#include <cstdio>

#include "cuda/driver_api.h"

namespace {
constexpr char kPtx[] =
    ".version 8.0\n"
    ".target sm_80\n"
    ".address_size 64\n"
    ".visible .entry spin(.param .u64 unused)\n"
    "{\n"
    "again:\n"
    "  bra again;\n"
    "}\n";
}  // namespace

int main() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) reinterpret_cast<decltype(&name)>(dlsym(library, #name))
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  unsigned long long unused = 0;
  void* parameters[] = {&unused};
  if (CUDA(cuInit)(0) != CUDA_SUCCESS ||
      CUDA(cuDevicePrimaryCtxRetain)(&context, 0) != CUDA_SUCCESS ||
      CUDA(cuCtxSetCurrent)(context) != CUDA_SUCCESS ||
      CUDA(cuModuleLoadData)(&module, kPtx) != CUDA_SUCCESS ||
      CUDA(cuModuleGetFunction)(&function, module, "spin") != CUDA_SUCCESS ||
      CUDA(cuLaunchKernel)(function, 4, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr) !=
          CUDA_SUCCESS) {
    std::fprintf(stderr, "spin_program: cannot start its kernel\n");
    return 1;
  }
  std::printf("spinning\n");
  std::fflush(stdout);
  const CUresult result = CUDA(cuCtxSynchronize)();
  std::printf("error %d then %d\n", static_cast<int>(result),
              static_cast<int>(CUDA(cuCtxSynchronize)()));
  return 0;
}
