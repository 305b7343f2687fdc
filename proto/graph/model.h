// The objects of the graph model (farwarp/graph/graphs.h), for its own sources only. All are
// guarded by Graphs::mutex_.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "farwarp/graph/graphs.h"

namespace farwarp::graph {

// Handles are non-canonical addresses, so that using one as a pointer faults at once.
inline constexpr std::uint64_t kTag = 0xF2;
enum Kind : unsigned { kGraph = 1, kNode = 2, kExec = 3, kObject = 4 };

template <typename Handle>
Handle ToHandle(std::uint64_t id) noexcept {
  return reinterpret_cast<Handle>(id);
}
template <typename Handle>
std::uint64_t IdOf(Handle handle) noexcept {
  return reinterpret_cast<std::uint64_t>(handle);
}

struct Node {
  std::uint64_t id = 0;
  std::uint64_t origin = 0;  // The node that this is a copy of.
  Graph* graph = nullptr;
  NodeWork work;
  std::vector<Edge> before;
  std::vector<Edge> behind;
  std::unique_ptr<Graph> child;
  std::vector<void*> parameter_pointers;  // What GetKernel handed out.

  CUgraphNode handle() const noexcept { return ToHandle<CUgraphNode>(id); }
};

struct Graph {
  std::uint64_t id = 0;
  std::uint64_t origin = 0;
  Node* parent = nullptr;  // Of a child graph.
  std::size_t total = 0;   // Nodes, with those of child graphs.
  CaptureState* capture = nullptr;
  std::vector<std::unique_ptr<Node>> nodes;      // In the order of creation.
  std::map<UserObject*, std::uint64_t> objects;  // As Graphs::References.

  CUgraph handle() const noexcept { return ToHandle<CUgraph>(id); }
};

struct Exec {
  std::uint64_t id = 0;
  unsigned long long flags = 0;
  std::unique_ptr<Graph> graph;  // A copy of what was instantiated, with later changes.
  Plan plan;
  std::unordered_map<std::uint64_t, Node*> nodes;         // By the handles the application uses.
  std::unordered_map<const Node*, std::uint32_t> places;  // In the plan.
  std::unique_ptr<Executable> executable;
};

struct UserObject {
  std::uint64_t id = 0;
  void* data = nullptr;
  CUhostFn destroy = nullptr;
  std::uint64_t references = 0;
};

struct CaptureState {
  std::uint64_t id = 0;
  std::unique_ptr<Graph> own;  // Null when capturing into the application's graph.
  Graph* graph = nullptr;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  std::uint64_t origin = 0;  // Key of the stream that began it.
  bool invalid = false;
};

struct Graphs::StreamCapture {
  CaptureState* capture = nullptr;
  StreamInfo stream;
  CUstream handle = nullptr;
  std::vector<Edge> after;
  std::vector<CUgraphNode> told_nodes;  // What GetCaptureInfo handed out.
  std::vector<CUgraphEdgeData> told_data;
};

inline bool IsPlain(const CUgraphEdgeData& data) noexcept {
  return data.from_port == 0 && data.to_port == 0 && data.type == 0;
}
inline bool SameData(const CUgraphEdgeData& a, const CUgraphEdgeData& b) noexcept {
  return a.from_port == b.from_port && a.to_port == b.to_port && a.type == b.type;
}

// The parameters of one kind of node, out of those of any.
CUDA_KERNEL_NODE_PARAMS KernelOf(const CUgraphNodeParams& params);
CUDA_MEMSET_NODE_PARAMS FillOf(const CUgraphNodeParams& params);

// Makes an edge unless it exists.
bool Connect(Node* from, Node* to, const CUgraphEdgeData& data);
// The nodes of a graph so that each comes behind those it depends on; false if there is a cycle.
bool InOrder(const Graph& graph, std::vector<Node*>* order);

}  // namespace farwarp::graph
