// A command that fails after its call has returned is told by the next wait. Whatever else asks the
// server for something learns what became of that, so that both sides go on with the same books.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "client/custom.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr char kImage[] = ".version 9.0\n";
constexpr CUresult kFailure = CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;

class AsyncErrors : public testing::Test {
 protected:
  void SetUp() override {
    // The table is the fake driver's own, not constant; nothing calls it before the commands below.
    auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
    table.cuLaunchKernelEx = [](const CUlaunchConfig*, CUfunction, void**, void**) {
      return kFailure;
    };
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    CUmodule module = nullptr;
    ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuModuleGetFunction(&function_, module, "fault"), CUDA_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    cu::cuCtxSetCurrent(nullptr);
  }
  // A launch that the server's driver will refuse.
  void FailLater() {
    ASSERT_EQ(cu::cuLaunchCooperativeKernel(function_, 1 << 20, 1, 1, 1, 1, 1, 0, nullptr, nullptr),
              CUDA_SUCCESS);
  }
  // `wait` tells the failure, once.
  void ExpectTold(const std::function<CUresult()>& wait) {
    FailLater();
    EXPECT_EQ(wait(), kFailure);
    EXPECT_EQ(wait(), CUDA_SUCCESS);
  }
  client::DeviceMemory& memory() { return loop_.process().devices()[0]->memory; }

  Loop loop_;
  CUcontext context_ = nullptr;
  CUfunction function_ = nullptr;
};

TEST_F(AsyncErrors, AreToldByWaits) {
  CUstream stream = nullptr;
  CUevent event = nullptr;
  CUdeviceptr device = 0;
  int host = 0;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventRecord(event, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventSynchronize(event), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAlloc_v2(&device, sizeof host), CUDA_SUCCESS);
  ExpectTold([] { return cu::cuCtxSynchronize(); });
  ExpectTold([&] { return cu::cuStreamSynchronize(stream); });
  ExpectTold([&] { return cu::cuStreamQuery(stream); });
  ExpectTold([&] { return cu::cuEventSynchronize(event); });
  ExpectTold([&] { return cu::cuEventQuery(event); });
  ExpectTold([&] { return cu::cuMemcpyDtoH_v2(&host, device, sizeof host); });
}

TEST_F(AsyncErrors, LeaveLoadedCodeLoaded) {
  FailLater();
  const std::size_t before = loop_.process().modules.live();
  CUmodule modules[2] = {};
  CUlibrary libraries[2] = {};
  for (auto& module : modules) EXPECT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  EXPECT_EQ(loop_.process().modules.live(), before + 2);
  EXPECT_EQ(cu::cuCtxSynchronize(), kFailure);
  FailLater();
  for (auto& library : libraries) {
    EXPECT_EQ(cu::cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0),
              CUDA_SUCCESS);
  }
  EXPECT_EQ(cu::cuCtxSynchronize(), kFailure);
  for (auto& module : modules) EXPECT_EQ(cu::cuModuleUnload(module), CUDA_SUCCESS);
  for (auto& library : libraries) EXPECT_EQ(cu::cuLibraryUnload(library), CUDA_SUCCESS);
}

TEST_F(AsyncErrors, LeaveTheBooksOfMemoryAlone) {
  FailLater();
  // More than there is credit for: the server is asked.
  CUdeviceptr device = 0;
  const std::uint64_t bytes = memory().credit() + (std::uint64_t{32} << 20);
  EXPECT_EQ(cu::cuMemAlloc_v2(&device, bytes), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), kFailure);
  // What the lease is charged with is mapped here, or credit.
  std::uint64_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(memory().Info(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(free_bytes, total_bytes - memory().mapped_bytes());
  FailLater();
  EXPECT_EQ(cu::cuMemFree_v2(device), CUDA_SUCCESS);
  EXPECT_EQ(memory().Find(device), std::nullopt);
  EXPECT_EQ(cu::cuCtxSynchronize(), kFailure);
}

}  // namespace
}  // namespace farwarp::tests
