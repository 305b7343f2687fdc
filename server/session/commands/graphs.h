// Executable graphs of one session: what the client has described becomes a graph of the driver's.
//
// Host memory of the client cannot be named in the driver's graph. A copy from it becomes a host
// node that fetches the bytes into a staging area, and the copy from there; a copy to it becomes
// the copy into a staging area and a host node that sends it.
//
// Ownership: ServerGraphs holds the graphs; a launch that the driver has not finished keeps what
// its host nodes use. Dispatch thread only, but for the host nodes, which the driver calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/internal_command.h"
#include "server/driver/table.h"

namespace farwarp::server {

class Call;
class HostFunctions;
class Session;

// What one host node of the driver's graph does.
class GraphHostNode {
 public:
  enum class Task { kCall, kFetch, kSend };

  GraphHostNode(Session& session, std::shared_ptr<HostFunctions> functions, Task task,
                std::uint64_t number, std::size_t bytes);
  // Called by the driver with the node as its data.
  static void Reached(void* node);

  bool sends() const noexcept { return task_ == Task::kSend; }
  std::byte* staging() const noexcept { return staging_.get(); }
  // The transfer of a launch to come. Launches of one graph follow each other.
  void Expect(std::uint64_t transfer) EXCLUDES(mutex_);
  // Of a launch that the driver refused.
  void Forget() EXCLUDES(mutex_);

 private:
  void Run() EXCLUDES(mutex_);

  Session& session_;
  const std::shared_ptr<HostFunctions> functions_;
  const Task task_;
  const std::uint64_t number_;
  const std::size_t bytes_;
  const std::shared_ptr<std::byte[]> staging_;
  Mutex mutex_;
  std::deque<std::uint64_t> transfers_ GUARDED_BY(mutex_);
};

using GraphHostNodes = std::vector<std::unique_ptr<GraphHostNode>>;

// A graph of the driver's that is being put together.
struct GraphDraft {
  CUgraph graph = nullptr;
  std::vector<CUgraphNode> places;  // The node that stands for each of the client's.
  std::shared_ptr<GraphHostNodes> host_nodes = std::make_shared<GraphHostNodes>();
  std::size_t staging_bytes = 0;
  CUresult result = CUDA_SUCCESS;  // Of the first node that the driver refused.
};

struct ServerGraph {
  CUgraphExec exec = nullptr;
  std::shared_ptr<GraphHostNodes> host_nodes;
  std::size_t sends = 0;
  std::size_t staging_bytes = 0;
};

class ServerGraphs {
 public:
  // Host memory that staging areas of one session's graphs may take.
  static constexpr std::size_t kMaxStagingBytes = std::size_t{1} << 30;

  std::map<std::uint64_t, GraphDraft> drafts;
  std::map<std::uint64_t, ServerGraph> graphs;
  std::size_t staging_bytes = 0;  // Of all of them.

  // Destroys a draft's or an executable's objects of the driver's.
  void Drop(const driver::Table& driver, GraphDraft& draft);
  void Drop(const driver::Table& driver, ServerGraph& graph);
  void Clear(const driver::Table& driver);
};

// Reads one node and adds it to `draft`. Marks the call bad if it breaks a rule; what the driver
// refuses is kept in the draft.
void ReadGraphNode(Call& call, GraphDraft& draft);

}  // namespace farwarp::server
