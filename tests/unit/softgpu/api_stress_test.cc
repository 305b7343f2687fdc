// Many threads use streams and events of one context at once; for the thread sanitizer above all.
#include <cstring>
#include <vector>

#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using StressTest = ApiTest;

TEST_F(StressTest, StreamsEventsAndCopiesFromManyThreads) {
  constexpr int kThreads = 4, kRounds = 40, kSteps = 8;
  fake::Define("add", [](const LaunchRequest& request) {
    std::uint64_t address;
    std::memcpy(&address, request.params.data(), sizeof address);
    // Plain on purpose: only the order of the streams keeps this from being a race.
    ++*reinterpret_cast<std::uint32_t*>(address);
    return Fault{};
  });
  CUfunction add = Kernel("add", "8");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      EXPECT_OK(cuCtxSetCurrent(context_));
      for (int round = 0; round < kRounds; ++round) {
        CUstream a, b;
        CUevent event;
        CUdeviceptr memory;
        std::uint32_t got = 0;
        EXPECT_OK(cuStreamCreate(&a, round % 2 == 0 ? CU_STREAM_NON_BLOCKING : 0));
        EXPECT_OK(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
        EXPECT_OK(cuEventCreate(&event, 0));
        EXPECT_OK(cuMemAlloc_v2(&memory, 4096));
        EXPECT_OK(cuMemsetD32Async(memory, 0, 1024, a));
        void* params[] = {&memory};
        for (int step = 0; step < kSteps; ++step) {
          EXPECT_OK(Launch(add, step % 2 == 0 ? a : b, params));
          EXPECT_OK(cuEventRecord(event, step % 2 == 0 ? a : b));
          EXPECT_OK(cuStreamWaitEvent(step % 2 == 0 ? b : a, event, 0));
        }
        const bool legacy = round % 4 == 1;  // Then a is a blocking stream.
        if (legacy) EXPECT_OK(Launch(add, nullptr, params));
        EXPECT_OK(cuMemcpyDtoHAsync_v2(&got, memory, sizeof got, a));
        EXPECT_EQ(got, static_cast<std::uint32_t>(kSteps + legacy));
        EXPECT_OK(cuEventSynchronize(event));
        EXPECT_OK(cuStreamDestroy_v2(a));
        EXPECT_OK(cuStreamDestroy_v2(b));
        EXPECT_OK(cuEventDestroy_v2(event));
        EXPECT_OK(cuMemFree_v2(memory));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  size_t free = 0, total = 0;
  EXPECT_OK(cuMemGetInfo_v2(&free, &total));
  EXPECT_EQ(free, total);
}

}  // namespace
}  // namespace farwarp::softgpu
