// What a graph's nodes do, and what runs them: the seam between the graph model (graphs.h), which
// knows shapes, dependencies and capture, and the driver library that it serves.
//
// The model copies everything that a node's parameters point to, so a NodeWork owns what it names.
// Objects of the driver library (functions, events, contexts) stay handles; who runs the node looks
// them up. Threads: values; Backend says for each function who calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cuda/driver_api.h"

namespace farwarp::graph {

// Where one parameter lies in a kernel's parameter buffer.
struct ParameterPlace {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
};

struct KernelWork {
  CUfunction function = nullptr;  // One of the two, as the application gave it.
  CUkernel kernel = nullptr;
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t shared_bytes = 0;
  std::vector<ParameterPlace> places;
  std::vector<std::byte> parameters;  // Packed as the kernel expects them.
  std::vector<CUlaunchAttribute> attributes;

  // What launches take: CUDA accepts a kernel in a function's place.
  CUfunction target() const noexcept {
    return function != nullptr ? function : reinterpret_cast<CUfunction>(kernel);
  }
};

// Device memory that a graph's allocation node names: its address is fixed when the node is made.
// Shared by the graph, its clones and everything instantiated from it.
struct GraphMemory {
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  int device = 0;
  std::uint64_t serial = 0;     // Of what the backend has there.
  bool live = false;            // Between a launch that allocates it and what frees it.
  std::shared_ptr<void> holds;  // Gives the memory back when it goes.
};

struct NodeWork {
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  CUcontext context = nullptr;  // Of kernels, copies and fills.
  KernelWork kernel;
  CUDA_MEMCPY3D copy{};
  CUDA_MEMSET_NODE_PARAMS fill{};
  CUDA_HOST_NODE_PARAMS host{};
  CUevent event = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS alloc{};
  std::vector<CUmemAccessDesc> alloc_access;
  CUdeviceptr freed = 0;
  std::shared_ptr<GraphMemory> memory;  // Of allocation nodes and of the nodes that free it.
};

// A node of a graph made ready to run: child graphs are taken apart, so that every node is a
// kernel, a copy, a fill, a host function, an event's record or wait, or nothing.
struct PlanNode {
  NodeWork work;
  std::vector<std::uint32_t> after;  // Earlier places in the plan.
  bool enabled = true;
};
using Plan = std::vector<PlanNode>;

// A stream, as capture sees it.
struct StreamInfo {
  std::uint64_t key = 0;  // Unique among live streams.
  bool legacy = false;    // The default stream that blocks the others.
  bool blocking = true;   // Ordered with the legacy stream.
  CUcontext context = nullptr;
};

// An instantiated graph in the driver library. Called with the model's lock held; must not call the
// model. Destroyed when the application destroys it; work in flight goes on.
class Executable {
 public:
  virtual ~Executable() = default;
  virtual CUresult Launch(const Plan& plan, CUstream stream, bool per_thread) = 0;
  virtual CUresult Upload(CUstream stream, bool per_thread) = 0;
  // Has `then` called, once, by a thread that holds no lock, when the launches so far have ended.
  // False, and nothing is called, if none is known to be under way.
  virtual bool AfterLaunches(std::function<void()> then) = 0;
  // The node at `index` has changed.
  virtual CUresult Update(const Plan& plan, std::uint32_t index) = 0;
};

// The driver library under the model. Called with the model's lock held; must not call the model.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual CUresult CurrentContext(CUcontext* context) = 0;
  virtual CUresult FindStream(CUstream stream, bool per_thread, StreamInfo* info) = 0;
  virtual bool IsEvent(CUevent event) = 0;
  // Checks the kernel and its launch shape, and tells where its parameters lie and how large their
  // buffer is. `context` becomes the one it runs in.
  virtual CUresult Describe(const KernelWork& kernel, std::vector<ParameterPlace>* places,
                            std::size_t* bytes, CUcontext* context) = 0;
  virtual CUresult CheckCopy(const CUDA_MEMCPY3D& copy) = 0;
  virtual CUresult CheckFill(const CUDA_MEMSET_NODE_PARAMS& fill) = 0;
  virtual CUresult Allocate(const CUDA_MEM_ALLOC_NODE_PARAMS& wanted,
                            std::shared_ptr<GraphMemory>* memory) = 0;
  // False once the memory has gone by itself, with its context: its address may be another's now.
  virtual bool Holds(const GraphMemory&) { return true; }
  virtual bool IsDevice(CUdevice device) = 0;
  virtual CUresult Instantiate(const Plan& plan, unsigned long long flags,
                               std::unique_ptr<Executable>* executable) = 0;
};

}  // namespace farwarp::graph
