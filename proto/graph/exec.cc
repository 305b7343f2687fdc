// Executable graphs: a copy of a graph taken apart into a plan, its updates and launches.
#include <algorithm>
#include <utility>

#include "farwarp/graph/graphs.h"
#include "proto/graph/model.h"

namespace farwarp::graph {
namespace {

constexpr unsigned long long kFlags =
    CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
    CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;

bool Cooperative(const NodeWork& work) {
  for (const CUlaunchAttribute& attribute : work.kernel.attributes) {
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE) return attribute.value.cooperative != 0;
  }
  return false;
}

CUgraphExecUpdateResult CompareNodes(const Node& a, const Node& b) {
  if (a.work.type != b.work.type) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
  if (a.work.type == CU_GRAPH_NODE_TYPE_KERNEL) {
    if (a.work.context != b.work.context) {
      return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
    }
    if (Cooperative(a.work) != Cooperative(b.work)) {
      return CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED;
    }
  }
  if (a.work.type == CU_GRAPH_NODE_TYPE_MEMCPY &&
      (a.work.copy.srcMemoryType != b.work.copy.srcMemoryType ||
       a.work.copy.dstMemoryType != b.work.copy.dstMemoryType)) {
    return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  if (a.work.memory != nullptr || b.work.memory != nullptr) {
    return a.work.memory == b.work.memory ? CU_GRAPH_EXEC_UPDATE_SUCCESS
                                          : CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
  }
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

}  // namespace

CUresult Graphs::Flatten(const Graph& graph, const std::vector<std::uint32_t>& after, Exec* exec,
                         std::vector<std::uint32_t>* ends) {
  std::vector<Node*> order;
  if (!InOrder(graph, &order)) return CUDA_ERROR_INVALID_VALUE;
  ends->clear();
  for (Node* node : order) {
    PlanNode plan;
    for (const Edge& edge : node->before) plan.after.push_back(exec->places.at(edge.node));
    if (node->before.empty()) plan.after = after;
    if (node->child != nullptr) {
      // The child's nodes come behind what the node depends on; the node itself waits for them.
      std::vector<std::uint32_t> inner;
      const CUresult result = Flatten(*node->child, plan.after, exec, &inner);
      if (result != CUDA_SUCCESS) return result;
      if (!inner.empty()) plan.after = std::move(inner);
    } else {
      plan.work = node->work;
    }
    if (exec->plan.size() >= kMaxNodes) return CUDA_ERROR_OUT_OF_MEMORY;
    const auto place = static_cast<std::uint32_t>(exec->plan.size());
    exec->places[node] = place;
    if (node->origin != 0) exec->nodes[node->origin] = node;
    if (node->behind.empty()) ends->push_back(place);
    exec->plan.push_back(std::move(plan));
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::Replan(Exec* exec) {
  exec->plan.clear();
  exec->places.clear();
  std::vector<std::uint32_t> ends;
  return Flatten(*exec->graph, {}, exec, &ends);
}

CUresult Graphs::TakeGraph(const Graph& graph, Exec* exec) {
  const CUresult result = CopyGraph(graph, 0, &exec->graph);
  return result != CUDA_SUCCESS ? result : Replan(exec);
}

CUresult Graphs::Instantiate(CUgraphExec* out, CUgraph handle,
                             CUDA_GRAPH_INSTANTIATE_PARAMS* params, bool per_thread) {
  if (out == nullptr || params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  params->hErrNode_out = nullptr;
  params->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
  if ((params->flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
    params->result_out = CUDA_GRAPH_INSTANTIATE_NODE_OPERATION_NOT_SUPPORTED;
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(handle);
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (graph->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  auto exec = std::make_unique<Exec>();
  exec->id = NewId(kExec);
  exec->flags = params->flags;
  CUresult result = TakeGraph(*graph, exec.get());
  if (result == CUDA_ERROR_INVALID_VALUE) {
    params->result_out = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
  }
  if (result == CUDA_SUCCESS) {
    result = backend_.Instantiate(exec->plan, exec->flags, &exec->executable);
  }
  if (result == CUDA_SUCCESS && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0) {
    result = exec->executable->Upload(params->hUploadStream, per_thread);
  }
  if (result != CUDA_SUCCESS) {
    Orphans none;  // The graph still refers to every object.
    if (exec->graph != nullptr) Forget(*exec->graph, &none);
    return result;
  }
  params->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  *out = ToHandle<CUgraphExec>(exec->id);
  execs_[exec->id] = std::move(exec);
  return CUDA_SUCCESS;
}

CUresult Graphs::DestroyExec(CUgraphExec handle) {
  Orphans orphans;
  {
    const MutexLock lock(mutex_);
    Exec* exec = FindExec(handle);
    if (exec == nullptr) return CUDA_ERROR_INVALID_VALUE;
    // Launches under way may still use what the objects stand for.
    References references;
    TakeReferences(*exec->graph, &references);
    if (!references.empty() &&
        !exec->executable->AfterLaunches([this, references] { Release(references); })) {
      for (const auto& [object, count] : references) Unreference(object, count, &orphans);
    }
    Forget(*exec->graph, &orphans);
    execs_.erase(IdOf(handle));
  }
  Bury(std::move(orphans));
  return CUDA_SUCCESS;
}

CUresult Graphs::ExecFlags(CUgraphExec handle, cuuint64_t* flags) {
  const MutexLock lock(mutex_);
  const Exec* exec = FindExec(handle);
  if (exec == nullptr || flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // Uploading is done; only what still matters is told.
  *flags = exec->flags & ~static_cast<cuuint64_t>(CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD);
  return CUDA_SUCCESS;
}

// Nodes are paired by the order in which they were made, which is the same when the same code has
// built or captured both graphs.
CUresult Graphs::Compare(const Graph& old_graph, const Graph& new_graph,
                         CUgraphExecUpdateResultInfo* info) {
  const auto fail = [&](CUgraphExecUpdateResult why, const Node* node, const Node* from) {
    info->result = why;
    info->errorNode = node == nullptr ? nullptr : node->handle();
    info->errorFromNode = from == nullptr ? nullptr : from->handle();
    return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  };
  if (old_graph.nodes.size() != new_graph.nodes.size()) {
    return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr, nullptr);
  }
  std::unordered_map<const Node*, const Node*> partners;
  for (std::size_t i = 0; i < old_graph.nodes.size(); ++i) {
    partners[new_graph.nodes[i].get()] = old_graph.nodes[i].get();
  }
  for (std::size_t i = 0; i < old_graph.nodes.size(); ++i) {
    const Node& before = *old_graph.nodes[i];
    const Node& now = *new_graph.nodes[i];
    const CUgraphExecUpdateResult same = CompareNodes(before, now);
    if (same != CU_GRAPH_EXEC_UPDATE_SUCCESS) return fail(same, &now, nullptr);
    for (const Edge& edge : now.before) {
      const auto is = [&](const Edge& other) {
        return other.node == partners[edge.node] && SameData(other.data, edge.data);
      };
      if (std::none_of(before.before.begin(), before.before.end(), is)) {
        return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, &now, edge.node);
      }
    }
    if (before.before.size() != now.before.size()) {
      return fail(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, &now, nullptr);
    }
    if (now.child == nullptr) continue;
    const CUresult inner = Compare(*before.child, *now.child, info);
    if (inner != CUDA_SUCCESS) return inner;
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::Apply(Exec* exec, const Graph& old_graph, const Graph& new_graph) {
  for (std::size_t i = 0; i < old_graph.nodes.size(); ++i) {
    Node& node = *old_graph.nodes[i];
    const Node& now = *new_graph.nodes[i];
    // The application may go on with the handles of either graph.
    exec->nodes[now.id] = &node;
    CUresult result = CUDA_SUCCESS;
    if (node.child != nullptr) {
      result = Apply(exec, *node.child, *now.child);
    } else {
      node.work = now.work;
      const std::uint32_t place = exec->places.at(&node);
      exec->plan[place].work = now.work;
      if (node.work.type != CU_GRAPH_NODE_TYPE_EMPTY) {
        result = exec->executable->Update(exec->plan, place);
      }
    }
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

// A program may capture and update for ever.
void Graphs::ForgetGoneNodes(Exec* exec) {
  std::erase_if(exec->nodes,
                [&](const auto& entry) REQUIRES(mutex_) { return nodes_.count(entry.first) == 0; });
}

CUresult Graphs::Update(CUgraphExec exec_handle, CUgraph handle,
                        CUgraphExecUpdateResultInfo* info) {
  CUgraphExecUpdateResultInfo own{};
  if (info == nullptr) info = &own;
  *info = {};
  info->result = CU_GRAPH_EXEC_UPDATE_ERROR;
  const MutexLock lock(mutex_);
  Exec* exec = FindExec(exec_handle);
  const Graph* graph = FindGraph(handle);
  if (exec == nullptr || graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = Compare(*exec->graph, *graph, info);
  if (result != CUDA_SUCCESS) return result;
  ForgetGoneNodes(exec);
  result = Apply(exec, *exec->graph, *graph);
  if (result == CUDA_SUCCESS) info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return result;
}

CUresult Graphs::SetChild(CUgraphExec exec_handle, CUgraphNode handle, CUgraph child_handle) {
  const MutexLock lock(mutex_);
  Exec* exec = FindExec(exec_handle);
  const Graph* child = FindGraph(child_handle);
  if (exec == nullptr || child == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = exec->nodes.find(IdOf(handle));
  if (found == exec->nodes.end() || found->second->child == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUgraphExecUpdateResultInfo info{};
  const Graph& own = *found->second->child;
  if (Compare(own, *child, &info) != CUDA_SUCCESS) return CUDA_ERROR_INVALID_VALUE;
  ForgetGoneNodes(exec);
  return Apply(exec, own, *child);
}

CUresult Graphs::SetEnabled(CUgraphExec exec_handle, CUgraphNode handle, unsigned enabled) {
  const MutexLock lock(mutex_);
  Exec* exec = FindExec(exec_handle);
  if (exec == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = exec->nodes.find(IdOf(handle));
  if (found == exec->nodes.end() || found->second->work.type > CU_GRAPH_NODE_TYPE_MEMSET) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::uint32_t place = exec->places.at(found->second);
  exec->plan[place].enabled = enabled != 0;
  return exec->executable->Update(exec->plan, place);
}

CUresult Graphs::GetEnabled(CUgraphExec exec_handle, CUgraphNode handle, unsigned* enabled) {
  const MutexLock lock(mutex_);
  const Exec* exec = FindExec(exec_handle);
  if (exec == nullptr || enabled == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = exec->nodes.find(IdOf(handle));
  if (found == exec->nodes.end() || found->second->work.type > CU_GRAPH_NODE_TYPE_MEMSET) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *enabled = exec->plan[exec->places.at(found->second)].enabled ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult Graphs::Launch(CUgraphExec handle, CUstream stream, bool per_thread) {
  const MutexLock lock(mutex_);
  Exec* exec = FindExec(handle);
  if (exec == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (capturing()) {
    StreamInfo info;
    StreamCapture* capture = nullptr;
    CUresult result = CUDA_SUCCESS;
    switch (Enter(stream, per_thread, &info, &capture, &result)) {
      case Use::kRefused:
        return result;
      case Use::kCaptured: {
        if (!HasRoom(*capture->capture->graph, 1 + exec->graph->total)) {
          return CUDA_ERROR_OUT_OF_MEMORY;
        }
        std::unique_ptr<Graph> child;
        result = CopyGraph(*exec->graph, 0, &child);
        if (result != CUDA_SUCCESS) return result;
        NodeWork work;
        work.type = CU_GRAPH_NODE_TYPE_GRAPH;
        Node* node = nullptr;
        result = AddCaptured(capture, std::move(work), &node);
        if (result != CUDA_SUCCESS) {
          Orphans none;  // The executable graph still refers to every object.
          Forget(*child, &none);
          return result;
        }
        child->parent = node;
        node->child = std::move(child);
        Count(node->graph, static_cast<std::ptrdiff_t>(node->child->total));
        return CUDA_SUCCESS;
      }
      case Use::kFree:
        break;
    }
  }
  const bool auto_free = (exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0;
  std::uint64_t used = 0;
  for (const PlanNode& node : exec->plan) {
    if (node.work.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) continue;
    // What an earlier launch allocated must have been freed.
    if (node.work.memory->live && !auto_free) return CUDA_ERROR_INVALID_VALUE;
  }
  const CUresult result = exec->executable->Launch(exec->plan, stream, per_thread);
  if (result != CUDA_SUCCESS) return result;
  for (const PlanNode& node : exec->plan) {
    if (node.work.memory == nullptr) continue;
    node.work.memory->live = node.work.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    if (node.work.memory->live) {
      used += node.work.memory->bytes;
      std::uint64_t& high = memory_high_[node.work.memory->device];
      high = std::max(high, used);
    }
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::Upload(CUgraphExec handle, CUstream stream, bool per_thread) {
  const MutexLock lock(mutex_);
  Exec* exec = FindExec(handle);
  return exec == nullptr ? CUDA_ERROR_INVALID_VALUE : exec->executable->Upload(stream, per_thread);
}

}  // namespace farwarp::graph
