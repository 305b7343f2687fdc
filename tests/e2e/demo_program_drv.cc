// demo_program.cu as a driver-API program with PTX text, for machines without nvcc: adds two
// vectors on every GPU that CUDA shows, checks the sums, and prints what it computed on.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/driver_api.h"

namespace {

constexpr char kPtx[] = R"(
.version 7.0
.target sm_75
.address_size 64
.visible .entry VectorAdd(.param .u64 a, .param .u64 b, .param .u64 sum, .param .u32 count) {
  .reg .pred %p<2>;
  .reg .f32 %f<4>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<11>;
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
  ld.param.u64 %rd3, [sum];
  ld.param.u32 %r1, [count];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.s32 %p1, %r5, %r1;
  @%p1 bra DONE;
  mul.wide.s32 %rd4, %r5, 4;
  cvta.to.global.u64 %rd5, %rd1;
  cvta.to.global.u64 %rd6, %rd2;
  cvta.to.global.u64 %rd7, %rd3;
  add.s64 %rd8, %rd5, %rd4;
  add.s64 %rd9, %rd6, %rd4;
  add.s64 %rd10, %rd7, %rd4;
  ld.global.f32 %f1, [%rd8];
  ld.global.f32 %f2, [%rd9];
  add.f32 %f3, %f1, %f2;
  st.global.f32 [%rd10], %f3;
DONE:
  ret;
}
)";

void* library = nullptr;

template <typename Function>
Function Find(const char* name) {
  auto* function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    std::fprintf(stderr, "libcuda.so.1 has no %s\n", name);
    std::exit(1);
  }
  return function;
}
#define CUDA(name) Find<decltype(&name)>(#name)
#define CHECK(call)                                                                  \
  do {                                                                               \
    if (const CUresult result_ = (call); result_ != CUDA_SUCCESS) {                  \
      std::fprintf(stderr, "%s: CUDA error %d\n", #call, static_cast<int>(result_)); \
      return 1;                                                                      \
    }                                                                                \
  } while (false)

int AddOn(CUdevice device, unsigned count) {
  char name[256];
  std::size_t memory = 0;
  CUcontext context;
  CUmodule module;
  CUfunction function;
  CHECK(CUDA(cuDeviceGetName)(name, sizeof name, device));
  CHECK(CUDA(cuDeviceTotalMem_v2)(&memory, device));
  CHECK(CUDA(cuDevicePrimaryCtxRetain)(&context, device));
  CHECK(CUDA(cuCtxSetCurrent)(context));
  CHECK(CUDA(cuModuleLoadData)(&module, kPtx));
  CHECK(CUDA(cuModuleGetFunction)(&function, module, "VectorAdd"));

  std::vector<float> a(count), b(count), sum(count);
  for (unsigned i = 0; i < count; ++i)
    a[i] = 0.5f * static_cast<float>(i), b[i] = 1.0f + static_cast<float>(device);
  const std::size_t bytes = count * sizeof(float);
  CUdeviceptr device_a, device_b, device_sum;
  CHECK(CUDA(cuMemAlloc_v2)(&device_a, bytes));
  CHECK(CUDA(cuMemAlloc_v2)(&device_b, bytes));
  CHECK(CUDA(cuMemAlloc_v2)(&device_sum, bytes));
  CHECK(CUDA(cuMemcpyHtoD_v2)(device_a, a.data(), bytes));
  CHECK(CUDA(cuMemcpyHtoD_v2)(device_b, b.data(), bytes));
  void* arguments[] = {&device_a, &device_b, &device_sum, &count};
  CHECK(CUDA(cuLaunchKernel)(function, (count + 255) / 256, 1, 1, 256, 1, 1, 0, nullptr, arguments,
                             nullptr));
  CHECK(CUDA(cuMemcpyDtoH_v2)(sum.data(), device_sum, bytes));
  for (unsigned i = 0; i < count; ++i) {
    if (sum[i] != a[i] + b[i]) {
      std::fprintf(stderr, "device %d: element %u is %g, should be %g\n", device, i,
                   static_cast<double>(sum[i]), static_cast<double>(a[i] + b[i]));
      return 1;
    }
  }
  for (const CUdeviceptr buffer : {device_a, device_b, device_sum})
    CHECK(CUDA(cuMemFree_v2)(buffer));
  CHECK(CUDA(cuModuleUnload)(module));
  std::printf("device %d (%s, %zu MiB): added %u elements, all correct, last sum %.1f\n", device,
              name, memory >> 20, count, static_cast<double>(sum[count - 1]));
  return 0;
}

}  // namespace

int main() {
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  int devices = 0;
  CHECK(CUDA(cuInit)(0));
  CHECK(CUDA(cuDeviceGetCount)(&devices));
  std::printf("%d CUDA device%s\n", devices, devices == 1 ? "" : "s");
  for (int device = 0; device < devices; ++device) {
    if (AddOn(device, 1u << 20) != 0) return 1;
  }
  return 0;
}
