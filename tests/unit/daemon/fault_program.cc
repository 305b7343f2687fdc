// Lets a kernel on vGPU 0 write where nothing is, then works on vGPU 1, and prints how each ended.
#include <dlfcn.h>

#include <cstdio>

#include "cuda/driver_api.h"

namespace {
constexpr char kPtx[] =
    ".version 8.0\n"
    ".target sm_80\n"
    ".address_size 64\n"
    ".visible .entry store(.param .u64 to)\n"
    "{\n"
    "  .reg .b64 %rd<2>;\n"
    "  .reg .b32 %r<2>;\n"
    "  ld.param.u64 %rd1, [to];\n"
    "  mov.u32 %r1, 7;\n"
    "  st.global.u32 [%rd1], %r1;\n"
    "  ret;\n"
    "}\n";

template <typename Function>
Function* Find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}
}  // namespace

int main() {
  void* cuda = dlopen("libcuda.so.1", RTLD_NOW);
  if (cuda == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define CUDA(name) Find<decltype(name)>(cuda, #name)
  CUresult result = CUDA(cuInit)(0);
  for (int device = 1; device >= 0 && result == CUDA_SUCCESS; --device) {
    CUcontext context = nullptr;  // Both exist before the fault.
    result = CUDA(cuDevicePrimaryCtxRetain)(&context, device);
  }
  for (int device = 0; device < 2 && result == CUDA_SUCCESS; ++device) {
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    CUdeviceptr memory = 0;
    CUresult ended = CUDA(cuDevicePrimaryCtxRetain)(&context, device);
    if (ended == CUDA_SUCCESS) ended = CUDA(cuCtxSetCurrent)(context);
    if (ended == CUDA_SUCCESS) ended = CUDA(cuModuleLoadData)(&module, kPtx);
    if (ended == CUDA_SUCCESS) ended = CUDA(cuModuleGetFunction)(&function, module, "store");
    if (ended == CUDA_SUCCESS) ended = CUDA(cuMemAlloc_v2)(&memory, 4096);
    CUdeviceptr to = device == 0 ? 64 : memory;
    void* parameters[] = {&to};
    if (ended == CUDA_SUCCESS) {
      ended = CUDA(cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr);
    }
    if (ended == CUDA_SUCCESS) ended = CUDA(cuCtxSynchronize)();
    std::printf("vgpu %d: error %d\n", device, static_cast<int>(ended));
  }
  return result == CUDA_SUCCESS ? 0 : 1;
}
