// Graphs: CUDA graphs and stream capture, as far as they are the same whoever runs the work: the
// shape of graphs, their nodes' parameters, cloning, comparison, capture with its rules, executable
// graphs as plans. The client library and the software GPU both answer cuGraph* with it and differ
// in their Backend (work.h), so a program sees the same rules with and without a network.
//
// Capture: functions that put work into a stream ask capturing() first, which costs one relaxed
// load; if it is true they offer their work to Capture, and go on only if that declines.
//
// Ownership: holds all graphs, nodes and executables; handles are numbers that are never reused.
// Threads: thread-safe, one lock. Destructors of user objects run without the lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/graph/work.h"

namespace farwarp::graph {

struct Graph;
struct Node;
struct Exec;
struct CaptureState;
struct UserObject;

struct Edge {
  Node* node = nullptr;
  CUgraphEdgeData data{};
};

// The most nodes that one graph may have, child graphs included.
inline constexpr std::size_t kMaxNodes = std::size_t{1} << 20;
// How deep child graphs may be nested.
inline constexpr int kMaxDepth = 64;

// Dependencies of a node to be made: `data` may be null.
struct Dependencies {
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* data = nullptr;
  std::size_t count = 0;
};

class Graphs {
 public:
  explicit Graphs(Backend& backend, std::size_t max_nodes = kMaxNodes);
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // Graphs and nodes.
  CUresult Create(CUgraph* graph, unsigned flags) EXCLUDES(mutex_);
  CUresult Destroy(CUgraph graph) EXCLUDES(mutex_);
  CUresult Clone(CUgraph* clone, CUgraph graph) EXCLUDES(mutex_);
  CUresult FindInClone(CUgraphNode* node, CUgraphNode original, CUgraph clone) EXCLUDES(mutex_);
  CUresult AddKernel(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                     const CUDA_KERNEL_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult AddCopy(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                   const CUDA_MEMCPY3D* params, CUcontext context) EXCLUDES(mutex_);
  CUresult AddFill(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                   const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context) EXCLUDES(mutex_);
  CUresult AddHost(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                   const CUDA_HOST_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult AddChild(CUgraphNode* node, CUgraph graph, const Dependencies& after, CUgraph child,
                    CUgraphChildGraphNodeOwnership ownership) EXCLUDES(mutex_);
  CUresult AddEmpty(CUgraphNode* node, CUgraph graph, const Dependencies& after) EXCLUDES(mutex_);
  CUresult AddEvent(CUgraphNode* node, CUgraph graph, const Dependencies& after, CUevent event,
                    CUgraphNodeType type) EXCLUDES(mutex_);
  CUresult AddAlloc(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                    CUDA_MEM_ALLOC_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult AddFree(CUgraphNode* node, CUgraph graph, const Dependencies& after, CUdeviceptr address)
      EXCLUDES(mutex_);
  CUresult AddNode(CUgraphNode* node, CUgraph graph, const Dependencies& after,
                   CUgraphNodeParams* params) EXCLUDES(mutex_);
  CUresult DestroyNode(CUgraphNode node) EXCLUDES(mutex_);

  // Parameters. The getters' pointers live as long as the node, or until it is changed.
  CUresult GetKernel(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult GetCopy(CUgraphNode node, CUDA_MEMCPY3D* params) EXCLUDES(mutex_);
  CUresult GetFill(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult GetHost(CUgraphNode node, CUDA_HOST_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult GetChild(CUgraphNode node, CUgraph* child) EXCLUDES(mutex_);
  CUresult GetEvent(CUgraphNode node, CUevent* event, CUgraphNodeType type) EXCLUDES(mutex_);
  CUresult GetAlloc(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* params) EXCLUDES(mutex_);
  CUresult GetFree(CUgraphNode node, CUdeviceptr* address) EXCLUDES(mutex_);
  // In a graph (`exec` null) or in an executable one.
  CUresult SetKernel(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS* params)
      EXCLUDES(mutex_);
  CUresult SetCopy(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D* params,
                   CUcontext context) EXCLUDES(mutex_);
  CUresult SetFill(CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* params,
                   CUcontext context) EXCLUDES(mutex_);
  CUresult SetHost(CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params)
      EXCLUDES(mutex_);
  CUresult SetEvent(CUgraphExec exec, CUgraphNode node, CUevent event, CUgraphNodeType type)
      EXCLUDES(mutex_);
  CUresult SetChild(CUgraphExec exec, CUgraphNode node, CUgraph child) EXCLUDES(mutex_);
  CUresult SetNode(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* params) EXCLUDES(mutex_);
  CUresult CopyAttributes(CUgraphNode to, CUgraphNode from) EXCLUDES(mutex_);
  CUresult GetAttribute(CUgraphNode node, CUkernelNodeAttrID id, CUkernelNodeAttrValue* value)
      EXCLUDES(mutex_);
  CUresult SetAttribute(CUgraphNode node, CUkernelNodeAttrID id, const CUkernelNodeAttrValue* value)
      EXCLUDES(mutex_);

  // Shape. Lists follow CUDA's convention: a null list asks for the count; a list longer than what
  // there is, is filled up with nulls, and the count becomes what there is.
  CUresult Type(CUgraphNode node, CUgraphNodeType* type) EXCLUDES(mutex_);
  CUresult Nodes(CUgraph graph, CUgraphNode* nodes, std::size_t* count, bool roots)
      EXCLUDES(mutex_);
  // With `plain`, edges that carry data are an error instead of losing it.
  CUresult Edges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                 std::size_t* count, bool plain) EXCLUDES(mutex_);
  CUresult Neighbours(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data,
                      std::size_t* count, bool before, bool plain) EXCLUDES(mutex_);
  CUresult AddEdges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                    const CUgraphEdgeData* data, std::size_t count) EXCLUDES(mutex_);
  CUresult RemoveEdges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                       const CUgraphEdgeData* data, std::size_t count) EXCLUDES(mutex_);
  CUresult Dot(CUgraph graph, const char* path, unsigned flags) EXCLUDES(mutex_);

  // Executable graphs.
  CUresult Instantiate(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params,
                       bool per_thread) EXCLUDES(mutex_);
  CUresult DestroyExec(CUgraphExec exec) EXCLUDES(mutex_);
  CUresult ExecFlags(CUgraphExec exec, cuuint64_t* flags) EXCLUDES(mutex_);
  CUresult Update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info)
      EXCLUDES(mutex_);
  CUresult SetEnabled(CUgraphExec exec, CUgraphNode node, unsigned enabled) EXCLUDES(mutex_);
  CUresult GetEnabled(CUgraphExec exec, CUgraphNode node, unsigned* enabled) EXCLUDES(mutex_);
  CUresult Launch(CUgraphExec exec, CUstream stream, bool per_thread) EXCLUDES(mutex_);
  CUresult Upload(CUgraphExec exec, CUstream stream, bool per_thread) EXCLUDES(mutex_);

  // Memory of allocation nodes, and objects whose life is tied to graphs.
  CUresult MemoryAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value)
      EXCLUDES(mutex_);
  CUresult SetMemoryAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value)
      EXCLUDES(mutex_);
  CUresult TrimMemory(CUdevice device) EXCLUDES(mutex_);
  // True if memory of a graph begins at `address`: then it is free until a launch allocates it
  // again, and `result` says whether it was not free already.
  bool Free(CUdeviceptr address, CUresult* result) EXCLUDES(mutex_);
  CUresult CreateObject(CUuserObject* object, void* data, CUhostFn destroy, unsigned references,
                        unsigned flags) EXCLUDES(mutex_);
  CUresult RetainObject(CUuserObject object, unsigned count) EXCLUDES(mutex_);
  CUresult ReleaseObject(CUuserObject object, unsigned count) EXCLUDES(mutex_);
  CUresult GraphRetains(CUgraph graph, CUuserObject object, unsigned count, unsigned flags)
      EXCLUDES(mutex_);
  CUresult GraphReleases(CUgraph graph, CUuserObject object, unsigned count) EXCLUDES(mutex_);

  // Capture: the application's calls.
  CUresult BeginCapture(CUstream stream, bool per_thread, CUgraph into, const Dependencies& after,
                        CUstreamCaptureMode mode) EXCLUDES(mutex_);
  CUresult EndCapture(CUstream stream, bool per_thread, CUgraph* graph) EXCLUDES(mutex_);
  CUresult IsCapturing(CUstream stream, bool per_thread, CUstreamCaptureStatus* status)
      EXCLUDES(mutex_);
  struct CaptureInfo {
    CUstreamCaptureStatus* status = nullptr;
    cuuint64_t* id = nullptr;
    CUgraph* graph = nullptr;
    const CUgraphNode** dependencies = nullptr;
    const CUgraphEdgeData** data = nullptr;
    std::size_t* count = nullptr;
  };
  CUresult GetCaptureInfo(CUstream stream, bool per_thread, const CaptureInfo& out, bool plain)
      EXCLUDES(mutex_);
  CUresult UpdateCapture(CUstream stream, bool per_thread, const Dependencies& after,
                         unsigned flags) EXCLUDES(mutex_);
  static CUresult ExchangeMode(CUstreamCaptureMode* mode);

  // Capture: what the rest of the library asks. All answer at once while nothing is captured.
  bool capturing() const noexcept { return captures_active_.load(std::memory_order_relaxed) != 0; }
  // Offers work for a stream. True: `result` is the call's answer, the work is a node now or
  // refused. False: the stream takes work as usual.
  bool Capture(CUstream stream, bool per_thread, NodeWork work, CUresult* result) EXCLUDES(mutex_);
  bool CaptureLaunch(CUstream stream, bool per_thread, const CUDA_KERNEL_NODE_PARAMS& params,
                     std::vector<CUlaunchAttribute> attributes, CUresult* result) EXCLUDES(mutex_);
  bool CaptureAlloc(CUstream stream, bool per_thread, CUDA_MEM_ALLOC_NODE_PARAMS params,
                    CUdeviceptr* address, CUresult* result) EXCLUDES(mutex_);
  bool CaptureFree(CUstream stream, bool per_thread, CUdeviceptr address, CUresult* result)
      EXCLUDES(mutex_);
  bool CaptureRecord(CUstream stream, bool per_thread, CUevent event, unsigned flags,
                     CUresult* result) EXCLUDES(mutex_);
  bool CaptureWait(CUstream stream, bool per_thread, CUevent event, unsigned flags,
                   CUresult* result) EXCLUDES(mutex_);
  // For questions about a stream, and for calls that cannot become nodes: an error, which ends the
  // capture, if the stream is capturing or is the legacy stream beside one that is.
  CUresult CheckStream(CUstream stream, bool per_thread) EXCLUDES(mutex_);
  // For calls that may wait for the device in secret, such as cuMemAlloc: an error if the calling
  // thread's mode and a capture under way forbid them.
  CUresult CheckUnsafe() EXCLUDES(mutex_);
  // For calls that wait for a whole context.
  CUresult CheckContext(CUcontext context) EXCLUDES(mutex_);
  // For questions about an event: an error if it was last recorded in a capture under way.
  CUresult CheckEvent(CUevent event) EXCLUDES(mutex_);
  // For waits that cannot become nodes: an error, which ends the capture, if the event was last
  // recorded in one under way.
  CUresult RefuseCaptured(CUevent event) EXCLUDES(mutex_);
  // The stream, all streams of the context, or the event is being destroyed.
  void ForgetStream(CUstream stream) EXCLUDES(mutex_);
  void ForgetContext(CUcontext context) EXCLUDES(mutex_);
  void ForgetEvent(CUevent event) EXCLUDES(mutex_);

 private:
  // What nothing refers to any more, to be let go without the lock: destructors are the
  // application's, and memory may wait for the device.
  struct Orphans {
    std::vector<std::unique_ptr<UserObject>> objects;
    std::vector<std::shared_ptr<GraphMemory>> memory;
  };
  using References = std::map<UserObject*, std::uint64_t>;
  struct StreamCapture;

  std::uint64_t NewId(unsigned kind) REQUIRES(mutex_);
  Graph* FindGraph(CUgraph graph) const REQUIRES(mutex_);
  Node* FindNode(CUgraphNode node) const REQUIRES(mutex_);
  Exec* FindExec(CUgraphExec exec) const REQUIRES(mutex_);
  UserObject* FindObject(CUuserObject object) const REQUIRES(mutex_);
  std::unique_ptr<Graph> NewGraph() REQUIRES(mutex_);
  // Drops the handles of graphs that are gone.
  void ForgetGoneNodes(Exec* exec) REQUIRES(mutex_);
  // What an allocation node has at `address`; null if there is nothing, or nothing any more.
  std::shared_ptr<GraphMemory> FindMemory(CUdeviceptr address) REQUIRES(mutex_);
  void Forget(Graph& graph, Orphans* orphans) REQUIRES(mutex_);
  void ForgetNode(Node& node, Orphans* orphans) REQUIRES(mutex_);
  void Unreference(UserObject* object, std::uint64_t count, Orphans* orphans) REQUIRES(mutex_);
  static void Bury(Orphans orphans);
  // Takes what a graph and its child graphs refer to.
  static void TakeReferences(Graph& graph, References* references);
  void Release(const References& references) EXCLUDES(mutex_);
  // Whether so many nodes may be added to `graph`, counted with what it is a part of.
  bool HasRoom(const Graph& graph, std::size_t nodes) const;
  // So many nodes have come, or with a negative number gone.
  static void Count(Graph* graph, std::ptrdiff_t nodes);
  CUresult CopyGraph(const Graph& from, int depth, std::unique_ptr<Graph>* to) REQUIRES(mutex_);
  CUresult ReadEdges(Graph& graph, const Dependencies& after, std::vector<Edge>* edges) const
      REQUIRES(mutex_);
  CUresult Add(Graph* graph, const std::vector<Edge>& after, NodeWork work, Node** node)
      REQUIRES(mutex_);
  CUresult AddTo(CUgraphNode* out, CUgraph graph, const Dependencies& after, NodeWork work)
      REQUIRES(mutex_);
  CUresult ReadKernel(const CUDA_KERNEL_NODE_PARAMS* params, NodeWork* work) REQUIRES(mutex_);
  CUresult ReadCopy(const CUDA_MEMCPY3D* params, CUcontext context, NodeWork* work)
      REQUIRES(mutex_);
  CUresult ReadFill(const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context, NodeWork* work)
      REQUIRES(mutex_);
  CUresult ReadAlloc(const CUDA_MEM_ALLOC_NODE_PARAMS* params, NodeWork* work) REQUIRES(mutex_);
  CUresult ReadFree(const Graph* graph, CUdeviceptr address, NodeWork* work) REQUIRES(mutex_);
  CUresult Change(CUgraphExec exec, CUgraphNode node, CUgraphNodeType type, NodeWork work)
      REQUIRES(mutex_);
  CUresult Flatten(const Graph& graph, const std::vector<std::uint32_t>& after, Exec* exec,
                   std::vector<std::uint32_t>* ends) REQUIRES(mutex_);
  CUresult Replan(Exec* exec) REQUIRES(mutex_);
  CUresult TakeGraph(const Graph& graph, Exec* exec) REQUIRES(mutex_);
  CUresult Compare(const Graph& old_graph, const Graph& new_graph,
                   CUgraphExecUpdateResultInfo* info) REQUIRES(mutex_);
  CUresult Apply(Exec* exec, const Graph& old_graph, const Graph& new_graph) REQUIRES(mutex_);

  StreamCapture* FindCapture(std::uint64_t key) REQUIRES(mutex_);
  void ForgetKey(std::uint64_t key, Orphans* orphans) REQUIRES(mutex_);
  void Invalidate(CaptureState* capture) REQUIRES(mutex_);
  void EndState(CaptureState* capture) REQUIRES(mutex_);
  bool Joined(const CaptureState& capture, const std::vector<Edge>& ends) REQUIRES(mutex_);
  // What a stream that is to be given work is: capturing (its state), forbidden (`result`), or
  // free.
  enum class Use { kFree, kCaptured, kRefused };
  Use Enter(CUstream stream, bool per_thread, StreamInfo* info, StreamCapture** capture,
            CUresult* result) REQUIRES(mutex_);
  template <typename Body>
  bool InCapture(CUstream stream, bool per_thread, CUresult* result, Body&& body) EXCLUDES(mutex_);
  CUresult AddCaptured(StreamCapture* capture, NodeWork work, Node** node = nullptr)
      REQUIRES(mutex_);

  Backend& backend_;
  const std::size_t max_nodes_;
  std::atomic<unsigned> captures_active_{0};
  mutable Mutex mutex_;
  std::uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  std::uint64_t next_capture_ GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::uint64_t, Graph*> graphs_ GUARDED_BY(mutex_);  // Child graphs included.
  std::unordered_map<std::uint64_t, std::unique_ptr<Graph>> roots_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Node*> nodes_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::unique_ptr<Exec>> execs_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::unique_ptr<UserObject>> objects_ GUARDED_BY(mutex_);
  std::map<CUdeviceptr, std::weak_ptr<GraphMemory>> memory_ GUARDED_BY(mutex_);
  std::map<int, std::uint64_t> memory_high_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<CaptureState>> captures_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::unique_ptr<StreamCapture>> streams_ GUARDED_BY(mutex_);
  // Events recorded in a capture under way, and after what.
  struct CapturedEvent {
    CaptureState* capture;
    std::vector<Edge> after;
  };
  std::unordered_map<CUevent, CapturedEvent> events_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::graph
