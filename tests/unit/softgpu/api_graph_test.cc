// Graphs on the software GPU: order, updates, memory, objects. Capture's rules through whole
// programs are in tests/e2e.
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "farwarp/base/deadline.h"
#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using GraphTest = ApiTest;

void Append(void* data) {
  auto* pair = static_cast<std::pair<std::vector<int>*, int>*>(data);
  pair->first->push_back(pair->second);
}

CUgraphNode Host(CUgraph graph, std::vector<CUgraphNode> after,
                 std::pair<std::vector<int>*, int>* what) {
  CUDA_HOST_NODE_PARAMS params{&Append, what};
  CUgraphNode node = nullptr;
  EXPECT_OK(cuGraphAddHostNode(&node, graph, after.data(), after.size(), &params));
  return node;
}

TEST_F(GraphTest, NodesRunInTheOrderOfTheirDependencies) {
  std::vector<int> order;
  std::pair<std::vector<int>*, int> steps[] = {{&order, 0}, {&order, 1}, {&order, 2}};
  CUgraph graph = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  // Made in an order that is not the one in which they run.
  const CUgraphNode last = Host(graph, {}, &steps[2]);
  const CUgraphNode middle = Host(graph, {}, &steps[1]);
  const CUgraphNode first = Host(graph, {}, &steps[0]);
  ASSERT_OK(cuGraphAddDependencies(graph, &first, &middle, 1));
  ASSERT_OK(cuGraphAddDependencies(graph, &middle, &last, 1));
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_OK(cuGraphDestroy(graph));
  CUstream streams[2];
  for (CUstream& stream : streams) ASSERT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  // Launches of one graph follow each other, whatever their streams.
  for (int i = 0; i < 20; ++i) ASSERT_OK(cuGraphLaunch(exec, streams[i % 2]));
  ASSERT_OK(cuCtxSynchronize());
  ASSERT_EQ(order.size(), 60u);
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], static_cast<int>(i % 3));
  EXPECT_OK(cuGraphExecDestroy(exec));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, nullptr));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(graph));
}

TEST_F(GraphTest, KernelNodesKeepTheirParameters) {
  std::atomic<int> sum{0};
  fake::Define("adder", [&](const LaunchRequest& request) {
    int value = 0;
    std::memcpy(&value, request.params.data(), sizeof value);
    sum += value;
    return Fault{};
  });
  int value = 5;
  void* params[] = {&value};
  CUDA_KERNEL_NODE_PARAMS node_params{};
  node_params.func = Kernel("adder", "4");
  node_params.gridDimX = node_params.gridDimY = node_params.gridDimZ = 1;
  node_params.blockDimX = node_params.blockDimY = node_params.blockDimZ = 1;
  node_params.kernelParams = params;
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  ASSERT_OK(cuGraphAddKernelNode_v2(&node, graph, nullptr, 0, &node_params));
  value = 1000;  // Too late for the node.
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  ASSERT_OK(cuGraphExecKernelNodeSetParams_v2(exec, node, &node_params));
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  ASSERT_OK(cuGraphNodeSetEnabled(exec, node, 0));
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  ASSERT_OK(cuCtxSynchronize());
  EXPECT_EQ(sum, 1005);
  node_params.kernelParams = nullptr;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeSetParams_v2(node, &node_params));
  node_params.kernelParams = params;
  node_params.blockDimX = 2000;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeSetParams_v2(node, &node_params));
  EXPECT_OK(cuGraphExecDestroy(exec));
  EXPECT_OK(cuGraphDestroy(graph));
}

TEST_F(GraphTest, ObjectsDieWithTheLastGraphThatHoldsThem) {
  int destroyed = 0;
  CUuserObject object = nullptr;
  ASSERT_OK(cuUserObjectCreate(
      &object, &destroyed, [](void* data) { ++*static_cast<int*>(data); }, 1,
      CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
  CUgraph graph = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  ASSERT_OK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_OK(cuGraphDestroy(graph));
  EXPECT_EQ(destroyed, 0);
  ASSERT_OK(cuGraphExecDestroy(exec));
  EXPECT_EQ(destroyed, 1);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuUserObjectRetain(object, 1));
}

// A launch may still use what an object stands for.
TEST_F(GraphTest, ObjectsOutliveTheLaunchesOfADestroyedGraph) {
  std::atomic<bool> open{false};
  std::atomic<int> destroyed{0};
  CUuserObject object = nullptr;
  ASSERT_OK(cuUserObjectCreate(
      &object, &destroyed, [](void* data) { ++*static_cast<std::atomic<int>*>(data); }, 1,
      CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  const CUDA_HOST_NODE_PARAMS host{
      [](void* data) {
        const Deadline deadline = Deadline::After(std::chrono::seconds(5));
        while (!*static_cast<std::atomic<bool>*>(data) && !deadline.expired()) {
          std::this_thread::yield();
        }
      },
      &open};
  ASSERT_OK(cuGraphAddHostNode(&node, graph, nullptr, 0, &host));
  ASSERT_OK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_OK(cuGraphDestroy(graph));
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  ASSERT_OK(cuGraphExecDestroy(exec));
  EXPECT_EQ(destroyed, 0);
  open = true;
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  while (destroyed == 0 && !deadline.expired()) std::this_thread::yield();
  EXPECT_EQ(destroyed, 1);
  ASSERT_OK(cuCtxSynchronize());
}

// A capture in a context that is destroyed can be ended by nobody, and must not go on.
TEST_F(GraphTest, CapturesEndWithTheirContext) {
  CUcontext before = nullptr, context = nullptr;
  ASSERT_OK(cuCtxGetCurrent(&before));
  ASSERT_OK(cuCtxCreate_v2(&context, 0, 0));
  CUstream stream = nullptr;
  ASSERT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  ASSERT_OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  ASSERT_OK(cuCtxDestroy_v2(context));
  ASSERT_OK(cuCtxSetCurrent(before));
  // While anything is captured, nobody may allocate.
  CUdeviceptr memory = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 64));
  EXPECT_OK(cuMemFree_v2(memory));
}

TEST_F(GraphTest, ForeignNodesAndBadEdgesAreRefused) {
  CUgraph graph = nullptr, other = nullptr;
  CUgraphNode a = nullptr, b = nullptr, foreign = nullptr, none = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  ASSERT_OK(cuGraphCreate(&other, 0));
  ASSERT_OK(cuGraphAddEmptyNode(&a, graph, nullptr, 0));
  ASSERT_OK(cuGraphAddEmptyNode(&b, graph, &a, 1));
  ASSERT_OK(cuGraphAddEmptyNode(&foreign, other, nullptr, 0));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&none, graph, &foreign, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&none, graph, nullptr, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(graph, &a, &b, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(graph, &a, &a, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(graph, &b, &a, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddChildGraphNode(&none, graph, nullptr, 0, nullptr));
  ASSERT_OK(cuGraphDestroyNode(a));
  std::size_t count = 9;
  ASSERT_OK(cuGraphNodeGetDependencies(b, nullptr, &count));
  EXPECT_EQ(count, 0u);
  CUgraphNode list[3] = {a, a, a};
  count = 3;
  ASSERT_OK(cuGraphGetNodes(graph, list, &count));
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(list[0], b);
  EXPECT_EQ(list[1], nullptr);
  EXPECT_OK(cuGraphDestroy(graph));
  EXPECT_OK(cuGraphDestroy(other));
}

TEST_F(GraphTest, WhatIsBeingCapturedIntoStays) {
  CUgraph graph = nullptr, empty = nullptr, child = nullptr, captured = nullptr;
  CUgraphNode node = nullptr;
  CUstream stream = nullptr;
  ASSERT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  ASSERT_OK(cuGraphCreate(&graph, 0));
  ASSERT_OK(cuGraphCreate(&empty, 0));
  ASSERT_OK(cuGraphAddChildGraphNode(&node, graph, nullptr, 0, empty));
  ASSERT_OK(cuGraphChildGraphNodeGetGraph(node, &child));
  ASSERT_OK(cuStreamBeginCaptureToGraph(stream, child, nullptr, nullptr, 0,
                                        CU_STREAM_CAPTURE_MODE_GLOBAL));
  // A child graph goes with its node, and with the graph around it.
  EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, cuGraphDestroyNode(node));
  EXPECT_CU(CUDA_ERROR_ILLEGAL_STATE, cuGraphDestroy(graph));
  ASSERT_OK(cuLaunchHostFunc(stream, [](void*) {}, nullptr));
  ASSERT_OK(cuStreamEndCapture(stream, &captured));
  EXPECT_EQ(captured, child);
  EXPECT_OK(cuGraphDestroy(graph));
  EXPECT_OK(cuGraphDestroy(empty));
  EXPECT_OK(cuStreamDestroy_v2(stream));
}

CUresult MoveInto(CUgraph graph, CUgraph child, CUgraphNode* node) {
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_GRAPH;
  params.graph.graph = child;
  params.graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
  return cuGraphAddNode_v2(node, graph, nullptr, nullptr, 0, &params);
}

TEST_F(GraphTest, GraphsNestNeitherInThemselvesNorWithoutEnd) {
  CUgraph inner = nullptr, outer = nullptr, child = nullptr;
  CUgraphNode node = nullptr, none = nullptr;
  ASSERT_OK(cuGraphCreate(&inner, 0));
  ASSERT_OK(cuGraphCreate(&outer, 0));
  ASSERT_OK(cuGraphAddChildGraphNode(&node, outer, nullptr, 0, inner));
  ASSERT_OK(cuGraphChildGraphNodeGetGraph(node, &child));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, MoveInto(outer, outer, &none));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, MoveInto(child, outer, &none));
  ASSERT_OK(cuGraphDestroy(outer));
  int depth = 1;
  CUresult result = CUDA_SUCCESS;
  while (result == CUDA_SUCCESS && depth < 1000) {
    ASSERT_OK(cuGraphCreate(&outer, 0));
    result = MoveInto(outer, inner, &node);
    if (result != CUDA_SUCCESS) break;
    inner = outer;
    ++depth;
  }
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, result);
  EXPECT_EQ(depth, 64);
  EXPECT_OK(cuGraphDestroy(outer));
  CUgraphExec exec = nullptr;
  EXPECT_OK(cuGraphInstantiateWithFlags(&exec, inner, 0));
  EXPECT_OK(cuGraphExecDestroy(exec));
  EXPECT_OK(cuGraphDestroy(inner));
}

TEST_F(GraphTest, AnExecutableForgetsGraphsThatAreGone) {
  std::vector<int> order;
  std::pair<std::vector<int>*, int> steps[] = {{&order, 0}, {&order, 1}, {&order, 2}};
  CUgraph graphs[3];
  CUgraphNode nodes[3];
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(cuGraphCreate(&graphs[i], 0));
    nodes[i] = Host(graphs[i], {}, &steps[i]);
  }
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graphs[0], 0));
  CUgraphExecUpdateResultInfo info{};
  ASSERT_OK(cuGraphExecUpdate_v2(exec, graphs[1], &info));
  ASSERT_OK(cuGraphDestroy(graphs[1]));
  ASSERT_OK(cuGraphExecUpdate_v2(exec, graphs[2], &info));
  const CUDA_HOST_NODE_PARAMS params{&Append, &steps[0]};
  EXPECT_OK(cuGraphExecHostNodeSetParams(exec, nodes[0], &params));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphExecHostNodeSetParams(exec, nodes[1], &params));
  EXPECT_OK(cuGraphExecHostNodeSetParams(exec, nodes[2], &params));
  EXPECT_OK(cuGraphExecDestroy(exec));
  EXPECT_OK(cuGraphDestroy(graphs[0]));
  EXPECT_OK(cuGraphDestroy(graphs[2]));
}

TEST_F(GraphTest, MemoryOfAGraphGoesWithIt) {
  std::size_t before = 0, during = 0, after = 0, total = 0;
  ASSERT_OK(cuMemGetInfo_v2(&before, &total));
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  params.bytesize = std::size_t{8} << 20;
  CUgraph graph = nullptr;
  CUgraphNode alloc = nullptr, set = nullptr, free = nullptr;
  ASSERT_OK(cuGraphCreate(&graph, 0));
  ASSERT_OK(cuGraphAddMemAllocNode(&alloc, graph, nullptr, 0, &params));
  CUDA_MEMSET_NODE_PARAMS fill{params.dptr, 0, 7, 1, params.bytesize, 1};
  ASSERT_OK(cuGraphAddMemsetNode(&set, graph, &alloc, 1, &fill, context_));
  ASSERT_OK(cuGraphAddMemFreeNode(&free, graph, &set, 1, params.dptr));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemFreeNode(&free, graph, &set, 1, params.dptr));
  CUgraphExec exec = nullptr;
  ASSERT_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_OK(cuMemGetInfo_v2(&during, &total));
  EXPECT_LE(during + params.bytesize, before);
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  ASSERT_OK(cuGraphLaunch(exec, nullptr));
  EXPECT_OK(cuGraphExecDestroy(exec));
  EXPECT_OK(cuGraphDestroy(graph));
  ASSERT_OK(cuCtxSynchronize());
  ASSERT_OK(cuMemGetInfo_v2(&after, &total));
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace farwarp::softgpu
