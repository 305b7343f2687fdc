// GraphPlan: an executable graph on its way to the server: its nodes in wire form, the numbers
// under which the server calls back, and where the bytes it sends belong.
//
// External lock (that of the graph model).
#pragma once

#include <cstdint>
#include <vector>

#include "client/driver/copy/copy.h"
#include "client/driver/stream/callbacks.h"
#include "farwarp/graph/work.h"
#include "farwarp/wire/encoder.h"

namespace farwarp::client {

class Process;

class GraphPlan {
 public:
  // A copy to the program's memory: one transfer of each launch.
  struct Arrival {
    std::uint64_t address;
    std::uint64_t bytes;
  };

  GraphPlan(Process& process, std::uint64_t number) : process_(process), number_(number) {}
  ~GraphPlan();
  GraphPlan(const GraphPlan&) = delete;
  GraphPlan& operator=(const GraphPlan&) = delete;

  // Describes the graph to the server, which makes it executable in its predecessor's place.
  CUresult Send(const graph::Plan& plan, unsigned long long flags);

  std::uint64_t number() const noexcept { return number_; }
  const std::vector<Arrival>& arrivals() const noexcept { return arrivals_; }
  const std::vector<std::uint64_t>& callbacks() const noexcept { return callbacks_; }
  // Of each launch.
  const Callbacks::Owed& owed() const noexcept { return owed_; }

 private:
  using Places = std::vector<std::uint32_t>;

  // Begins a node; its work follows in nodes_.
  wire::Encoder Begin(wire::GraphNodeKind kind, const Places& after);
  CUresult Add(const graph::PlanNode& node, const Places& after);
  CUresult AddKernel(const graph::NodeWork& work, const Places& after);
  CUresult AddCopy(const graph::NodeWork& work, const Places& after);
  CUresult AddFetch(const CopyRequest& request, std::uint64_t context, const Places& after);
  CUresult AddSend(const CopyRequest& request, std::uint64_t context, const Places& after);
  CUresult AddHost(const Callbacks::Entry& entry, const Places& after);
  CUresult Keep(const Callbacks::Entry& entry, std::uint64_t* callback);
  // Writes the plan into parts_.
  CUresult Describe(const graph::Plan& plan);
  // What has been written so far becomes a part.
  CUresult Cut();

  struct Part {
    wire::Buffer nodes;
    std::uint64_t count;
  };

  Process& process_;
  const std::uint64_t number_;
  std::vector<Part> parts_;    // One command each.
  wire::Buffer nodes_;         // Of the part that is being written.
  std::uint64_t waiting_ = 0;  // Nodes in nodes_.
  std::uint32_t sent_ = 0;     // Nodes begun since Send.
  std::vector<Arrival> arrivals_;
  std::vector<std::uint64_t> callbacks_;
  std::vector<std::uint64_t> retired_;  // Callbacks that earlier launches may still reach.
  Callbacks::Owed owed_;
};

}  // namespace farwarp::client
