// What is given to a whole context or by functions that are one line of proto/cuda/driver.toml
// keeps the order and the rules of everything else: events of contexts, operations on memory in
// streams.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <vector>

#include "client/custom.h"
#include "client/driver/stream/callbacks.h"
#include "client/plain.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;
namespace plain = client::plain;

std::atomic<CUevent> of_context{nullptr};  // Recorded last, by the driver's name.
CUresult (*record_of_context)(CUcontext, CUevent) = nullptr;
std::atomic<int> stream_waits{0};  // For that event.
std::atomic<int> context_waits{0};

class Order : public testing::Test {
 protected:
  void SetUp() override {
    // The table is the fake driver's own, not constant; nothing calls it before the commands below.
    auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
    record_of_context = table.cuCtxRecordEvent;
    table.cuCtxRecordEvent = [](CUcontext context, CUevent event) {
      of_context = event;
      return record_of_context(context, event);
    };
    table.cuStreamWaitEvent = [](CUstream, CUevent event, unsigned) {
      if (event == of_context) ++stream_waits;
      return CUDA_SUCCESS;
    };
    table.cuCtxWaitEvent = [](CUcontext, CUevent) { return ++context_waits, CUDA_SUCCESS; };
    table.cuStreamWriteValue32_v2 = [](CUstream, CUdeviceptr, cuuint32_t, unsigned) {
      return CUDA_SUCCESS;
    };
    stream_waits = context_waits = 0;
    of_context = nullptr;
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    CUmodule module = nullptr;
    ASSERT_EQ(cu::cuModuleLoadData(&module, ".version 9.0\n"), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuModuleGetFunction(&wait_, module, "wait"), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  }
  void TearDown() override {
    loop_.driver().OpenGate();
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    cu::cuCtxSetCurrent(nullptr);
  }

  // Work that ends when the gate opens.
  void Busy() {
    ASSERT_EQ(cu::cuLaunchKernel(wait_, 1, 1, 1, 1, 1, 1, 0, stream_, nullptr, nullptr),
              CUDA_SUCCESS);
  }
  void BeginCapture() {
    ASSERT_EQ(cu::cuStreamBeginCapture_v2(stream_, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_SUCCESS);
  }
  // Ends a capture that something above has made invalid.
  void EndInvalid() {
    CUgraph graph = nullptr;
    EXPECT_EQ(cu::cuStreamEndCapture(stream_, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  }

  Loop loop_;
  CUcontext context_ = nullptr;
  CUfunction wait_ = nullptr;
  CUstream stream_ = nullptr;
  CUevent event_ = nullptr;
  CUdeviceptr memory_ = 0;
};

TEST_F(Order, AnEventOfAContextComesAfterItsWork) {
  Busy();
  loop_.TakeRoundTrips();
  ASSERT_EQ(cu::cuCtxRecordEvent(context_, event_), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  EXPECT_EQ(cu::cuEventQuery(event_), CUDA_ERROR_NOT_READY);
  CUstream other = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&other, CU_STREAM_DEFAULT), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamWaitEvent(other, event_, 0), CUDA_SUCCESS);
  static_cast<void>(cu::cuStreamQuery(other));  // Answered behind the wait.
  EXPECT_EQ(stream_waits, 1);
  loop_.driver().OpenGate();
  ASSERT_EQ(cu::cuEventSynchronize(event_), CUDA_SUCCESS);
}

TEST_F(Order, AContextWaitsForWhatWasRecordedOnly) {
  ASSERT_EQ(cu::cuCtxWaitEvent(context_, event_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(context_waits, 0);
  ASSERT_EQ(cu::cuEventRecord(event_, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxWaitEvent(context_, event_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(context_waits, 1);
}

TEST_F(Order, EventsOfContextsAreChecked) {
  CUcontext second = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
  // Recorded in its own context only; waited for in any.
  EXPECT_EQ(cu::cuCtxRecordEvent(second, event_), CUDA_ERROR_INVALID_HANDLE);
  ASSERT_EQ(cu::cuCtxRecordEvent(context_, event_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxWaitEvent(second, event_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxRecordEvent(nullptr, event_), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cu::cuCtxWaitEvent(nullptr, event_), CUDA_ERROR_INVALID_CONTEXT);
  auto* no_event = reinterpret_cast<CUevent>(this);
  EXPECT_EQ(cu::cuCtxRecordEvent(context_, no_event), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cu::cuCtxWaitEvent(context_, no_event), CUDA_ERROR_INVALID_HANDLE);
  ASSERT_EQ(cu::cuCtxDestroy_v2(second), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxWaitEvent(second, event_), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
}

TEST_F(Order, EventsOfContextsEndCaptures) {
  BeginCapture();
  EXPECT_EQ(cu::cuCtxRecordEvent(context_, event_), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EndInvalid();
  BeginCapture();
  EXPECT_EQ(cu::cuCtxWaitEvent(context_, event_), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EndInvalid();
  // An event of the capture ends it even where the context is another.
  CUcontext second = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  BeginCapture();
  ASSERT_EQ(cu::cuEventRecord(event_, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxWaitEvent(second, event_), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EndInvalid();
  ASSERT_EQ(cu::cuCtxDestroy_v2(second), CUDA_SUCCESS);
}

TEST_F(Order, OperationsOnMemoryAreWorkThatFreeingWaitsFor) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 4096), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  ASSERT_EQ(plain::cuStreamWriteValue32_v2(stream_, memory, 1, 0, false), CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  ASSERT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
}

TEST_F(Order, OperationsOnMemoryAreNoNodes) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 4096), CUDA_SUCCESS);
  CUstreamBatchMemOpParams operation{};
  operation.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
  operation.writeValue.address = memory;
  const std::vector<std::function<CUresult(CUstream)>> calls = {
      [&](CUstream s) { return plain::cuStreamWriteValue32(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWriteValue32_v2(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWriteValue64(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWriteValue64_v2(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWaitValue32(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWaitValue32_v2(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWaitValue64(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamWaitValue64_v2(s, memory, 1, 0, false); },
      [&](CUstream s) { return plain::cuStreamBatchMemOp(s, 1, &operation, 0, false); },
      [&](CUstream s) { return plain::cuStreamBatchMemOp_v2(s, 1, &operation, 0, false); },
  };
  for (const auto& call : calls) {
    BeginCapture();
    EXPECT_EQ(call(stream_), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    EndInvalid();
    EXPECT_EQ(call(reinterpret_cast<CUstream>(this)), CUDA_ERROR_INVALID_HANDLE);
  }
}

// Host functions of a failed context are never reached; nothing may wait for them.
TEST_F(Order, HostFunctionsOfAFailedContextAreForgotten) {
  CUmodule module = nullptr;
  CUfunction wait = nullptr, fault = nullptr;
  CUcontext second = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleLoadData(&module, ".version 9.0\n"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&fault, module, "fault"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&wait, module, "wait"), CUDA_SUCCESS);
  for (const CUfunction kernel : {wait, fault}) {
    ASSERT_EQ(cu::cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
              CUDA_SUCCESS);
  }
  const auto nothing = [](void*) {};
  ASSERT_EQ(cu::cuLaunchHostFunc(nullptr, nothing, nullptr), CUDA_SUCCESS);
  loop_.driver().OpenGate();
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  std::vector<int> memory(1024);
  const auto unregister_costs = [&] {
    EXPECT_EQ(cu::cuMemHostRegister_v2(memory.data(), 4096, 0), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuLaunchHostFunc(nullptr, nothing, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemsetD8Async(memory_, 1, 1, stream_), CUDA_SUCCESS);
    loop_.TakeRoundTrips();
    EXPECT_EQ(cu::cuMemHostUnregister(memory.data()), CUDA_SUCCESS);
    return loop_.TakeRoundTrips();
  };
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory_, 64), CUDA_SUCCESS);
  EXPECT_EQ(unregister_costs(), 0u);
  // Nor for those of a context that was destroyed.
  EXPECT_EQ(cu::cuCtxDestroy_v2(second), CUDA_SUCCESS);
  EXPECT_EQ(unregister_costs(), 0u);
  EXPECT_FALSE(loop_.process().callbacks().pending());
}

}  // namespace
}  // namespace farwarp::tests
