#include "farwarp/graph/graphs.h"

#include <algorithm>
#include <utility>

#include "proto/graph/model.h"

namespace farwarp::graph {

bool Connect(Node* from, Node* to, const CUgraphEdgeData& data) {
  for (const Edge& edge : to->before) {
    if (edge.node == from && SameData(edge.data, data)) return false;
  }
  to->before.push_back({from, data});
  from->behind.push_back({to, data});
  return true;
}

bool InOrder(const Graph& graph, std::vector<Node*>* order) {
  std::unordered_map<const Node*, std::size_t> waiting;
  order->clear();
  for (const auto& node : graph.nodes) {
    waiting[node.get()] = node->before.size();
    if (node->before.empty()) order->push_back(node.get());
  }
  for (std::size_t i = 0; i < order->size(); ++i) {
    for (const Edge& edge : (*order)[i]->behind) {
      if (--waiting[edge.node] == 0) order->push_back(edge.node);
    }
  }
  return order->size() == graph.nodes.size();
}

Graphs::Graphs(Backend& backend, std::size_t max_nodes)
    : backend_(backend), max_nodes_(max_nodes) {}
Graphs::~Graphs() = default;

std::uint64_t Graphs::NewId(unsigned kind) {
  return kTag << 56 | std::uint64_t{kind} << 48 | next_id_++;
}

namespace {

template <typename Map, typename Handle>
auto* Lookup(const Map& map, Handle handle) {
  const auto found = map.find(IdOf(handle));
  if constexpr (std::is_pointer_v<typename Map::mapped_type>) {
    return found == map.end() ? nullptr : found->second;
  } else {
    return found == map.end() ? nullptr : found->second.get();
  }
}

}  // namespace

Graph* Graphs::FindGraph(CUgraph graph) const {
  return Lookup(graphs_, graph);
}
Node* Graphs::FindNode(CUgraphNode node) const {
  return Lookup(nodes_, node);
}
Exec* Graphs::FindExec(CUgraphExec exec) const {
  return Lookup(execs_, exec);
}
UserObject* Graphs::FindObject(CUuserObject object) const {
  return Lookup(objects_, object);
}

std::unique_ptr<Graph> Graphs::NewGraph() {
  auto graph = std::make_unique<Graph>();
  graph->id = NewId(kGraph);
  graphs_[graph->id] = graph.get();
  return graph;
}

CUresult Graphs::Create(CUgraph* graph, unsigned flags) {
  if (graph == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  auto made = NewGraph();
  *graph = made->handle();
  roots_[made->id] = std::move(made);
  return CUDA_SUCCESS;
}

// Takes a graph and everything in it out of the tables; the objects stay with their owner.
void Graphs::Forget(Graph& graph, Orphans* orphans) {
  for (const auto& node : graph.nodes) ForgetNode(*node, orphans);
  for (const auto& [object, count] : graph.objects) Unreference(object, count, orphans);
  graph.objects.clear();
  graphs_.erase(graph.id);
}

void Graphs::ForgetNode(Node& node, Orphans* orphans) {
  nodes_.erase(node.id);
  if (node.work.memory != nullptr) orphans->memory.push_back(node.work.memory);
  if (node.child != nullptr) Forget(*node.child, orphans);
}

namespace {

// Whether a stream is being captured into the graph or one of its child graphs.
bool UnderCapture(const Graph& graph) {
  return graph.capture != nullptr ||
         std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const auto& node) {
           return node->child != nullptr && UnderCapture(*node->child);
         });
}

}  // namespace

CUresult Graphs::Destroy(CUgraph handle) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    Graph* graph = FindGraph(handle);
    // Child graphs belong to their nodes, graphs under capture to their streams.
    if (graph == nullptr || graph->parent != nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (UnderCapture(*graph)) return CUDA_ERROR_ILLEGAL_STATE;
    Forget(*graph, &orphans);
    roots_.erase(IdOf(handle));
  }
  Bury(std::move(orphans));
  return CUDA_SUCCESS;
}

bool Graphs::HasRoom(const Graph& graph, std::size_t nodes) const {
  const Graph* whole = &graph;
  while (whole->parent != nullptr) whole = whole->parent->graph;
  return whole->total <= max_nodes_ && nodes <= max_nodes_ - whole->total;
}

void Graphs::Count(Graph* graph, std::ptrdiff_t nodes) {
  for (; graph != nullptr; graph = graph->parent == nullptr ? nullptr : graph->parent->graph) {
    graph->total += static_cast<std::size_t>(nodes);
  }
}

CUresult Graphs::CopyGraph(const Graph& from, int depth, std::unique_ptr<Graph>* to) {
  if (depth > kMaxDepth) return CUDA_ERROR_INVALID_VALUE;
  auto graph = NewGraph();
  graph->origin = from.id;
  graph->total = from.total;
  std::unordered_map<const Node*, Node*> copies;
  CUresult result = CUDA_SUCCESS;
  for (const auto& node : from.nodes) {
    auto copy = std::make_unique<Node>();
    copy->id = NewId(kNode);
    copy->origin = node->id;
    copy->graph = graph.get();
    copy->work = node->work;
    if (node->child != nullptr && result == CUDA_SUCCESS) {
      result = CopyGraph(*node->child, depth + 1, &copy->child);
      if (result == CUDA_SUCCESS) copy->child->parent = copy.get();
    }
    nodes_[copy->id] = copy.get();
    copies[node.get()] = copy.get();
    graph->nodes.push_back(std::move(copy));
  }
  for (const auto& node : from.nodes) {
    Node* copy = copies[node.get()];
    for (const Edge& edge : node->before) copy->before.push_back({copies[edge.node], edge.data});
    for (const Edge& edge : node->behind) copy->behind.push_back({copies[edge.node], edge.data});
  }
  for (const auto& [object, count] : from.objects) {
    object->references += count;
    graph->objects[object] = count;
  }
  if (result != CUDA_SUCCESS) {
    Orphans none;  // The original still refers to every object.
    Forget(*graph, &none);
    return result;
  }
  *to = std::move(graph);
  return CUDA_SUCCESS;
}

CUresult Graphs::Clone(CUgraph* clone, CUgraph handle) {
  if (clone == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(handle);
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // A memory node's address can belong to one graph only.
  for (const auto& node : graph->nodes) {
    if (node->work.memory != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  }
  std::unique_ptr<Graph> made;
  const CUresult result = CopyGraph(*graph, 0, &made);
  if (result != CUDA_SUCCESS) return result;
  *clone = made->handle();
  roots_[made->id] = std::move(made);
  return CUDA_SUCCESS;
}

namespace {

const Node* FindOrigin(const Graph& graph, std::uint64_t origin) {
  for (const auto& node : graph.nodes) {
    if (node->origin == origin) return node.get();
    if (node->child == nullptr) continue;
    if (const Node* inner = FindOrigin(*node->child, origin); inner != nullptr) return inner;
  }
  return nullptr;
}

}  // namespace

CUresult Graphs::FindInClone(CUgraphNode* node, CUgraphNode original, CUgraph clone) {
  if (node == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(clone);
  if (graph == nullptr || FindNode(original) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Node* found = FindOrigin(*graph, IdOf(original));
  if (found == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *node = found->handle();
  return CUDA_SUCCESS;
}

CUresult Graphs::ReadEdges(Graph& graph, const Dependencies& after,
                           std::vector<Edge>* edges) const {
  if (after.count != 0 && after.nodes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < after.count; ++i) {
    Node* node = FindNode(after.nodes[i]);
    if (node == nullptr || node->graph != &graph) return CUDA_ERROR_INVALID_VALUE;
    const CUgraphEdgeData data = after.data == nullptr ? CUgraphEdgeData{} : after.data[i];
    const auto same = [&](const Edge& edge) { return edge.node == node; };
    if (std::any_of(edges->begin(), edges->end(), same)) return CUDA_ERROR_INVALID_VALUE;
    edges->push_back({node, data});
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::Add(Graph* graph, const std::vector<Edge>& after, NodeWork work, Node** node) {
  if (!HasRoom(*graph, 1)) return CUDA_ERROR_OUT_OF_MEMORY;
  auto made = std::make_unique<Node>();
  made->id = NewId(kNode);
  made->graph = graph;
  made->work = std::move(work);
  for (const Edge& edge : after) Connect(edge.node, made.get(), edge.data);
  nodes_[made->id] = made.get();
  *node = made.get();
  graph->nodes.push_back(std::move(made));
  Count(graph, 1);
  return CUDA_SUCCESS;
}

CUresult Graphs::AddTo(CUgraphNode* out, CUgraph handle, const Dependencies& after, NodeWork work) {
  Graph* graph = FindGraph(handle);
  if (out == nullptr || graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::vector<Edge> edges;
  CUresult result = ReadEdges(*graph, after, &edges);
  if (result != CUDA_SUCCESS) return result;
  Node* node = nullptr;
  result = Add(graph, edges, std::move(work), &node);
  if (result == CUDA_SUCCESS) *out = node->handle();
  return result;
}

CUresult Graphs::AddKernel(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                           const CUDA_KERNEL_NODE_PARAMS* params) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadKernel(params, &work);
  return result != CUDA_SUCCESS ? result : AddTo(node, graph, after, std::move(work));
}

CUresult Graphs::AddCopy(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                         const CUDA_MEMCPY3D* params, CUcontext context) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadCopy(params, context, &work);
  return result != CUDA_SUCCESS ? result : AddTo(node, graph, after, std::move(work));
}

CUresult Graphs::AddFill(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                         const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadFill(params, context, &work);
  return result != CUDA_SUCCESS ? result : AddTo(node, graph, after, std::move(work));
}

CUresult Graphs::AddHost(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                         const CUDA_HOST_NODE_PARAMS* params) {
  if (params == nullptr || params->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_HOST;
  work.host = *params;
  return AddTo(node, graph, after, std::move(work));
}

namespace {

int HeightOf(const Graph& graph) {
  int height = 0;
  for (const auto& node : graph.nodes) {
    if (node->child != nullptr) height = std::max(height, HeightOf(*node->child));
  }
  return height + 1;
}

// Whether `child` may move into `graph`: not if that is inside it, nor too deep.
bool Nestable(const Graph& child, const Graph& graph) {
  int depth = 0;
  for (const Graph* outer = &graph; outer != nullptr; ++depth) {
    if (outer == &child) return false;
    outer = outer->parent == nullptr ? nullptr : outer->parent->graph;
  }
  return depth + HeightOf(child) <= kMaxDepth;
}

}  // namespace

CUresult Graphs::AddChild(CUgraphNode* out, CUgraph handle, const Dependencies& after,
                          CUgraph child, CUgraphChildGraphNodeOwnership ownership) {
  if (ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE &&
      ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const MutexLock lock(mutex_);
  const Graph* original = FindGraph(child);
  if (original == nullptr || FindGraph(handle) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const bool move = ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
  if (move && (roots_.count(IdOf(child)) == 0 || !Nestable(*original, *FindGraph(handle)))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Before anything is built: graphs that hold each other twice grow by doubling.
  if (!HasRoom(*FindGraph(handle), 1 + original->total)) return CUDA_ERROR_OUT_OF_MEMORY;
  std::unique_ptr<Graph> own;
  if (!move) {
    const CUresult result = CopyGraph(*original, 0, &own);
    if (result != CUDA_SUCCESS) return result;
  }
  NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_GRAPH;
  const CUresult result = AddTo(out, handle, after, std::move(work));
  if (result != CUDA_SUCCESS) {
    Orphans none;
    if (own != nullptr) Forget(*own, &none);
    return result;
  }
  if (move) {
    own = std::move(roots_[IdOf(child)]);
    roots_.erase(IdOf(child));
  }
  Node* node = FindNode(*out);
  own->parent = node;
  node->child = std::move(own);
  Count(node->graph, static_cast<std::ptrdiff_t>(node->child->total));
  return CUDA_SUCCESS;
}

CUresult Graphs::AddEmpty(CUgraphNode* node, CUgraph graph, const Dependencies& after) {
  const MutexLock lock(mutex_);
  return AddTo(node, graph, after, {});
}

CUresult Graphs::AddEvent(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                          CUevent event, CUgraphNodeType type) {
  const MutexLock lock(mutex_);
  if (!backend_.IsEvent(event)) return CUDA_ERROR_INVALID_VALUE;
  NodeWork work;
  work.type = type;
  work.event = event;
  return AddTo(node, graph, after, std::move(work));
}

CUresult Graphs::AddAlloc(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                          CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  std::shared_ptr<GraphMemory> memory;  // Goes after the lock.
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadAlloc(params, &work);
  if (result != CUDA_SUCCESS) return result;
  memory = work.memory;
  const CUresult added = AddTo(node, graph, after, std::move(work));
  if (added != CUDA_SUCCESS) return added;
  memory_[memory->address] = memory;
  params->dptr = memory->address;
  return CUDA_SUCCESS;
}

CUresult Graphs::AddFree(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                         CUdeviceptr address) {
  const MutexLock lock(mutex_);
  NodeWork work;
  const CUresult result = ReadFree(FindGraph(graph), address, &work);
  return result != CUDA_SUCCESS ? result : AddTo(node, graph, after, std::move(work));
}

CUresult Graphs::AddNode(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                         CUgraphNodeParams* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  switch (params->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: {
      const CUDA_KERNEL_NODE_PARAMS kernel = KernelOf(*params);
      return AddKernel(node, graph, after, &kernel);
    }
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return AddCopy(node, graph, after, &params->memcpy.copyParams, params->memcpy.copyCtx);
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      const CUDA_MEMSET_NODE_PARAMS fill = FillOf(*params);
      return AddFill(node, graph, after, &fill, params->memset.ctx);
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      const CUDA_HOST_NODE_PARAMS host{params->host.fn, params->host.userData};
      return AddHost(node, graph, after, &host);
    }
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return AddChild(node, graph, after, params->graph.graph, params->graph.ownership);
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return AddEmpty(node, graph, after);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return AddEvent(node, graph, after, params->eventWait.event, params->type);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return AddEvent(node, graph, after, params->eventRecord.event, params->type);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
      CUDA_MEM_ALLOC_NODE_PARAMS alloc{params->alloc.poolProps, params->alloc.accessDescs,
                                       params->alloc.accessDescCount, params->alloc.bytesize, 0};
      const CUresult result = AddAlloc(node, graph, after, &alloc);
      if (result == CUDA_SUCCESS) params->alloc.dptr = alloc.dptr;
      return result;
    }
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return AddFree(node, graph, after, params->free.dptr);
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult Graphs::DestroyNode(CUgraphNode handle) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    Node* node = FindNode(handle);
    if (node == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (node->work.memory != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    if (node->graph->capture != nullptr || (node->child != nullptr && UnderCapture(*node->child))) {
      return CUDA_ERROR_ILLEGAL_STATE;
    }
    const auto is_node = [&](const Edge& edge) { return edge.node == node; };
    for (const Edge& edge : node->before) std::erase_if(edge.node->behind, is_node);
    for (const Edge& edge : node->behind) std::erase_if(edge.node->before, is_node);
    ForgetNode(*node, &orphans);
    const std::size_t gone = 1 + (node->child == nullptr ? 0 : node->child->total);
    Count(node->graph, -static_cast<std::ptrdiff_t>(gone));
    auto& all = node->graph->nodes;
    all.erase(
        std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.get() == node; }));
  }
  Bury(std::move(orphans));
  return CUDA_SUCCESS;
}

}  // namespace farwarp::graph
