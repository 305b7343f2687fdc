#include <mutex>
#include <vector>

#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

class StreamTest : public ApiTest {
 protected:
  CUstream Make(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, flags));
    return stream;
  }
};

TEST_F(StreamTest, LaunchesReturnBeforeTheKernelEnds) {
  CUstream stream = Make();
  ASSERT_OK(Launch(Waiter(gate_), stream));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  gate_.Open();
  EXPECT_OK(cuStreamSynchronize(stream));
  EXPECT_OK(cuStreamQuery(stream));
}

TEST_F(StreamTest, StreamsRunAtTheSameTime) {
  CUstream a = Make(), b = Make();
  ASSERT_OK(Launch(Waiter(gate_), a));
  ASSERT_OK(Launch(Waiter(other_gate_), b));
  EXPECT_TRUE(gate_.Entered());
  EXPECT_TRUE(other_gate_.Entered());
  other_gate_.Open();
  EXPECT_OK(cuStreamSynchronize(b));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(a));
}

TEST_F(StreamTest, CopiesOverlapWithKernels) {
  CUstream a = Make(), b = Make();
  CUdeviceptr memory;
  ASSERT_OK(cuMemAlloc_v2(&memory, 1024));
  ASSERT_OK(Launch(Waiter(gate_), a));
  EXPECT_OK(cuMemsetD8Async(memory, 1, 1024, b));
  EXPECT_OK(cuStreamSynchronize(b));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(a));
}

TEST_F(StreamTest, WorkInOneStreamIsOrdered) {
  CUstream stream = Make();
  std::vector<int> order;
  for (int i = 0; i < 50; ++i) {
    const std::string name = "step" + std::to_string(i);
    fake::Define(name, [&order, i](const LaunchRequest&) {
      order.push_back(i);
      return Fault{};
    });
    ASSERT_OK(Launch(Kernel(name), stream));
  }
  ASSERT_OK(cuStreamSynchronize(stream));
  ASSERT_EQ(order.size(), 50u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST_F(StreamTest, LegacyStreamWaitsForBlockingStreamsOnly) {
  CUstream blocking = Make(CU_STREAM_DEFAULT), free = Make();
  ASSERT_OK(Launch(Waiter(gate_), blocking));
  ASSERT_OK(Launch(Kernel("nothing"), nullptr));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
  ASSERT_OK(Launch(Kernel("nothing"), free));
  EXPECT_OK(cuStreamSynchronize(free));
  gate_.Open();
  EXPECT_OK(cuStreamSynchronize(nullptr));
  EXPECT_OK(cuStreamQuery(blocking));
}

TEST_F(StreamTest, BlockingStreamsWaitForTheLegacyStream) {
  CUstream blocking = Make(CU_STREAM_DEFAULT), free = Make();
  ASSERT_OK(Launch(Waiter(gate_), CU_STREAM_LEGACY));
  ASSERT_OK(Launch(Kernel("nothing"), blocking));
  ASSERT_OK(Launch(Kernel("nothing"), CU_STREAM_PER_THREAD));
  ASSERT_OK(Launch(Kernel("nothing"), free));
  EXPECT_OK(cuStreamSynchronize(free));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(blocking));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_PER_THREAD));
  gate_.Open();
  EXPECT_OK(cuCtxSynchronize());
}

TEST_F(StreamTest, EachThreadHasADefaultStream) {
  unsigned long long mine = 0, other = 0, legacy = 0;
  ASSERT_OK(cuStreamGetId_ptsz(nullptr, &mine));
  ASSERT_OK(cuStreamGetId(nullptr, &legacy));
  std::thread([&] {
    EXPECT_OK(cuCtxSetCurrent(context_));
    EXPECT_OK(cuStreamGetId(CU_STREAM_PER_THREAD, &other));
    // Its work outlives the thread and is still waited for.
    EXPECT_OK(Launch(Waiter(gate_), CU_STREAM_PER_THREAD));
  }).join();
  EXPECT_NE(mine, other);
  EXPECT_NE(mine, legacy);
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
  EXPECT_OK(cuStreamQuery(CU_STREAM_PER_THREAD));
  gate_.Open();
  EXPECT_OK(cuCtxSynchronize());
}

TEST_F(StreamTest, DestroyedStreamFinishesItsWork) {
  CUstream stream = Make();
  std::atomic<bool> ran{false};
  fake::Define("late", [&](const LaunchRequest&) {
    ran = true;
    return Fault{};
  });
  ASSERT_OK(Launch(Waiter(gate_), stream));
  ASSERT_OK(Launch(Kernel("late"), stream));
  ASSERT_OK(cuStreamDestroy_v2(stream));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
  EXPECT_FALSE(ran);
  gate_.Open();
  EXPECT_OK(cuCtxSynchronize());
  EXPECT_TRUE(ran);
}

TEST_F(StreamTest, EventsOrderStreams) {
  CUstream a = Make(), b = Make();
  CUevent event;
  ASSERT_OK(cuEventCreate(&event, CU_EVENT_DEFAULT));
  EXPECT_OK(cuEventQuery(event));  // Never recorded.
  ASSERT_OK(Launch(Waiter(gate_), a));
  ASSERT_OK(cuEventRecord(event, a));
  ASSERT_OK(cuStreamWaitEvent(b, event, 0));
  ASSERT_OK(Launch(Kernel("nothing"), b));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuEventQuery(event));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(b));
  // The wait is for the record it has seen, even if the event is gone.
  ASSERT_OK(cuEventDestroy_v2(event));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(b));
  gate_.Open();
  EXPECT_OK(cuStreamSynchronize(b));
}

TEST_F(StreamTest, EventsMeasureTime) {
  CUstream stream = Make();
  CUevent start, end, untimed;
  ASSERT_OK(cuEventCreate(&start, 0));
  ASSERT_OK(cuEventCreate(&end, 0));
  ASSERT_OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
  float ms = -1;
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, start, end));
  ASSERT_OK(cuEventRecord(start, stream));
  ASSERT_OK(Launch(Waiter(gate_), stream));
  ASSERT_OK(cuEventRecord(end, stream));
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&ms, start, end));
  const auto before = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - before < std::chrono::milliseconds(5)) {
    std::this_thread::yield();
  }
  gate_.Open();
  ASSERT_OK(cuEventSynchronize(end));
  EXPECT_OK(cuEventElapsedTime_v2(&ms, start, end));
  EXPECT_GE(ms, 5.0f);
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, start, untimed));
}

TEST_F(StreamTest, HostFunctionsRunInOrderAndMayNotCallCuda) {
  CUstream stream = Make();
  struct State {
    std::atomic<int> result{-1};
    Gate* gate;
  } state;
  state.gate = &gate_;
  ASSERT_OK(cuLaunchHostFunc(
      stream,
      [](void* data) {
        auto* s = static_cast<State*>(data);
        s->gate->Pass();
        s->result = cuCtxSynchronize();
      },
      &state));
  EXPECT_TRUE(gate_.Entered());
  EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  gate_.Open();
  ASSERT_OK(cuStreamSynchronize(stream));
  EXPECT_EQ(state.result, CUDA_ERROR_NOT_PERMITTED);
}

TEST_F(StreamTest, CallbacksSeeErrorsHostFunctionsAreSkipped) {
  CUstream stream = Make();
  fake::Define("fault", [](const LaunchRequest&) {
    Fault fault;
    fault.kind = FaultKind::kIllegalAddress;
    return fault;
  });
  CUfunction function = Kernel("fault");
  ASSERT_OK(Launch(Waiter(gate_), stream));
  ASSERT_OK(Launch(function, stream));
  std::atomic<int> seen{-1}, skipped{0};
  ASSERT_OK(cuStreamAddCallback(
      stream,
      [](CUstream, CUresult result, void* data) { *static_cast<std::atomic<int>*>(data) = result; },
      &seen, 0));
  ASSERT_OK(cuLaunchHostFunc(
      stream, [](void* data) { *static_cast<std::atomic<int>*>(data) = 1; }, &skipped));
  gate_.Open();
  EXPECT_CU(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
  EXPECT_EQ(seen, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(skipped, 0);
}

TEST_F(StreamTest, PrioritiesAreClampedAndTold) {
  int least = 9, greatest = 9, priority = 9;
  ASSERT_OK(cuCtxGetStreamPriorityRange(&least, &greatest));
  EXPECT_LT(greatest, least);
  CUstream stream;
  ASSERT_OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100));
  EXPECT_OK(cuStreamGetPriority(stream, &priority));
  EXPECT_EQ(priority, greatest);
  unsigned flags = 0;
  EXPECT_OK(cuStreamGetFlags(stream, &flags));
  EXPECT_EQ(flags, unsigned{CU_STREAM_NON_BLOCKING});
  CUcontext context = nullptr;
  EXPECT_OK(cuStreamGetCtx(stream, &context));
  EXPECT_EQ(context, context_);
  CUdevice device = -1;
  EXPECT_OK(cuStreamGetDevice(stream, &device));
  EXPECT_EQ(device, 0);
}

TEST_F(StreamTest, StickyErrorStaysInItsContext) {
  CUcontext other;
  ASSERT_OK(cuCtxCreate_v2(&other, 0, 0));
  fake::Define("trap", [](const LaunchRequest&) {
    Fault fault;
    fault.kind = FaultKind::kTrap;
    return fault;
  });
  CUstream stream = Make();
  ASSERT_OK(Launch(Kernel("trap"), stream));
  EXPECT_CU(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
  CUdeviceptr memory;
  EXPECT_CU(CUDA_ERROR_LAUNCH_FAILED, cuMemAlloc_v2(&memory, 16));
  EXPECT_CU(CUDA_ERROR_LAUNCH_FAILED, cuStreamQuery(stream));
  ASSERT_OK(cuCtxSetCurrent(context_));
  EXPECT_OK(cuMemAlloc_v2(&memory, 16));
  EXPECT_OK(cuCtxSynchronize());
  EXPECT_OK(cuCtxDestroy_v2(other));
}

}  // namespace
}  // namespace farwarp::softgpu
