// Contexts while a kernel runs for ever: what may wait for it, and what must not.
#include <vector>

#include "server/softgpu/api/context/context.h"
#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

class BusyTest : public ApiTest {
 protected:
  // Runs body(), which must return though a kernel of another context waits at the gate.
  template <typename Body>
  void WhileAnotherContextIsBusy(Body body) {
    CUcontext other = nullptr;
    ASSERT_OK(cuCtxCreate_v2(&other, 0, 0));
    ASSERT_OK(Launch(Waiter(gate_)));
    ASSERT_TRUE(gate_.Entered());
    ASSERT_OK(cuCtxSetCurrent(context_));
    const auto begin = std::chrono::steady_clock::now();
    body();
    // The gate gives up after ten seconds.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
    gate_.Open();
    ASSERT_OK(cuCtxSetCurrent(other));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(cuCtxDestroy_v2(other));
    ASSERT_OK(cuCtxSetCurrent(context_));
  }
};

TEST_F(BusyTest, FreeingWaitsForNoOtherContext) {
  CUdeviceptr memory = 0, window = 0;
  void* pinned = nullptr;
  ASSERT_OK(cuMemAlloc_v2(&memory, 4096));
  ASSERT_OK(cuMemAllocHost_v2(&pinned, 4096));
  std::vector<char> own(4096);
  ASSERT_OK(cuMemHostRegister_v2(own.data(), own.size(), 0));
  constexpr size_t kBytes = size_t{2} << 20;
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_OK(cuMemCreate(&handle, kBytes, &prop, 0));
  ASSERT_OK(cuMemAddressReserve(&window, kBytes, 0, 0, 0));
  ASSERT_OK(cuMemMap(window, kBytes, 0, handle, 0));
  const CUmemAccessDesc access{prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  ASSERT_OK(cuMemSetAccess(window, kBytes, &access, 1));
  const CUmodule module = Load(".global g 4096");
  WhileAnotherContextIsBusy([&] {
    EXPECT_OK(cuMemFree_v2(memory));
    EXPECT_OK(cuMemFreeHost(pinned));
    EXPECT_OK(cuMemHostUnregister(own.data()));
    EXPECT_OK(cuMemUnmap(window, kBytes));
    EXPECT_OK(cuModuleUnload(module));
  });
  EXPECT_OK(cuMemAddressFree(window, kBytes));
  EXPECT_OK(cuMemRelease(handle));
}

TEST_F(BusyTest, FreeingWaitsForItsOwnContext) {
  CUdeviceptr memory = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 4096));
  ASSERT_OK(Launch(Waiter(gate_)));
  ASSERT_TRUE(gate_.Entered());
  std::atomic<bool> freed{false};
  std::thread freer([&] {
    EXPECT_OK(cuCtxSetCurrent(context_));
    EXPECT_OK(cuMemFree_v2(memory));
    freed = true;
  });
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_FALSE(freed);
  gate_.Open();
  freer.join();
}

// What was queued before its memory was freed by another context ends in an error, not in a crash.
TEST_F(BusyTest, CopiesThatMeetFreedMemoryFail) {
  CUdeviceptr memory = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 4096));
  CUcontext other = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&other, 0, 0));
  ASSERT_OK(Launch(Waiter(gate_)));
  ASSERT_OK(cuMemsetD8Async(memory, 1, 4096, nullptr));
  ASSERT_OK(cuCtxSetCurrent(context_));
  ASSERT_OK(cuMemFree_v2(memory));
  gate_.Open();
  ASSERT_OK(cuCtxSetCurrent(other));
  EXPECT_CU(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
  EXPECT_OK(cuCtxDestroy_v2(other));
  ASSERT_OK(cuCtxSetCurrent(context_));
  EXPECT_OK(cuCtxSynchronize());
}

TEST_F(BusyTest, TheQueueIsBounded) {
  ASSERT_OK(Launch(Waiter(gate_)));
  ASSERT_TRUE(gate_.Entered());
  const CUfunction kernel = Kernel("brief");
  std::atomic<unsigned> launched{1};
  std::atomic<bool> over{false};
  std::thread launcher([&] {
    EXPECT_OK(cuCtxSetCurrent(context_));
    for (unsigned i = 0; i < 2 * kMaxOutstanding; ++i) {
      EXPECT_OK(Launch(kernel));
      ++launched;
    }
    over = true;
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (launched < kMaxOutstanding && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(launched, kMaxOutstanding);
  EXPECT_FALSE(over);
  gate_.Open();
  launcher.join();
  EXPECT_TRUE(over);
  EXPECT_OK(cuCtxSynchronize());
}

TEST_F(BusyTest, HostFunctionsAreBoundedToo) {
  ASSERT_OK(Launch(Waiter(gate_)));
  ASSERT_TRUE(gate_.Entered());
  std::atomic<unsigned> queued{1};
  static std::atomic<unsigned> ran{0};
  ran = 0;
  std::thread launcher([&] {
    EXPECT_OK(cuCtxSetCurrent(context_));
    for (unsigned i = 0; i < kMaxOutstanding + 100; ++i) {
      EXPECT_OK(cuLaunchHostFunc(nullptr, [](void*) { ++ran; }, nullptr));
      ++queued;
    }
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (queued < kMaxOutstanding && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(queued, kMaxOutstanding);
  gate_.Open();
  launcher.join();
  EXPECT_OK(cuCtxSynchronize());
  EXPECT_EQ(ran, kMaxOutstanding + 100);
}

Fault SpinUntilCancelled(const LaunchRequest& request) {
  Fault fault;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!*request.cancel && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  fault.kind = *request.cancel ? FaultKind::kCancelled : FaultKind::kTimeout;
  return fault;
}

// However long it takes: whoever launched work may count on it.
TEST_F(BusyTest, DestroyingAContextWaitsForItsWork) {
  CUcontext doomed = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&doomed, 0, 0));
  static std::atomic<bool> finished{false};
  finished = false;
  fake::Define("long", [this](const LaunchRequest& request) {
    while (!*request.cancel && gate_.Pass() == false) continue;
    finished = !*request.cancel;
    return Fault{};
  });
  ASSERT_OK(Launch(Kernel("long")));
  ASSERT_TRUE(gate_.Entered());
  // A thread that waits for room is released as well.
  std::atomic<unsigned> launched{0};
  const CUfunction brief = Kernel("brief");
  std::thread launcher([&] {
    EXPECT_OK(cuCtxSetCurrent(doomed));
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS) {
      result = Launch(brief);
      ++launched;
    }
  });
  const auto full = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (launched + 1 < kMaxOutstanding && std::chrono::steady_clock::now() < full) {
    std::this_thread::yield();
  }
  std::atomic<bool> destroyed{false};
  std::thread destroyer([&] {
    EXPECT_OK(cuCtxDestroy_v2(doomed));
    EXPECT_TRUE(finished);
    destroyed = true;
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  while (!destroyed && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_FALSE(destroyed);
  gate_.Open();
  destroyer.join();
  launcher.join();
  ASSERT_OK(cuCtxSetCurrent(context_));
  EXPECT_OK(cuCtxSynchronize());
}

TEST_F(BusyTest, ResettingADeviceWaitsForItsWork) {
  CUcontext primary = nullptr;
  ASSERT_OK(cuDevicePrimaryCtxRetain(&primary, 0));
  ASSERT_OK(cuCtxSetCurrent(primary));
  ASSERT_OK(Launch(Waiter(gate_)));
  ASSERT_TRUE(gate_.Entered());
  std::atomic<bool> over{false};
  std::thread resetter([&] {
    EXPECT_OK(cuDevicePrimaryCtxReset_v2(0));
    over = true;
  });
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_FALSE(over);
  gate_.Open();
  resetter.join();
  ASSERT_OK(cuCtxSetCurrent(context_));
}

// A fault takes the whole context with it: no wait may depend on what else ran there.
TEST_F(BusyTest, AFaultStopsWhatElseRunsInItsContext) {
  fake::Define("spins", SpinUntilCancelled);
  fake::Define("faults", [](const LaunchRequest&) {
    Fault fault;
    fault.kind = FaultKind::kIllegalAddress;
    return fault;
  });
  CUcontext doomed = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&doomed, 0, 0));
  CUstream one = nullptr, two = nullptr;
  ASSERT_OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
  ASSERT_OK(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_OK(Launch(Kernel("spins"), one));
  ASSERT_OK(Launch(Kernel("faults"), two));
  EXPECT_CU(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
  EXPECT_OK(cuCtxDestroy_v2(doomed));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  ASSERT_OK(cuCtxSetCurrent(context_));
  EXPECT_OK(cuCtxSynchronize());
}

}  // namespace
}  // namespace farwarp::softgpu
