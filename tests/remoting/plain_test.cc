// Functions that exist as one line of proto/cuda/driver.toml, through a real session: client half,
// stream, dispatch, handler, driver.
#include "client/plain.h"

#include <gtest/gtest.h>

#include <atomic>

#include "client/custom.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;
namespace plain = client::plain;

std::atomic<std::uint64_t> written_address{0};
std::atomic<std::uint32_t> written_value{0};
std::atomic<int> flushed{0};

class Plain : public testing::Test {
 protected:
  void SetUp() override {
    // The table is the fake driver's own, not constant; nothing calls it before the commands below.
    auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
    table.cuStreamWriteValue32_v2 = [](CUstream, CUdeviceptr address, cuuint32_t value, unsigned) {
      written_address = address;
      written_value = value;
      return address == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    };
    table.cuFlushGPUDirectRDMAWrites = [](CUflushGPUDirectRDMAWritesTarget,
                                          CUflushGPUDirectRDMAWritesScope scope) {
      ++flushed;
      return scope == CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER ? CUDA_SUCCESS
                                                               : CUDA_ERROR_NOT_SUPPORTED;
    };
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  Loop loop_;
  CUcontext context_ = nullptr;
};

constexpr auto kTarget = CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX;

TEST_F(Plain, AsyncTakesNoRoundTripAndArrivesInOrder) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 4096), CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(plain::cuStreamWriteValue32_v2(stream, memory + 64, 77, 0, false), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
  EXPECT_EQ(written_address.load(), memory + 64);
  EXPECT_EQ(written_value.load(), 77u);
}

TEST_F(Plain, SyncTakesOneRoundTripAndReturnsTheDriversResult) {
  loop_.TakeRoundTrips();
  const int before = flushed;
  EXPECT_EQ(
      plain::cuFlushGPUDirectRDMAWrites(kTarget, CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER, false),
      CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  EXPECT_EQ(plain::cuFlushGPUDirectRDMAWrites(
                kTarget, CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES, false),
            CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(flushed, before + 2);
}

TEST_F(Plain, AForeignAddressIsAnErrorOfALaterCall) {
  written_address = 0;
  ASSERT_EQ(plain::cuStreamWriteValue32_v2(nullptr, 0x1234, 77, 0, false), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(written_address.load(), 0u);
}

TEST_F(Plain, NeedsAContext) {
  ASSERT_EQ(cu::cuCtxSetCurrent(nullptr), CUDA_SUCCESS);
  EXPECT_EQ(plain::cuStreamWriteValue32_v2(nullptr, 1, 1, 0, false), CUDA_ERROR_INVALID_CONTEXT);
}

}  // namespace
}  // namespace farwarp::tests
