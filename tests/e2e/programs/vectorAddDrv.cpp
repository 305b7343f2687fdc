// Adds two vectors with the driver API and a kernel given as PTX text: needs no CUDA compiler.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/driver_api.h"

#define CHECK(call)                                                                   \
  do {                                                                                \
    const CUresult check_error = (call);                                              \
    if (check_error != CUDA_SUCCESS) {                                                \
      const char* check_name = "unknown error";                                       \
      cuGetErrorName(check_error, &check_name);                                       \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, check_name); \
      std::exit(2);                                                                   \
    }                                                                                 \
  } while (false)

static const char kPtx[] = R"(
.version 6.4
.target sm_50
.address_size 64

.visible .entry vector_add(
    .param .u64 a,
    .param .u64 b,
    .param .u64 c,
    .param .u32 n)
{
    .reg .pred %past;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %a<3>, %b<3>, %c<3>, %offset;

    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r5, [n];
    setp.ge.s32 %past, %r4, %r5;
    @%past bra DONE;

    ld.param.u64 %a1, [a];
    ld.param.u64 %b1, [b];
    ld.param.u64 %c1, [c];
    cvta.to.global.u64 %a1, %a1;
    cvta.to.global.u64 %b1, %b1;
    cvta.to.global.u64 %c1, %c1;
    mul.wide.s32 %offset, %r4, 4;
    add.s64 %a2, %a1, %offset;
    add.s64 %b2, %b1, %offset;
    add.s64 %c2, %c1, %offset;
    ld.global.f32 %f1, [%a2];
    ld.global.f32 %f2, [%b2];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%c2], %f3;
DONE:
    ret;
}
)";

static uint64_t Checksum(const void* data, size_t bytes) {
  const unsigned char* p = static_cast<const unsigned char*>(data);
  uint64_t hash = 14695981039346656037ull;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 1099511628211ull;
  return hash;
}

int main() {
  int n = 50000;
  const size_t bytes = static_cast<size_t>(n) * sizeof(float);
  std::vector<float> a(static_cast<size_t>(n)), b(a.size()), c(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i) * 0.25f;
    b[i] = 3.0f / static_cast<float>(i + 1);
  }

  CUdevice device;
  CUcontext context;
  CUmodule module;
  CUfunction function;
  CHECK(cuInit(0));
  CHECK(cuDeviceGet(&device, 0));
  CHECK(cuDevicePrimaryCtxRetain(&context, device));
  CHECK(cuCtxSetCurrent(context));
  CHECK(cuModuleLoadData(&module, kPtx));
  CHECK(cuModuleGetFunction(&function, module, "vector_add"));

  CUdeviceptr device_a, device_b, device_c;
  CHECK(cuMemAlloc_v2(&device_a, bytes));
  CHECK(cuMemAlloc_v2(&device_b, bytes));
  CHECK(cuMemAlloc_v2(&device_c, bytes));
  CHECK(cuMemcpyHtoD_v2(device_a, a.data(), bytes));
  CHECK(cuMemcpyHtoD_v2(device_b, b.data(), bytes));

  void* arguments[] = {&device_a, &device_b, &device_c, &n};
  const unsigned threads = 256;
  const unsigned blocks = (static_cast<unsigned>(n) + threads - 1) / threads;
  std::printf("vectorAddDrv: %d elements, %u blocks of %u threads\n", n, blocks, threads);
  CHECK(cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, nullptr, arguments, nullptr));
  CHECK(cuCtxSynchronize());
  CHECK(cuMemcpyDtoH_v2(c.data(), device_c, bytes));

  CHECK(cuMemFree_v2(device_a));
  CHECK(cuMemFree_v2(device_b));
  CHECK(cuMemFree_v2(device_c));
  CHECK(cuModuleUnload(module));
  CHECK(cuDevicePrimaryCtxRelease_v2(device));

  bool ok = true;
  for (size_t i = 0; i < a.size(); ++i) ok = ok && c[i] == a[i] + b[i];
  std::printf("checksum %016llx\n", static_cast<unsigned long long>(Checksum(c.data(), bytes)));
  std::printf("vectorAddDrv: %s\n", ok ? "PASSED" : "FAILED");
  return ok ? 0 : 1;
}
