#include "client/driver/launch/graph_plan.h"

#include <utility>

#include "client/driver/copy/copy_pieces.h"
#include "client/driver/launch/launch.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {

using wire::GraphNodeKind;
using wire::IdOf;
using wire::InternalCommand;

namespace {

// What one command of nodes may hold before it is sent; a node may add as much again.
constexpr std::size_t kCutBytes = wire::kMaxCommandBytes / 4;
// A copy of this many separate rows to the program's memory is refused.
constexpr std::uint64_t kMaxRows = 1u << 16;

}  // namespace

GraphPlan::~GraphPlan() {
  // A launch under way may still reach them: they stay until its end, with what they point to.
  callbacks_.insert(callbacks_.end(), retired_.begin(), retired_.end());
  process_.callbacks().Retire(std::move(callbacks_));
}

CUresult GraphPlan::Keep(const Callbacks::Entry& entry, std::uint64_t* callback) {
  const CUresult result = process_.callbacks().Keep(entry, callback);
  if (result == CUDA_SUCCESS) callbacks_.push_back(*callback);
  return result;
}

wire::Encoder GraphPlan::Begin(GraphNodeKind kind, const Places& after) {
  wire::Encoder body(nodes_);
  body.Put(static_cast<std::uint32_t>(kind));
  body.Put(static_cast<std::uint64_t>(after.size()));
  for (const std::uint32_t place : after) body.Put(place);
  ++waiting_;
  ++sent_;
  return body;
}

CUresult GraphPlan::Cut() {
  if (nodes_.size() > wire::kMaxCommandBytes - 64) return CUDA_ERROR_INVALID_VALUE;
  if (sent_ > wire::kMaxGraphNodes) return CUDA_ERROR_OUT_OF_MEMORY;
  parts_.push_back({std::exchange(nodes_, {}), std::exchange(waiting_, 0)});
  return CUDA_SUCCESS;
}

CUresult GraphPlan::Send(const graph::Plan& plan, unsigned long long flags) {
  // All is described before anything leaves: the server puts together what it gets.
  if (const CUresult result = Describe(plan); result != CUDA_SUCCESS) return result;
  process_.callbacks().Retire(std::exchange(retired_, {}));
  for (const Part& part : std::exchange(parts_, {})) {
    Command command(process_.session(), IdOf(InternalCommand::kGraphNodes));
    command.body().Put(number_);
    command.body().Put(part.count);
    command.body().PutRaw(part.nodes.data(), part.nodes.size());
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  Command command(process_.session(), IdOf(InternalCommand::kInstantiateGraph));
  command.body().Put(number_);
  command.body().Put(static_cast<std::uint64_t>(flags));
  return command.Post();
}

CUresult GraphPlan::Describe(const graph::Plan& plan) {
  retired_.insert(retired_.end(), callbacks_.begin(), callbacks_.end());
  callbacks_.clear();
  arrivals_.clear();
  nodes_.clear();
  parts_.clear();
  waiting_ = sent_ = 0;
  owed_ = {};
  Places places(plan.size());
  for (std::size_t i = 0; i < plan.size(); ++i) {
    Places after;
    for (const std::uint32_t before : plan[i].after) after.push_back(places[before]);
    if (const CUresult result = Add(plan[i], after); result != CUDA_SUCCESS) return result;
    places[i] = sent_ - 1;
    if (nodes_.size() < kCutBytes) continue;
    if (const CUresult result = Cut(); result != CUDA_SUCCESS) return result;
  }
  return Cut();
}

CUresult GraphPlan::Add(const graph::PlanNode& node, const Places& after) {
  if (!node.enabled) {
    Begin(GraphNodeKind::kEmpty, after);
    return CUDA_SUCCESS;
  }
  const graph::NodeWork& work = node.work;
  switch (work.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return AddKernel(work, after);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return AddCopy(work, after);
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      wire::Encoder body = Begin(GraphNodeKind::kFill, after);
      body.PutPointer(work.context);
      body.Put(static_cast<std::uint64_t>(work.fill.dst));
      body.Put(static_cast<std::uint64_t>(
          work.fill.height > 1 ? work.fill.pitch : work.fill.width * work.fill.elementSize));
      body.Put(std::uint32_t{work.fill.elementSize});
      body.Put(std::uint32_t{work.fill.value});
      body.Put(static_cast<std::uint64_t>(work.fill.width));
      body.Put(static_cast<std::uint64_t>(work.fill.height));
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      Callbacks::Entry entry;
      entry.function = work.host.fn;
      entry.data = work.host.userData;
      return AddHost(entry, after);
    }
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT: {
      wire::Encoder body =
          Begin(work.type == CU_GRAPH_NODE_TYPE_EVENT_RECORD ? GraphNodeKind::kRecord
                                                             : GraphNodeKind::kWait,
                after);
      body.PutPointer(work.event);
      return CUDA_SUCCESS;
    }
    default:
      Begin(GraphNodeKind::kEmpty, after);
      return CUDA_SUCCESS;
  }
}

CUresult GraphPlan::AddKernel(const graph::NodeWork& work, const Places& after) {
  const graph::KernelWork& kernel = work.kernel;
  wire::LaunchShape shape{{kernel.grid[0], kernel.grid[1], kernel.grid[2]},
                          {kernel.block[0], kernel.block[1], kernel.block[2]},
                          kernel.shared_bytes,
                          0};
  std::vector<const CUlaunchAttribute*> sent;
  for (const CUlaunchAttribute& attribute : kernel.attributes) {
    bool send = false;
    const CUresult result = ReadLaunchAttribute(attribute, &shape, &send);
    if (result != CUDA_SUCCESS) return result;
    if (send) sent.push_back(&attribute);
  }
  wire::Encoder body = Begin(GraphNodeKind::kKernel, after);
  body.PutPointer(kernel.target());
  body.PutPointer(work.context);
  body.PutStruct(shape);
  body.Put(static_cast<std::uint64_t>(sent.size()));
  for (const CUlaunchAttribute* attribute : sent) {
    body.Put(static_cast<std::int32_t>(attribute->id));
    body.PutStruct(attribute->value);
  }
  body.PutBlob(kernel.parameters.data(), kernel.parameters.size());
  return CUDA_SUCCESS;
}

CUresult GraphPlan::AddCopy(const graph::NodeWork& work, const Places& after) {
  CopyRequest request;
  const CUresult result = ReadBox(process_, work.copy, &request);
  if (result != CUDA_SUCCESS) return result;
  Simplify(&request.to, &request.from, &request.extent);
  const auto context = wire::FromPointer(work.context).bits();
  const bool to_device = request.to_side == Side::kDevice;
  const bool from_device = request.from_side == Side::kDevice;
  if (to_device && from_device) {
    wire::Encoder body = Begin(GraphNodeKind::kCopy, after);
    body.Put(context);
    body.PutStruct(request.extent);
    body.PutStruct(request.to);
    body.PutStruct(request.from);
    return CUDA_SUCCESS;
  }
  if (to_device) return AddFetch(request, context, after);
  if (from_device) return AddSend(request, context, after);
  Callbacks::Entry entry;
  entry.task = Callbacks::Task::kCopy;
  entry.extent = request.extent;
  entry.from = request.from;
  entry.to = request.to;
  return AddHost(entry, after);
}

CUresult GraphPlan::AddFetch(const CopyRequest& request, std::uint64_t context,
                             const Places& after) {
  Places pieces;
  const CUresult result = ForEachPiece(
      request, [&](const auto& to, const auto& from, const auto& extent, bool) -> CUresult {
        Callbacks::Entry entry;
        entry.task = Callbacks::Task::kFetch;
        entry.extent = extent;
        entry.from = from;
        std::uint64_t callback = 0;
        const CUresult kept = Keep(entry, &callback);
        if (kept != CUDA_SUCCESS) return kept;
        owed_.fetch_bytes += *CopyBytes(extent);
        pieces.push_back(sent_);
        wire::Encoder body = Begin(GraphNodeKind::kFetch, after);
        body.Put(context);
        body.PutStruct(extent);
        body.PutStruct(to);
        body.Put(callback);
        return CUDA_SUCCESS;
      });
  if (result == CUDA_SUCCESS && pieces.size() > 1) Begin(GraphNodeKind::kEmpty, pieces);
  return result;
}

CUresult GraphPlan::AddSend(const CopyRequest& request, std::uint64_t context,
                            const Places& after) {
  Places pieces;
  const auto send = [&](const wire::CopyPlane& to, const wire::CopyPlane& from,
                        const wire::CopyExtent& extent) {
    pieces.push_back(sent_);
    wire::Encoder body = Begin(GraphNodeKind::kSend, after);
    body.Put(context);
    body.PutStruct(extent);
    body.PutStruct(from);
    arrivals_.push_back({to.address, *CopyBytes(extent)});
  };
  const CUresult result = ForEachPiece(
      request, [&](const auto& to, const auto& from, const auto& extent, bool) -> CUresult {
        if (IsDense(to, extent)) {
          send(to, from, extent);
          return CUDA_SUCCESS;
        }
        // Bytes arrive where they belong, which is row by row.
        if (extent.rows > kMaxRows / extent.slices) return CUDA_ERROR_NOT_SUPPORTED;
        for (std::uint64_t z = 0; z < extent.slices; ++z) {
          for (std::uint64_t y = 0; y < extent.rows; ++y) {
            send({to.address + z * to.slice_pitch + y * to.pitch, 0, 0},
                 {from.address + z * from.slice_pitch + y * from.pitch, 0, 0},
                 {extent.row_bytes, 1, 1});
          }
        }
        return CUDA_SUCCESS;
      });
  if (result == CUDA_SUCCESS && pieces.size() > 1) Begin(GraphNodeKind::kEmpty, pieces);
  return result;
}

CUresult GraphPlan::AddHost(const Callbacks::Entry& entry, const Places& after) {
  std::uint64_t callback = 0;
  const CUresult result = Keep(entry, &callback);
  if (result != CUDA_SUCCESS) return result;
  ++owed_.functions;
  Begin(GraphNodeKind::kHost, after).Put(callback);
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client
