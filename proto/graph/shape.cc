// The shape of graphs: lists of nodes and edges, changes of dependencies, a picture in dot.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>

#include "farwarp/graph/graphs.h"
#include "proto/graph/model.h"

namespace farwarp::graph {
namespace {

struct Line {
  const Node* from;
  const Node* to;
  CUgraphEdgeData data;
};

const char* TypeName(CUgraphNodeType type) {
  switch (type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return "KERNEL";
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return "MEMCPY";
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return "MEMSET";
    case CU_GRAPH_NODE_TYPE_HOST:
      return "HOST";
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return "GRAPH";
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return "EMPTY";
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return "WAIT_EVENT";
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return "EVENT_RECORD";
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return "MEM_ALLOC";
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return "MEM_FREE";
    default:
      return "OTHER";
  }
}

void WriteNode(std::FILE* file, const Node& node, bool verbose) {
  const KernelWork& kernel = node.work.kernel;
  std::fprintf(file, "  \"node_%" PRIx64 "\" [shape=box,label=\"%s", node.id & 0xffffffffffff,
               TypeName(node.work.type));
  if (verbose && node.work.type == CU_GRAPH_NODE_TYPE_KERNEL) {
    std::fprintf(file, "\\ngrid %u,%u,%u block %u,%u,%u shared %u", kernel.grid[0], kernel.grid[1],
                 kernel.grid[2], kernel.block[0], kernel.block[1], kernel.block[2],
                 kernel.shared_bytes);
  } else if (verbose && node.work.type == CU_GRAPH_NODE_TYPE_MEMCPY) {
    std::fprintf(file, "\\n%zu x %zu x %zu bytes", node.work.copy.WidthInBytes,
                 node.work.copy.Height, node.work.copy.Depth);
  } else if (verbose && node.work.type == CU_GRAPH_NODE_TYPE_MEMSET) {
    std::fprintf(file, "\\n%zu x %zu elements of %u", node.work.fill.width, node.work.fill.height,
                 node.work.fill.elementSize);
  }
  std::fprintf(file, "\"];\n");
}

void WriteGraph(std::FILE* file, const Graph& graph, bool verbose) {
  const std::uint64_t number = graph.id & 0xffffffffffff;
  std::fprintf(file, "subgraph \"cluster_%" PRIx64 "\" {\n  label=\"graph_%" PRIx64 "\";\n", number,
               number);
  for (const auto& node : graph.nodes) {
    WriteNode(file, *node, verbose);
    if (node->child != nullptr) WriteGraph(file, *node->child, verbose);
  }
  for (const auto& node : graph.nodes) {
    for (const Edge& edge : node->behind) {
      std::fprintf(file, "  \"node_%" PRIx64 "\" -> \"node_%" PRIx64 "\";\n",
                   node->id & 0xffffffffffff, edge.node->id & 0xffffffffffff);
    }
  }
  std::fprintf(file, "}\n");
}

}  // namespace

CUresult Graphs::Type(CUgraphNode handle, CUgraphNodeType* type) {
  const MutexLock lock(mutex_);
  const Node* node = FindNode(handle);
  if (type == nullptr || node == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *type = node->work.type;
  return CUDA_SUCCESS;
}

CUresult Graphs::Nodes(CUgraph handle, CUgraphNode* nodes, std::size_t* count, bool roots) {
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(handle);
  if (count == nullptr || graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::size_t all = 0;
  for (const auto& node : graph->nodes) {
    if (roots && !node->before.empty()) continue;
    if (nodes != nullptr && all < *count) nodes[all] = node->handle();
    ++all;
  }
  if (nodes != nullptr) {
    for (std::size_t i = all; i < *count; ++i) nodes[i] = nullptr;
    all = std::min(all, *count);
  }
  *count = all;
  return CUDA_SUCCESS;
}

CUresult Graphs::Edges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                       std::size_t* count, bool plain) {
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(handle);
  if (count == nullptr || graph == nullptr || (from == nullptr) != (to == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::vector<Line> lines;
  for (const auto& node : graph->nodes) {
    for (const Edge& edge : node->behind) lines.push_back({node.get(), edge.node, edge.data});
  }
  if (data == nullptr && (plain || from != nullptr)) {
    const auto carries = [](const Line& line) { return !IsPlain(line.data); };
    if (std::any_of(lines.begin(), lines.end(), carries)) return CUDA_ERROR_LOSSY_QUERY;
  }
  if (from == nullptr) {
    *count = lines.size();
    return CUDA_SUCCESS;
  }
  for (std::size_t i = 0; i < *count; ++i) {
    from[i] = i < lines.size() ? lines[i].from->handle() : nullptr;
    to[i] = i < lines.size() ? lines[i].to->handle() : nullptr;
    if (data != nullptr) data[i] = i < lines.size() ? lines[i].data : CUgraphEdgeData{};
  }
  *count = std::min(*count, lines.size());
  return CUDA_SUCCESS;
}

CUresult Graphs::Neighbours(CUgraphNode handle, CUgraphNode* nodes, CUgraphEdgeData* data,
                            std::size_t* count, bool before, bool plain) {
  const MutexLock lock(mutex_);
  const Node* node = FindNode(handle);
  if (count == nullptr || node == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::vector<Edge>& edges = before ? node->before : node->behind;
  if (data == nullptr && (plain || nodes != nullptr)) {
    const auto carries = [](const Edge& edge) { return !IsPlain(edge.data); };
    if (std::any_of(edges.begin(), edges.end(), carries)) return CUDA_ERROR_LOSSY_QUERY;
  }
  if (nodes == nullptr) {
    *count = edges.size();
    return CUDA_SUCCESS;
  }
  for (std::size_t i = 0; i < *count; ++i) {
    nodes[i] = i < edges.size() ? edges[i].node->handle() : nullptr;
    if (data != nullptr) data[i] = i < edges.size() ? edges[i].data : CUgraphEdgeData{};
  }
  *count = std::min(*count, edges.size());
  return CUDA_SUCCESS;
}

CUresult Graphs::AddEdges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                          const CUgraphEdgeData* data, std::size_t count) {
  const MutexLock lock(mutex_);
  Graph* graph = FindGraph(handle);
  if (graph == nullptr || (count != 0 && (from == nullptr || to == nullptr))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (std::size_t i = 0; i < count; ++i) {
    Node* first = FindNode(from[i]);
    Node* second = FindNode(to[i]);
    if (first == nullptr || second == nullptr || first == second || first->graph != graph ||
        second->graph != graph) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    for (const Edge& edge : second->before) {
      if (edge.node == first) return CUDA_ERROR_INVALID_VALUE;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    Connect(FindNode(from[i]), FindNode(to[i]), data == nullptr ? CUgraphEdgeData{} : data[i]);
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::RemoveEdges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                             const CUgraphEdgeData* data, std::size_t count) {
  const MutexLock lock(mutex_);
  Graph* graph = FindGraph(handle);
  if (graph == nullptr || (count != 0 && (from == nullptr || to == nullptr))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto wanted = [&](std::size_t i) { return data == nullptr ? CUgraphEdgeData{} : data[i]; };
  for (std::size_t i = 0; i < count; ++i) {
    Node* first = FindNode(from[i]);
    Node* second = FindNode(to[i]);
    if (first == nullptr || second == nullptr || second->graph != graph) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const auto is = [&](const Edge& edge) {
      return edge.node == first && SameData(edge.data, wanted(i));
    };
    if (std::none_of(second->before.begin(), second->before.end(), is)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    Node* first = FindNode(from[i]);
    Node* second = FindNode(to[i]);
    std::erase_if(second->before, [&](const Edge& edge) {
      return edge.node == first && SameData(edge.data, wanted(i));
    });
    std::erase_if(first->behind, [&](const Edge& edge) {
      return edge.node == second && SameData(edge.data, wanted(i));
    });
  }
  return CUDA_SUCCESS;
}

CUresult Graphs::Dot(CUgraph handle, const char* path, unsigned flags) {
  const MutexLock lock(mutex_);
  const Graph* graph = FindGraph(handle);
  if (path == nullptr || graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "w"), &std::fclose);
  if (file == nullptr) return CUDA_ERROR_OPERATING_SYSTEM;
  std::fprintf(file.get(), "digraph dot {\n");
  WriteGraph(file.get(), *graph, flags != 0);
  std::fprintf(file.get(), "}\n");
  return std::ferror(file.get()) != 0 ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
}

}  // namespace farwarp::graph
