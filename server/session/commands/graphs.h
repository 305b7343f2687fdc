// Executable graphs of one session: what the client has described becomes a graph of the driver's.
//
// Host memory of the client cannot be named in the driver's graph. A copy from it becomes a host
// node that fetches the bytes into a staging area, and the copy from there; a copy to it becomes
// the copy into a staging area and a host node that sends it.
//
// Ownership: ServerGraphs holds the graphs; a launch that the driver has not finished keeps what
// its host nodes use, and with it the graph's part of the host budget. Dispatch thread only, but
// for the host nodes, which the driver calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/internal_command.h"
#include "server/driver/table.h"
#include "server/session/host_budget.h"

namespace farwarp::server {

class Call;
class HostFunctions;
class Session;

// What one host node of the driver's graph does.
class GraphHostNode {
 public:
  enum class Task { kCall, kFetch, kSend };

  // What `bytes` of staging cost. The bytes of one launch are on their way while the next one runs.
  static std::uint64_t CostOf(Task task, std::uint64_t bytes) {
    return task == Task::kSend ? 2 * bytes : bytes;
  }

  GraphHostNode(Session& session, std::shared_ptr<HostFunctions> functions, Task task,
                std::uint64_t number, std::size_t bytes);
  // False if there was no memory for it.
  bool complete() const noexcept { return bytes_ == 0 || staging_ != nullptr; }
  // Called by the driver with the node as its data.
  static void Reached(void* node);

  bool sends() const noexcept { return task_ == Task::kSend; }
  std::byte* staging() const noexcept { return staging_.get(); }
  // The transfer of a launch to come. Launches of one graph follow each other.
  void Expect(std::uint64_t transfer) EXCLUDES(mutex_);
  // Of a launch that the driver refused.
  void Forget() EXCLUDES(mutex_);

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  using Bytes = std::unique_ptr<std::byte[], Free>;
  // What a launch sends; outlives the node if the client is slow.
  struct Leaving {
    Bytes bytes;
    Mutex mutex;
    CondVar left;
    bool busy GUARDED_BY(mutex) = false;
  };

  void Run() EXCLUDES(mutex_);
  void Send(std::uint64_t transfer);

  Session& session_;
  const std::shared_ptr<HostFunctions> functions_;
  const Task task_;
  const std::uint64_t number_;
  const std::size_t bytes_;
  Bytes staging_;
  std::shared_ptr<Leaving> leaving_;  // Of one that sends.
  Mutex mutex_;
  std::deque<std::uint64_t> transfers_ GUARDED_BY(mutex_);
};

// What a graph keeps in this process.
struct GraphHostNodes {
  HostBudget::Hold hold;
  std::vector<std::unique_ptr<GraphHostNode>> nodes;
};

// A graph of the driver's that is being put together.
struct GraphDraft {
  CUgraph graph = nullptr;
  std::size_t count = 0;            // Nodes so far, as the client counts them.
  std::vector<CUgraphNode> places;  // The node that stands for each of the client's.
  std::shared_ptr<GraphHostNodes> host_nodes = std::make_shared<GraphHostNodes>();
  CUresult result = CUDA_SUCCESS;  // Of the first node that was refused. Then nothing is kept.
};

struct ServerGraph {
  CUgraphExec exec = nullptr;
  std::shared_ptr<GraphHostNodes> host_nodes;
  std::size_t sends = 0;
};

class ServerGraphs {
 public:
  std::map<std::uint64_t, GraphDraft> drafts;
  std::map<std::uint64_t, ServerGraph> graphs;

  // Destroys a draft's or an executable's objects of the driver's.
  void Drop(const driver::Table& driver, GraphDraft& draft);
  // Keeps of a draft only that it has failed, and why.
  void Fail(const driver::Table& driver, GraphDraft& draft, CUresult result);
  void Drop(const driver::Table& driver, ServerGraph& graph);
  void Clear(const driver::Table& driver);
};

// Reads one node and adds it to `draft`. Marks the call bad if it breaks a rule; a failure of the
// driver's, or a want of memory, fails the draft.
void ReadGraphNode(Call& call, GraphDraft& draft);

}  // namespace farwarp::server
