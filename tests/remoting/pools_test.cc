// Stream-ordered allocation through client and server: no round trips, reuse in stream order, the
// quota.
#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

using RemotePools = SoftLoop;
constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST_F(RemotePools, AllocatingInAStreamWaitsForNobody) {
  CUdeviceptr first = 0;
  for (int i = 0; i < 1000; ++i) {
    CUdeviceptr address = 0;
    ASSERT_EQ(cu::cuMemAllocAsync(&address, kMiB, stream_), CUDA_SUCCESS);
    if (i == 0) first = address;
    // A stream gets back at once what it has freed.
    ASSERT_EQ(address, first);
    ASSERT_EQ(cu::cuMemsetD8Async(address, static_cast<unsigned char>(i), kMiB, stream_),
              CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemFreeAsync(address, stream_), CUDA_SUCCESS);
  }
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
}

TEST_F(RemotePools, AnotherStreamDoesNotGetWhatIsStillInUse) {
  CUstream other = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  CUdeviceptr mine = 0, others = 0;
  ASSERT_EQ(cu::cuMemAllocAsync(&mine, kMiB, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(mine, 1, kMiB, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemFreeAsync(mine, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAllocAsync(&others, kMiB, other), CUDA_SUCCESS);
  EXPECT_NE(mine, others);
  EXPECT_EQ(cu::cuMemFreeAsync(mine, other), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemFree_v2(mine), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemFree_v2(others), CUDA_SUCCESS);
}

TEST_F(RemotePools, WhatStreamsHaveFreedCountsWhenMemoryIsShort) {
  CUdeviceptr large = 0, larger = 0, none = 0;
  ASSERT_EQ(cu::cuMemAllocAsync(&large, 40 * kMiB, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(large, 1, 40 * kMiB, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAllocAsync(&none, 40 * kMiB, stream_), CUDA_ERROR_OUT_OF_MEMORY);
  ASSERT_EQ(cu::cuMemFreeAsync(large, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAllocAsync(&larger, 48 * kMiB, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFreeAsync(larger, stream_), CUDA_SUCCESS);
}

TEST_F(RemotePools, PoolsKeepTheirBooks) {
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  props.maxSize = 2 * kMiB;
  CUmemoryPool pool = nullptr;
  ASSERT_EQ(cu::cuMemPoolCreate(&pool, &props), CUDA_SUCCESS);
  CUdeviceptr address = 0, more = 0;
  ASSERT_EQ(cu::cuMemAllocFromPoolAsync(&address, kMiB + 1, pool, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAllocFromPoolAsync(&more, kMiB, pool, stream_), CUDA_ERROR_OUT_OF_MEMORY);
  cuuint64_t used = 0;
  ASSERT_EQ(cu::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used), CUDA_SUCCESS);
  EXPECT_EQ(used, kMiB + 1);
  ASSERT_EQ(cu::cuMemFreeAsync(address, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used), CUDA_SUCCESS);
  EXPECT_EQ(used, 0u);
  ASSERT_EQ(cu::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &used), CUDA_SUCCESS);
  EXPECT_EQ(used, kMiB + 1);
  EXPECT_EQ(cu::cuMemPoolDestroy(pool), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAllocFromPoolAsync(&more, 1, pool, stream_), CUDA_ERROR_INVALID_VALUE);
  CUmemoryPool default_pool = nullptr;
  ASSERT_EQ(cu::cuDeviceGetDefaultMemPool(&default_pool, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemPoolDestroy(default_pool), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(RemotePools, DestroyingAPoolLeavesTheCurrentOne) {
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUmemoryPool pool = nullptr, current = nullptr, default_pool = nullptr;
  ASSERT_EQ(cu::cuDeviceGetDefaultMemPool(&default_pool, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemPoolCreate(&pool, &props), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemPoolDestroy(pool), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDeviceGetMemPool(&current, 0), CUDA_SUCCESS);
  EXPECT_EQ(current, default_pool);
  EXPECT_EQ(cu::cuDeviceSetMemPool(0, pool), CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr address = 0;
  ASSERT_EQ(cu::cuMemAllocAsync(&address, kMiB, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFreeAsync(address, stream_), CUDA_SUCCESS);
  // One that was current leaves the default one behind.
  ASSERT_EQ(cu::cuMemPoolCreate(&pool, &props), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDeviceSetMemPool(0, pool), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemPoolDestroy(pool), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDeviceGetMemPool(&current, 0), CUDA_SUCCESS);
  EXPECT_EQ(current, default_pool);
}

TEST_F(RemotePools, AResetEndsWhatTheContextHadAllocatedAndFreed) {
  CUmemoryPool pool = nullptr;
  ASSERT_EQ(cu::cuDeviceGetDefaultMemPool(&pool, 0), CUDA_SUCCESS);
  CUdeviceptr kept = 0, freed = 0, first = 0, second = 0;
  // In the legacy stream, which is the same one after the reset.
  ASSERT_EQ(cu::cuMemAllocAsync(&freed, kMiB, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAllocAsync(&kept, 2 * kMiB, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(freed, 1, kMiB, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemFreeAsync(freed, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxReset(0), CUDA_SUCCESS);
  cuuint64_t used = 1;
  ASSERT_EQ(cu::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used), CUDA_SUCCESS);
  EXPECT_EQ(used, 0u);
  ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAlloc_v2(&first, kMiB), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAllocAsync(&second, kMiB, nullptr), CUDA_SUCCESS);
  EXPECT_NE(first, second);
  ASSERT_EQ(cu::cuMemsetD8Async(first, 1, kMiB, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(second, 2, kMiB, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFree_v2(first), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFreeAsync(second, nullptr), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
