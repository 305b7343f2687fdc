// GraphLayer: the graph model in the client (farwarp/graph/graphs.h) and what it stands on: handles
// and kernels as the client knows them, and executable graphs that the server is told of.
//
// Nothing here asks the server: a graph is described in commands without reply before its first
// launch and again after a change; a launch is one command.
//
// Thread-safe. Lives as long as the Process.
#pragma once

#include <memory>

#include "farwarp/graph/graphs.h"

namespace farwarp::client {

class Process;
struct CopyRequest;
struct StreamUse;

class GraphLayer {
 public:
  explicit GraphLayer(Process& process);
  ~GraphLayer();
  graph::Graphs& graphs() noexcept { return *graphs_; }

  // Does a copy from the program's memory as a graph does: the bytes are read when the stream gets
  // there, and the call returns before. `use` is what the request's stream means.
  CUresult CopyInTurn(const StreamUse& use, const CopyRequest& request);

 private:
  std::unique_ptr<graph::Backend> backend_;
  std::unique_ptr<graph::Graphs> graphs_;
};

// A copy as CUDA describes it for nodes.
CUDA_MEMCPY3D NodeOf(const CopyRequest& request);

}  // namespace farwarp::client
