// Graphs through client and server: what travels, when, and how often somebody waits.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "farwarp/base/deadline.h"
#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

class RemoteGraph : public SoftLoop {
 protected:
  void SetUp() override {
    SoftLoop::SetUp();
    ASSERT_EQ(cu::cuMemAlloc_v2(&device_, kBytes), CUDA_SUCCESS);
    void* memory = nullptr;
    ASSERT_EQ(cu::cuMemAllocHost_v2(&memory, 2 * kBytes), CUDA_SUCCESS);
    in_ = static_cast<unsigned*>(memory);
    out_ = in_ + kBytes / sizeof(unsigned);
    loop_->TakeRoundTrips();
  }

  static constexpr std::size_t kBytes = std::size_t{3} << 20;
  CUdeviceptr device_ = 0;
  unsigned* in_ = nullptr;
  unsigned* out_ = nullptr;
};

TEST_F(RemoteGraph, BuildingAndLaunchingNeedNoRoundTrip) {
  // Small: what counts is how many there are, and sanitizers watch every word.
  constexpr std::size_t kFill = std::size_t{64} << 10;
  CUgraph graph = nullptr;
  CUgraphNode fill = nullptr, previous = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  CUDA_MEMSET_NODE_PARAMS params{device_, 0, 7, 4, kFill / 4, 1};
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(cu::cuGraphAddMemsetNode(&fill, graph, &previous, i == 0 ? 0 : 1, &params, context_),
              CUDA_SUCCESS);
    previous = fill;
  }
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cu::cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  params.value = 9;
  ASSERT_EQ(cu::cuGraphExecMemsetNodeSetParams(exec, fill, &params, context_), CUDA_SUCCESS);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(out_, device_, kFill, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(loop_->TakeRoundTrips(), 1u);
  EXPECT_EQ(out_[0], 9u);
  EXPECT_EQ(out_[kFill / 4 - 1], 9u);
  EXPECT_EQ(cu::cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
}

TEST_F(RemoteGraph, HostMemoryIsReadWhenTheGraphGetsThere) {
  // A host node writes what the graph then copies to the device and back.
  CUgraph graph = nullptr;
  CUgraphNode host = nullptr, up = nullptr, down = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  const CUDA_HOST_NODE_PARAMS count{[](void* data) { ++*static_cast<unsigned*>(data); },
                                    in_ + kBytes / 4 - 1};
  in_[kBytes / 4 - 1] = 100;
  ASSERT_EQ(cu::cuGraphAddHostNode(&host, graph, nullptr, 0, &count), CUDA_SUCCESS);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = in_;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = device_;
  copy.WidthInBytes = kBytes;
  copy.Height = copy.Depth = 1;
  ASSERT_EQ(cu::cuGraphAddMemcpyNode(&up, graph, &host, 1, &copy, context_), CUDA_SUCCESS);
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = device_;
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = out_;
  ASSERT_EQ(cu::cuGraphAddMemcpyNode(&down, graph, &up, 1, &copy, context_), CUDA_SUCCESS);
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cu::cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  for (unsigned i = 1; i <= 5; ++i) {
    ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
    EXPECT_EQ(out_[kBytes / 4 - 1], 100 + 2 * i);
  }
  EXPECT_EQ(loop_->TakeRoundTrips(), 5u);
  // A destroyed graph finishes what it was launched for.
  ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(out_[kBytes / 4 - 1], 111u);
}

TEST_F(RemoteGraph, AChangeThatIsRefusedLeavesNothingBehind) {
  CUgraph graph = nullptr;
  CUgraphNode down = nullptr, fill = nullptr, last = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = device_;
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = out_;
  copy.WidthInBytes = 4;
  copy.Height = copy.Depth = 1;
  ASSERT_EQ(cu::cuGraphAddMemcpyNode(&down, graph, nullptr, 0, &copy, context_), CUDA_SUCCESS);
  // More nodes than one command holds. Nothing orders them, so each has a word of its own.
  for (unsigned i = 1; i <= 20'000; ++i) {
    const CUDA_MEMSET_NODE_PARAMS params{device_ + 4 * i, 0, 7, 4, 1, 1};
    ASSERT_EQ(cu::cuGraphAddMemsetNode(&fill, graph, nullptr, 0, &params, context_), CUDA_SUCCESS);
  }
  ASSERT_EQ(cu::cuGraphAddMemcpyNode(&last, graph, nullptr, 0, &copy, context_), CUDA_SUCCESS);
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cu::cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  // So many separate rows do not travel.
  CUDA_MEMCPY3D rows = copy;
  rows.WidthInBytes = 1;
  rows.dstPitch = rows.srcPitch = 2;
  rows.Height = 70'000;
  ASSERT_EQ(cu::cuGraphExecMemcpyNodeSetParams(exec, last, &rows, context_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_ERROR_NOT_SUPPORTED);
  ASSERT_EQ(cu::cuGraphExecMemcpyNodeSetParams(exec, last, &copy, context_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
}

// A host function may wait for what the program does after its copies.
TEST_F(RemoteGraph, CopiesFromPageLockedMemoryDoNotWaitForHostFunctions) {
  struct Gate {
    std::atomic<bool> open{false};
    unsigned* word = nullptr;
    bool in_time = false;
    static void Pass(void* data) {
      auto* gate = static_cast<Gate*>(data);
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (!gate->open && std::chrono::steady_clock::now() < until) std::this_thread::yield();
      gate->in_time = gate->open;
      ++*gate->word;
    }
  } gate;
  for (CUstream stream : {stream_, CUstream{nullptr}}) {
    gate.open = false;
    gate.word = in_ + kBytes / 4 - 1;
    *gate.word = 41;
    in_[0] = 7;
    ASSERT_EQ(cu::cuLaunchHostFunc(stream, &Gate::Pass, &gate), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(device_, in_, kBytes, stream), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(out_, device_, kBytes, stream), CUDA_SUCCESS);
    EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
    gate.open = true;
    ASSERT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
    EXPECT_TRUE(gate.in_time);
    EXPECT_EQ(out_[0], 7u);
    EXPECT_EQ(out_[kBytes / 4 - 1], 42u);
    loop_->TakeRoundTrips();
  }
}

TEST_F(RemoteGraph, PageLockedMemoryIsNotFreedBeforeItIsRead) {
  struct Gate {
    std::atomic<bool> open{false};
    static void Pass(void* data) {
      auto* gate = static_cast<Gate*>(data);
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (!gate->open && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    }
  } gate;
  void* source = nullptr;
  ASSERT_EQ(cu::cuMemAllocHost_v2(&source, kBytes), CUDA_SUCCESS);
  std::memset(source, 3, kBytes);
  ASSERT_EQ(cu::cuLaunchHostFunc(stream_, &Gate::Pass, &gate), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(device_, source, kBytes, stream_), CUDA_SUCCESS);
  gate.open = true;
  ASSERT_EQ(cu::cuMemFreeHost(source), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(out_, device_, kBytes, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(out_[kBytes / 4 - 1], 0x03030303u);
}

TEST_F(RemoteGraph, HostFunctionsKeepTheOrderOfTheirStream) {
  // device → host, changed by a host function, host → device, and back.
  ASSERT_EQ(cu::cuMemsetD32Async(device_, 20, 1, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(in_, device_, 4, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLaunchHostFunc(
                stream_, [](void* data) { ++*static_cast<unsigned*>(data); }, in_),
            CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(device_, in_, 4, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(out_, device_, 4, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(in_[0], 21u);
  EXPECT_EQ(out_[0], 21u);
}

TEST_F(RemoteGraph, CapturesEndWithTheirStreams) {
  CUdeviceptr address = 0;
  ASSERT_EQ(cu::cuStreamBeginCapture_v2(stream_, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxReset(0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAlloc_v2(&address, kBytes), CUDA_SUCCESS);
  // A thread that ends takes its own default stream along.
  std::thread([&] {
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamBeginCapture_v2(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_GLOBAL),
              CUDA_SUCCESS);
  }).join();
  EXPECT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
}

TEST_F(RemoteGraph, AnAllocationNodeLosesItsAddressWithTheContext) {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  params.bytesize = kBytes;
  ASSERT_EQ(cu::cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxReset(0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  // One of these lies there now, and is freed as any other.
  std::vector<CUdeviceptr> addresses(4);
  for (CUdeviceptr& address : addresses) {
    ASSERT_EQ(cu::cuMemAlloc_v2(&address, kBytes), CUDA_SUCCESS);
  }
  ASSERT_NE(std::find(addresses.begin(), addresses.end(), params.dptr), addresses.end());
  for (const CUdeviceptr address : addresses) EXPECT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
}

TEST_F(RemoteGraph, MisshapenMemoryIsRefusedHere) {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  CUDA_MEMSET_NODE_PARAMS params{device_, 0, 7, 4, kBytes / 4 + 1, 1};
  EXPECT_EQ(cu::cuGraphAddMemsetNode(&node, graph, nullptr, 0, &params, context_),
            CUDA_ERROR_INVALID_VALUE);
  params = {device_ + 1, 0, 7, 4, 1, 1};
  EXPECT_EQ(cu::cuGraphAddMemsetNode(&node, graph, nullptr, 0, &params, context_),
            CUDA_ERROR_INVALID_VALUE);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = device_;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = device_ + kBytes - 8;
  copy.WidthInBytes = 16;
  copy.Height = copy.Depth = 1;
  EXPECT_EQ(cu::cuGraphAddMemcpyNode(&node, graph, nullptr, 0, &copy, context_),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
}

// Blocks a stream until it is opened, or for a while, which `expired` tells.
struct Barrier {
  std::atomic<bool> open{false};
  std::atomic<bool> expired{false};
  static void Wait(void* data) {
    auto& barrier = *static_cast<Barrier*>(data);
    const Deadline deadline = Deadline::After(std::chrono::seconds(5));
    while (!barrier.open && !deadline.expired()) std::this_thread::yield();
    if (!barrier.open) barrier.expired = true;
  }
};

// A launch may still use what an object stands for.
TEST_F(RemoteGraph, ObjectsOutliveTheLaunchesOfADestroyedGraph) {
  Barrier barrier;
  std::atomic<int> destroyed{0};
  CUuserObject object = nullptr;
  ASSERT_EQ(cu::cuUserObjectCreate(
                &object, &destroyed, [](void* data) { ++*static_cast<std::atomic<int>*>(data); }, 1,
                CU_USER_OBJECT_NO_DESTRUCTOR_SYNC),
            CUDA_SUCCESS);
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  const CUDA_HOST_NODE_PARAMS host{&Barrier::Wait, &barrier};
  ASSERT_EQ(cu::cuGraphAddHostNode(&node, graph, nullptr, 0, &host), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE), CUDA_SUCCESS);
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cu::cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(destroyed, 0);
  barrier.open = true;
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  while (destroyed == 0 && !deadline.expired()) std::this_thread::yield();
  EXPECT_EQ(destroyed, 1);
  EXPECT_FALSE(barrier.expired);
}

// Memory of a graph goes when the device is done with it; that wait is one thread's.
TEST_F(RemoteGraph, MemoryThatGoesHoldsUpNobodyElse) {
  Barrier barrier;
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_EQ(cu::cuGraphCreate(&graph, 0), CUDA_SUCCESS);
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  params.bytesize = 4096;
  ASSERT_EQ(cu::cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLaunchHostFunc(stream_, &Barrier::Wait, &barrier), CUDA_SUCCESS);
  std::thread destroyer([&] {
    EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuGraphDestroy(graph), CUDA_SUCCESS);
    cu::cuCtxSetCurrent(nullptr);
  });
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  std::size_t count = 0;
  while (cu::cuGraphGetNodes(graph, nullptr, &count) == CUDA_SUCCESS && !deadline.expired()) {
    std::this_thread::yield();
  }
  // It is gone for everybody while its memory waits.
  CUgraph other = nullptr;
  EXPECT_EQ(cu::cuGraphCreate(&other, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuGraphDestroy(other), CUDA_SUCCESS);
  EXPECT_FALSE(barrier.expired);
  barrier.open = true;
  destroyer.join();
}

}  // namespace
}  // namespace farwarp::tests
