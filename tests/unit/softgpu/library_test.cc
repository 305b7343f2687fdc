// The software GPU as a program sees it: libcuda.so.1 is opened by dlopen and runs PTX text.
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/softgpu/library_fixture.h"

namespace farwarp::softgpu {
namespace {

constexpr char kPtx[] = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .global .align 4 .u32 launches;

.visible .entry vector_add(
  .param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .f32 %f<4>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<11>;
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
  ld.param.u64 %rd3, [c];
  ld.param.u32 %r2, [n];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.s32 %r1, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r1, %r2;
  @%p1 bra done;
  cvta.to.global.u64 %rd4, %rd1;
  mul.wide.u32 %rd5, %r1, 4;
  add.s64 %rd6, %rd4, %rd5;
  cvta.to.global.u64 %rd7, %rd2;
  add.s64 %rd8, %rd7, %rd5;
  ld.global.f32 %f1, [%rd6];
  ld.global.f32 %f2, [%rd8];
  add.f32 %f3, %f1, %f2;
  cvta.to.global.u64 %rd9, %rd3;
  add.s64 %rd10, %rd9, %rd5;
  st.global.f32 [%rd10], %f3;
done:
  ret;
}
)";

class LibraryTest : public SoftGpuLibraryTest {
 protected:
  CUfunction VectorAdd() {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    EXPECT_EQ(CU(cuModuleLoadData)(&module, kPtx), CUDA_SUCCESS);
    EXPECT_EQ(CU(cuModuleGetFunction)(&function, module, "vector_add"), CUDA_SUCCESS);
    return function;
  }
};

TEST_F(LibraryTest, AddsVectors) {
  constexpr std::uint32_t kCount = 100003;
  constexpr std::size_t kBytes = kCount * sizeof(float);
  std::vector<float> a(kCount), b(kCount), c(kCount);
  std::iota(a.begin(), a.end(), 0.5f);
  std::iota(b.begin(), b.end(), 1000.0f);
  CUdeviceptr da, db, dc;
  for (CUdeviceptr* pointer : {&da, &db, &dc}) {
    ASSERT_EQ(CU(cuMemAlloc_v2)(pointer, kBytes), CUDA_SUCCESS);
  }
  ASSERT_EQ(CU(cuMemcpyHtoD_v2)(da, a.data(), kBytes), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemcpyHtoD_v2)(db, b.data(), kBytes), CUDA_SUCCESS);
  std::uint32_t count = kCount;
  void* params[] = {&da, &db, &dc, &count};
  ASSERT_EQ(CU(cuLaunchKernel)(VectorAdd(), (kCount + 255) / 256, 1, 1, 256, 1, 1, 0, nullptr,
                               params, nullptr),
            CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemcpyDtoH_v2)(c.data(), dc, kBytes), CUDA_SUCCESS);
  for (std::uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(c[i], a[i] + b[i]) << i;
}

TEST_F(LibraryTest, WildPointersFaultAndOnlyTheirContext) {
  CUcontext doomed;
  ASSERT_EQ(CU(cuCtxCreate_v2)(&doomed, 0, 0), CUDA_SUCCESS);
  CUdeviceptr wild = 0x1234560, small;
  ASSERT_EQ(CU(cuMemAlloc_v2)(&small, 4096), CUDA_SUCCESS);
  std::uint32_t count = 1;
  void* params[] = {&wild, &small, &small, &count};
  ASSERT_EQ(CU(cuLaunchKernel)(VectorAdd(), 1, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(CU(cuMemFree_v2)(small), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(CU(cuCtxDestroy_v2)(doomed), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuCtxSetCurrent)(context_), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemAlloc_v2)(&small, 4096), CUDA_SUCCESS);
  // One page behind the end of an allocation is nobody's.
  CUdeviceptr behind = small + 4096;
  void* over[] = {&small, &small, &behind, &count};
  ASSERT_EQ(CU(cuLaunchKernel)(VectorAdd(), 1, 1, 1, 32, 1, 1, 0, nullptr, over, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(CU(cuCtxSynchronize)(), CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(LibraryTest, VariablesHaveAddresses) {
  CUmodule module;
  ASSERT_EQ(CU(cuModuleLoadData)(&module, kPtx), CUDA_SUCCESS);
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  EXPECT_EQ(CU(cuModuleGetGlobal_v2)(&address, &bytes, module, "launches"), CUDA_SUCCESS);
  EXPECT_EQ(bytes, 4u);
  std::uint32_t value = 7;
  EXPECT_EQ(CU(cuMemcpyDtoH_v2)(&value, address, 4), CUDA_SUCCESS);
  EXPECT_EQ(value, 0u);
}

// The lane that holds the lock has a higher program counter than those that spin, and goes on.
TEST_F(LibraryTest, LanesOfOneWarpMayWaitForEachOther) {
  constexpr char kLock[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry count(.param .u64 lock, .param .u64 counter)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [lock];
  ld.param.u64 %rd2, [counter];
again:
  atom.global.cas.b32 %r1, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra again;
  ld.volatile.global.u32 %r2, [%rd2];
  add.u32 %r2, %r2, 1;
  st.volatile.global.u32 [%rd2], %r2;
  membar.gl;
  atom.global.exch.b32 %r3, [%rd1], 0;
  ret;
}
)";
  CUmodule module = nullptr;
  ASSERT_EQ(Call<decltype(cuModuleLoadData)>("cuModuleLoadData")(&module, kLock), CUDA_SUCCESS);
  CUfunction function = nullptr;
  ASSERT_EQ(Call<decltype(cuModuleGetFunction)>("cuModuleGetFunction")(&function, module, "count"),
            CUDA_SUCCESS);
  CUdeviceptr memory = 0;
  ASSERT_EQ(Call<decltype(cuMemAlloc_v2)>("cuMemAlloc_v2")(&memory, 8), CUDA_SUCCESS);
  ASSERT_EQ(Call<decltype(cuMemsetD8_v2)>("cuMemsetD8_v2")(memory, 0, 8), CUDA_SUCCESS);
  CUdeviceptr counter = memory + 4;
  void* arguments[] = {&memory, &counter};
  ASSERT_EQ(Call<decltype(cuLaunchKernel)>("cuLaunchKernel")(function, 2, 1, 1, 96, 1, 1, 0,
                                                             nullptr, arguments, nullptr),
            CUDA_SUCCESS);
  unsigned value = 0;
  ASSERT_EQ(Call<decltype(cuMemcpyDtoH_v2)>("cuMemcpyDtoH_v2")(&value, counter, 4), CUDA_SUCCESS);
  EXPECT_EQ(value, 192u);
}

// The same memory gets a second address while a kernel writes to the first: nothing of what it
// writes is lost, and it sees what comes through the other one.
TEST_F(LibraryTest, MemoryMayBeMappedAgainWhileAKernelUsesIt) {
  constexpr char kCount[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry count(.param .u64 memory, .param .u64 stride)
{
  .reg .pred %p<2>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [memory];
  ld.param.u64 %rd2, [stride];
  mov.u32 %r1, %tid.x;
  cvt.u64.u32 %rd3, %r1;
  mad.lo.u64 %rd1, %rd3, %rd2, %rd1;
  mov.u64 %rd4, 0;
again:
  add.u64 %rd4, %rd4, 1;
  ld.volatile.global.u64 %rd5, [%rd1];
  add.u64 %rd5, %rd5, 1;
  st.volatile.global.u64 [%rd1], %rd5;
  ld.volatile.global.u32 %r2, [%rd1+8];
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra again;
  st.global.u64 [%rd1+16], %rd4;
  ret;
}
)";
  constexpr std::uint64_t kThreads = 32;
  constexpr std::uint64_t kBytes = std::uint64_t{16} << 20;
  std::uint64_t stride = kBytes / kThreads;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  ASSERT_EQ(CU(cuModuleLoadData)(&module, kCount), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuModuleGetFunction)(&function, module, "count"), CUDA_SUCCESS);
  CUdeviceptr window = 0;
  ASSERT_EQ(CU(cuMemAddressReserve)(&window, 2 * kBytes, 0, 0, 0), CUDA_SUCCESS);
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  const CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_EQ(CU(cuMemCreate)(&handle, kBytes, &prop, 0), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemMap)(window, kBytes, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemSetAccess)(window, kBytes, &access, 1), CUDA_SUCCESS);
  CUstream stream = nullptr, other = nullptr;
  ASSERT_EQ(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuStreamCreate)(&other, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  void* arguments[] = {&window, &stride};
  ASSERT_EQ(CU(cuLaunchKernel)(function, 1, 1, 1, kThreads, 1, 1, 0, stream, arguments, nullptr),
            CUDA_SUCCESS);
  const auto count_at = [&](CUdeviceptr at) {
    std::uint64_t count = 0;
    EXPECT_EQ(CU(cuMemcpyDtoHAsync_v2)(&count, at, sizeof count, other), CUDA_SUCCESS);
    EXPECT_EQ(CU(cuStreamSynchronize)(other), CUDA_SUCCESS);
    return count;
  };
  while (count_at(window + (kThreads - 1) * stride) == 0 && !HasFailure()) {
  }
  ASSERT_EQ(CU(cuMemMap)(window + kBytes, kBytes, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(CU(cuMemSetAccess)(window + kBytes, kBytes, &access, 1), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuStreamQuery)(stream), CUDA_ERROR_NOT_READY);
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
    ASSERT_EQ(CU(cuMemsetD32Async)(window + kBytes + thread * stride + 8, 1, 1, other),
              CUDA_SUCCESS);
  }
  ASSERT_EQ(CU(cuStreamSynchronize)(stream), CUDA_SUCCESS);
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
    const CUdeviceptr at = window + thread * stride;
    EXPECT_EQ(count_at(at), count_at(at + 16)) << thread;
    EXPECT_EQ(count_at(at + kBytes), count_at(at + 16)) << thread;
  }
  EXPECT_EQ(CU(cuMemUnmap)(window, 2 * kBytes), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuMemRelease)(handle), CUDA_SUCCESS);
  EXPECT_EQ(CU(cuMemAddressFree)(window, 2 * kBytes), CUDA_SUCCESS);
}

TEST_F(LibraryTest, MistakesInPtxAreReportedWithTheirPlace) {
  std::string broken = kPtx;
  broken.replace(broken.find("mad.lo.s32"), 10, "frob.x.s32");
  char log[512] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  CUmodule module;
  EXPECT_EQ(CU(cuModuleLoadDataEx)(&module, broken.c_str(), 2, options, values),
            CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(std::string(log).find("frob"), std::string::npos) << log;
  EXPECT_NE(std::string(log).find("ptx:"), std::string::npos) << log;
}

}  // namespace
}  // namespace farwarp::softgpu
