// The graph model by itself, on a driver library that has nothing: what it bounds.
#include "farwarp/graph/graphs.h"

#include <gtest/gtest.h>

namespace farwarp::graph {
namespace {

class NoDriver final : public Backend {
 public:
  CUresult CurrentContext(CUcontext*) override { return CUDA_ERROR_INVALID_CONTEXT; }
  CUresult FindStream(CUstream stream, bool, StreamInfo* info) override {
    info->key = reinterpret_cast<std::uint64_t>(stream);
    info->blocking = false;
    return CUDA_SUCCESS;
  }
  bool IsEvent(CUevent) override { return false; }
  CUresult Describe(const KernelWork&, std::vector<ParameterPlace>*, std::size_t*,
                    CUcontext*) override {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  CUresult CheckCopy(const CUDA_MEMCPY3D&) override { return CUDA_ERROR_INVALID_VALUE; }
  CUresult CheckFill(const CUDA_MEMSET_NODE_PARAMS&) override { return CUDA_ERROR_INVALID_VALUE; }
  CUresult Allocate(const CUDA_MEM_ALLOC_NODE_PARAMS&, std::shared_ptr<GraphMemory>*) override {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  bool IsDevice(CUdevice) override { return false; }
  CUresult Instantiate(const Plan&, unsigned long long,
                       std::unique_ptr<Executable>* executable) override {
    *executable = std::make_unique<Nothing>();
    return CUDA_SUCCESS;
  }

 private:
  class Nothing final : public Executable {
   public:
    CUresult Launch(const Plan&, CUstream, bool) override { return CUDA_SUCCESS; }
    CUresult Upload(CUstream, bool) override { return CUDA_SUCCESS; }
    bool AfterLaunches(std::function<void()>) override { return false; }
    CUresult Update(const Plan&, std::uint32_t) override { return CUDA_SUCCESS; }
  };
};

constexpr std::size_t kMost = 100;

class GraphsTest : public testing::Test {
 protected:
  CUgraph New() {
    CUgraph graph = nullptr;
    EXPECT_EQ(graphs_.Create(&graph, 0), CUDA_SUCCESS);
    return graph;
  }
  CUresult AddChild(CUgraph graph, CUgraph child, CUgraphNode* node = nullptr) {
    CUgraphNode added = nullptr;
    return graphs_.AddChild(node != nullptr ? node : &added, graph, {}, child,
                            CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE);
  }
  CUresult AddEmpty(CUgraph graph) {
    CUgraphNode added = nullptr;
    return graphs_.AddEmpty(&added, graph, {});
  }
  // As many empty nodes as there is room for.
  std::size_t Room(CUgraph graph) {
    std::size_t room = 0;
    while (AddEmpty(graph) == CUDA_SUCCESS) ++room;
    return room;
  }

  NoDriver driver_;
  Graphs graphs_{driver_, kMost};
};

TEST_F(GraphsTest, GraphsThatHoldEachOtherTwiceEndBeforeTheyAreBuilt) {
  CUgraph graph = New();
  ASSERT_EQ(AddEmpty(graph), CUDA_SUCCESS);
  CUresult result = CUDA_SUCCESS;
  int levels = 0;
  for (; result == CUDA_SUCCESS && levels < 60; ++levels) {
    CUgraph twice = New();
    result = AddChild(twice, graph);
    if (result == CUDA_SUCCESS) result = AddChild(twice, graph);
    graph = twice;
  }
  EXPECT_EQ(result, CUDA_ERROR_OUT_OF_MEMORY);
  // 1, 4, 10, 22, 46, 94 nodes.
  EXPECT_EQ(levels, 6);
}

TEST_F(GraphsTest, AGraphInItselfDoublesAndEnds) {
  CUgraph graph = New();
  ASSERT_EQ(AddEmpty(graph), CUDA_SUCCESS);
  int times = 0;
  while (AddChild(graph, graph) == CUDA_SUCCESS) ++times;
  EXPECT_EQ(times, 5);  // 1, 3, 7, 15, 31, 63
}

TEST_F(GraphsTest, ExecutableGraphsForgetHandlesThatAreGone) {
  const auto make = [&](CUgraphNode* middle_node) {
    CUgraph inner = New(), middle = New();
    CUgraphNode node = nullptr;
    EXPECT_EQ(AddEmpty(inner), CUDA_SUCCESS);
    EXPECT_EQ(AddChild(middle, inner, &node), CUDA_SUCCESS);
    EXPECT_EQ(graphs_.Destroy(inner), CUDA_SUCCESS);
    if (middle_node != nullptr) *middle_node = node;
    return middle;
  };
  CUgraph graph = New(), inner = New();
  CUgraphNode top = nullptr, gone = nullptr;
  ASSERT_EQ(AddEmpty(inner), CUDA_SUCCESS);
  ASSERT_EQ(AddChild(graph, make(nullptr), &top), CUDA_SUCCESS);
  CUgraphExec exec = nullptr;
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  ASSERT_EQ(graphs_.Instantiate(&exec, graph, &params, false), CUDA_SUCCESS);
  CUgraph first = make(&gone);
  ASSERT_EQ(graphs_.SetChild(exec, top, first), CUDA_SUCCESS);
  ASSERT_EQ(graphs_.SetChild(exec, gone, inner), CUDA_SUCCESS);
  ASSERT_EQ(graphs_.Destroy(first), CUDA_SUCCESS);
  ASSERT_EQ(graphs_.SetChild(exec, top, make(nullptr)), CUDA_SUCCESS);
  EXPECT_EQ(graphs_.SetChild(exec, gone, inner), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(GraphsTest, NodesAreCountedWithThoseOfChildGraphsWhereverTheyAre) {
  CUgraph graph = New(), inner = New(), child = nullptr;
  CUgraphNode node = nullptr;
  ASSERT_EQ(AddEmpty(inner), CUDA_SUCCESS);
  ASSERT_EQ(AddChild(graph, inner, &node), CUDA_SUCCESS);
  ASSERT_EQ(graphs_.GetChild(node, &child), CUDA_SUCCESS);
  EXPECT_EQ(Room(child), kMost - 2);
  EXPECT_EQ(AddEmpty(graph), CUDA_ERROR_OUT_OF_MEMORY);
  // What goes makes room, with all that is in it.
  ASSERT_EQ(graphs_.DestroyNode(node), CUDA_SUCCESS);
  EXPECT_EQ(Room(graph), kMost);
}

TEST_F(GraphsTest, LaunchesUnderCaptureCountToo) {
  CUgraph graph = New();
  ASSERT_EQ(AddEmpty(graph), CUDA_SUCCESS);
  CUstream stream = reinterpret_cast<CUstream>(this);
  for (int i = 0; i < 10; ++i) {
    CUgraphExec exec = nullptr;
    CUDA_GRAPH_INSTANTIATE_PARAMS params{};
    ASSERT_EQ(graphs_.Instantiate(&exec, graph, &params, false), CUDA_SUCCESS);
    ASSERT_EQ(graphs_.BeginCapture(stream, false, nullptr, {}, CU_STREAM_CAPTURE_MODE_RELAXED),
              CUDA_SUCCESS);
    CUresult result = graphs_.Launch(exec, stream, false);
    if (result == CUDA_SUCCESS) result = graphs_.Launch(exec, stream, false);
    ASSERT_EQ(graphs_.EndCapture(stream, false, &graph), CUDA_SUCCESS);
    if (result == CUDA_SUCCESS) continue;
    EXPECT_EQ(result, CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_EQ(i, 5);
    return;
  }
  ADD_FAILURE() << "grows without an end";
}

}  // namespace
}  // namespace farwarp::graph
