// SoftLoop: a Loop with the software GPU as the server's driver, and a current context.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "client/custom.h"
#include "server/driver/table.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {

namespace cu = client::custom;

class SoftLoop : public testing::Test {
 protected:
  void SetUp() override {
    setenv("FARWARP_SOFTGPU", "devices=1,memory=256MiB", 1);
    auto loaded = server::driver::Driver::Load(FARWARP_SOFTGPU_LIBRARY);
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    driver_ = std::move(*loaded);
    ASSERT_EQ(driver_->table().cuInit(0), CUDA_SUCCESS);
    loop_ = std::make_unique<Loop>(std::vector<std::uint64_t>{std::uint64_t{64} << 20},
                                   &driver_->table());
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    loop_->TakeRoundTrips();
  }
  void TearDown() override {
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    cu::cuCtxSetCurrent(nullptr);
    loop_.reset();
  }

  std::unique_ptr<server::driver::Driver> driver_;
  std::unique_ptr<Loop> loop_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
};

}  // namespace farwarp::tests
