// Adds one to each number of an array on the device, again and again, and reads all of them back
// each time; prints how often it has done so every ten rounds, and in the end "right" or what is
// wrong. Stands for a program that is stopped in the middle of its work.
#include <dlfcn.h>

#include <cstdio>
#include <vector>

#include "cuda/driver_api.h"

namespace {
constexpr char kPtx[] =
    ".version 8.0\n"
    ".target sm_80\n"
    ".address_size 64\n"
    ".visible .entry increment(.param .u64 numbers)\n"
    "{\n"
    "  .reg .u32 %r<6>;\n"
    "  .reg .u64 %d<4>;\n"
    "  mov.u32 %r1, %ctaid.x;\n"
    "  mov.u32 %r2, %ntid.x;\n"
    "  mov.u32 %r3, %tid.x;\n"
    "  mad.lo.u32 %r4, %r1, %r2, %r3;\n"
    "  ld.param.u64 %d1, [numbers];\n"
    "  mad.wide.u32 %d2, %r4, 4, %d1;\n"
    "  ld.global.u32 %r5, [%d2];\n"
    "  add.u32 %r5, %r5, 1;\n"
    "  st.global.u32 [%d2], %r5;\n"
    "  ret;\n"
    "}\n";
constexpr unsigned kBlocks = 8192;
constexpr unsigned kThreads = 256;
constexpr unsigned kRounds = 60;
}  // namespace

int main() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) reinterpret_cast<decltype(&name)>(dlsym(library, #name))
  std::vector<unsigned> numbers(std::size_t{kBlocks} * kThreads);
  const std::size_t bytes = numbers.size() * sizeof numbers[0];
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUdeviceptr device = 0;
  void* parameters[] = {&device};
  if (CUDA(cuInit)(0) != CUDA_SUCCESS ||
      CUDA(cuDevicePrimaryCtxRetain)(&context, 0) != CUDA_SUCCESS ||
      CUDA(cuCtxSetCurrent)(context) != CUDA_SUCCESS ||
      CUDA(cuModuleLoadData)(&module, kPtx) != CUDA_SUCCESS ||
      CUDA(cuModuleGetFunction)(&function, module, "increment") != CUDA_SUCCESS ||
      CUDA(cuMemAlloc_v2)(&device, bytes) != CUDA_SUCCESS ||
      CUDA(cuMemcpyHtoD_v2)(device, numbers.data(), bytes) != CUDA_SUCCESS) {
    std::fprintf(stderr, "pause_program: cannot start\n");
    return 1;
  }
  for (unsigned round = 1; round <= kRounds; ++round) {
    CUresult result = CUDA(cuLaunchKernel)(function, kBlocks, 1, 1, kThreads, 1, 1, 0, nullptr,
                                           parameters, nullptr);
    if (result == CUDA_SUCCESS) result = CUDA(cuMemcpyDtoH_v2)(numbers.data(), device, bytes);
    if (result == CUDA_SUCCESS) result = CUDA(cuMemcpyHtoD_v2)(device, numbers.data(), bytes);
    if (result != CUDA_SUCCESS) {
      std::printf("error %d then %d\n", static_cast<int>(result),
                  static_cast<int>(CUDA(cuCtxSynchronize)()));
      return 0;
    }
    for (const unsigned number : numbers) {
      if (number == round) continue;
      std::printf("%u instead of %u\n", number, round);
      return 0;
    }
    if (round % 10 == 0) {
      std::printf("%u\n", round);
      std::fflush(stdout);
    }
  }
  std::printf("right\n");
  return 0;
}
