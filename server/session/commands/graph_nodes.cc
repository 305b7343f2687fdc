// Nodes of graphs as they arrive: read, checked, and added to the driver's graph.
#include <algorithm>
#include <utility>

#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/graphs.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/session.h"

namespace farwarp::server {
namespace {

using wire::CopyExtent;
using wire::CopyPlane;
using wire::GraphNodeKind;
using wire::HandleKind;

constexpr std::size_t kMaxAttributes = 32;
// Of a node and of an edge, in this process and in the driver: in a graph and in what it becomes.
constexpr std::uint64_t kNodeCost = 1024;
constexpr std::uint64_t kEdgeCost = 32;

struct Reader {
  Call& call;
  GraphDraft& draft;
  std::vector<CUgraphNode> after;

  const driver::Table& driver() { return call.driver(); }
  // The driver is asked only while everything has gone well.
  bool ready() { return !call.bad() && draft.result == CUDA_SUCCESS; }
  void Note(CUresult result) {
    if (result != CUDA_SUCCESS) StateOf(call).graphs.Fail(driver(), draft, result);
  }
  // Fails the draft if there is no memory for it.
  void Charge(std::uint64_t bytes) {
    if (ready() && !draft.host_nodes->hold.Grow(bytes)) Note(CUDA_ERROR_OUT_OF_MEMORY);
  }
  GraphHostNode* NewHostNode(GraphHostNode::Task task, std::uint64_t number, std::size_t bytes);
  CUgraphNode AddHost(GraphHostNode* node, const std::vector<CUgraphNode>& behind);
  CUgraphNode AddCopy(const CUDA_MEMCPY3D& copy, CUcontext context,
                      const std::vector<CUgraphNode>& behind);
  CUgraphNode Kernel();
  CUgraphNode Copy(GraphNodeKind kind);
  CUgraphNode Fill();
  CUgraphNode Host();
  CUgraphNode Event(GraphNodeKind kind);
  CUgraphNode Empty();
};

GraphHostNode* Reader::NewHostNode(GraphHostNode::Task task, std::uint64_t number,
                                   std::size_t bytes) {
  Charge(GraphHostNode::CostOf(task, bytes));
  if (!ready()) return nullptr;
  auto node = std::make_unique<GraphHostNode>(call.session(), StateOf(call).host_functions, task,
                                              number, bytes);
  if (!node->complete()) {
    Note(CUDA_ERROR_OUT_OF_MEMORY);
    return nullptr;
  }
  draft.host_nodes->nodes.push_back(std::move(node));
  return draft.host_nodes->nodes.back().get();
}

CUgraphNode Reader::AddHost(GraphHostNode* host, const std::vector<CUgraphNode>& behind) {
  CUgraphNode node = nullptr;
  if (host == nullptr || !ready()) return node;
  const CUDA_HOST_NODE_PARAMS params{&GraphHostNode::Reached, host};
  Note(driver().cuGraphAddHostNode(&node, draft.graph, behind.data(), behind.size(), &params));
  return node;
}

CUgraphNode Reader::AddCopy(const CUDA_MEMCPY3D& copy, CUcontext context,
                            const std::vector<CUgraphNode>& behind) {
  CUgraphNode node = nullptr;
  if (!ready()) return node;
  Note(driver().cuGraphAddMemcpyNode(&node, draft.graph, behind.data(), behind.size(), &copy,
                                     context));
  return node;
}

CUgraphNode Reader::Empty() {
  CUgraphNode node = nullptr;
  if (!ready()) return node;
  Note(driver().cuGraphAddEmptyNode(&node, draft.graph, after.data(), after.size()));
  return node;
}

CUgraphNode Reader::Kernel() {
  const bool is_kernel = PeekHandle(call).Is(HandleKind::kKernel);
  auto* function = ResolveFunction(call);
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  const auto shape = call.args().GetStruct<wire::LaunchShape>();
  const std::size_t count = call.args().GetCount(kMaxAttributes, 72);
  std::vector<CUlaunchAttribute> attributes(count);
  for (CUlaunchAttribute& attribute : attributes) {
    attribute.id = static_cast<CUlaunchAttributeID>(call.args().Get<std::int32_t>());
    attribute.value = call.args().GetStruct<CUlaunchAttributeValue>();
    // The value of others may be an address or an object of this process.
    if (attribute.id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION &&
        attribute.id != CU_LAUNCH_ATTRIBUTE_PRIORITY &&
        attribute.id != CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE) {
      call.MarkBad();
    }
  }
  const auto parameters = call.args().GetBlob(wire::kMaxKernelParameterBytes);
  if ((shape.flags & ~wire::kLaunchCooperative) != 0) call.MarkBad();
  CUgraphNode node = nullptr;
  Charge(2 * parameters.size());
  if (!ready()) return node;
  if ((shape.flags & wire::kLaunchCooperative) != 0) {
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attribute.value.cooperative = 1;
    attributes.push_back(attribute);
  }
  std::size_t parameter_bytes = parameters.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<std::byte*>(parameters.data()),
                   CU_LAUNCH_PARAM_BUFFER_SIZE, &parameter_bytes, CU_LAUNCH_PARAM_END};
  CUDA_KERNEL_NODE_PARAMS params{};
  params.func = is_kernel ? nullptr : function;
  params.kern = is_kernel ? reinterpret_cast<CUkernel>(function) : nullptr;
  params.ctx = context;
  params.gridDimX = shape.grid[0];
  params.gridDimY = shape.grid[1];
  params.gridDimZ = shape.grid[2];
  params.blockDimX = shape.block[0];
  params.blockDimY = shape.block[1];
  params.blockDimZ = shape.block[2];
  params.sharedMemBytes = shape.shared_bytes;
  params.extra = parameter_bytes != 0 ? extra : nullptr;
  Note(driver().cuGraphAddKernelNode_v2(&node, draft.graph, after.data(), after.size(), &params));
  for (const CUlaunchAttribute& attribute : attributes) {
    if (!ready()) break;
    Note(driver().cuGraphKernelNodeSetAttribute(node, attribute.id, &attribute.value));
  }
  return node;
}

// True if the slices of a plane are a whole number of rows apart: a node has no other way to say
// where they are, and what it said instead would be memory that nobody has checked.
bool HasHeight(const CopyPlane& plane, const CopyExtent& extent) {
  return extent.slices == 1 || (plane.pitch != 0 && plane.slice_pitch % plane.pitch == 0 &&
                                plane.slice_pitch / plane.pitch >= extent.rows);
}
std::size_t HeightOf(const CopyPlane& plane, const CopyExtent& extent) {
  return extent.slices == 1 ? extent.rows : plane.slice_pitch / plane.pitch;
}

// One side of a copy: `data` in this process's memory, dense, or a plane on the device.
void SetSource(CUDA_MEMCPY3D* copy, const void* data, const CopyPlane& plane,
               const CopyExtent& extent) {
  copy->srcMemoryType = data != nullptr ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy->srcHost = data;
  copy->srcDevice = plane.address;
  copy->srcPitch = data != nullptr ? extent.row_bytes : plane.pitch;
  copy->srcHeight = data != nullptr ? extent.rows : HeightOf(plane, extent);
}
void SetTarget(CUDA_MEMCPY3D* copy, void* data, const CopyPlane& plane, const CopyExtent& extent) {
  copy->dstMemoryType = data != nullptr ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy->dstHost = data;
  copy->dstDevice = plane.address;
  copy->dstPitch = data != nullptr ? extent.row_bytes : plane.pitch;
  copy->dstHeight = data != nullptr ? extent.rows : HeightOf(plane, extent);
}

CUgraphNode Reader::Copy(GraphNodeKind kind) {
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  const auto extent = call.args().GetStruct<CopyExtent>();
  const auto plane = call.args().GetStruct<CopyPlane>();
  CopyPlane from = plane;
  std::uint64_t number = 0, bytes = 0;
  if (kind == GraphNodeKind::kCopy) from = call.args().GetStruct<CopyPlane>();
  if (kind == GraphNodeKind::kFetch) number = call.args().Get<std::uint64_t>();
  if (!StateOf(call).Covers(plane, extent) || !StateOf(call).Covers(from, extent) ||
      !HasHeight(plane, extent) || !HasHeight(from, extent)) {
    call.MarkBad();
  }
  if (__builtin_mul_overflow(extent.row_bytes, extent.rows, &bytes) ||
      __builtin_mul_overflow(bytes, extent.slices, &bytes) ||
      (kind != GraphNodeKind::kCopy && bytes > wire::kMaxCopyBytes)) {
    call.MarkBad();
  }
  if (!ready()) return nullptr;
  CUDA_MEMCPY3D copy{};
  copy.WidthInBytes = extent.row_bytes;
  copy.Height = extent.rows;
  copy.Depth = extent.slices;
  if (kind == GraphNodeKind::kCopy) {
    SetTarget(&copy, nullptr, plane, extent);
    SetSource(&copy, nullptr, from, extent);
    return AddCopy(copy, context, after);
  }
  const bool fetch = kind == GraphNodeKind::kFetch;
  GraphHostNode* host =
      NewHostNode(fetch ? GraphHostNode::Task::kFetch : GraphHostNode::Task::kSend, number, bytes);
  if (host == nullptr) return nullptr;
  if (fetch) {
    SetTarget(&copy, nullptr, plane, extent);
    SetSource(&copy, host->staging(), {}, extent);
    return AddCopy(copy, context, {AddHost(host, after)});
  }
  SetTarget(&copy, host->staging(), {}, extent);
  SetSource(&copy, nullptr, plane, extent);
  return AddHost(host, {AddCopy(copy, context, after)});
}

CUgraphNode Reader::Fill() {
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  CUDA_MEMSET_NODE_PARAMS fill{};
  fill.dst = call.args().Get<std::uint64_t>();
  fill.pitch = call.args().Get<std::uint64_t>();
  fill.elementSize = call.args().Get<std::uint32_t>();
  fill.value = call.args().Get<std::uint32_t>();
  fill.width = call.args().Get<std::uint64_t>();
  fill.height = call.args().Get<std::uint64_t>();
  CopyExtent extent{0, fill.height, 1};
  if ((fill.elementSize != 1 && fill.elementSize != 2 && fill.elementSize != 4) ||
      __builtin_mul_overflow(fill.width, std::uint64_t{fill.elementSize}, &extent.row_bytes) ||
      !StateOf(call).Covers({fill.dst, fill.pitch, 0}, extent)) {
    call.MarkBad();
  }
  CUgraphNode node = nullptr;
  if (!ready()) return node;
  Note(driver().cuGraphAddMemsetNode(&node, draft.graph, after.data(), after.size(), &fill,
                                     context));
  return node;
}

CUgraphNode Reader::Host() {
  const auto number = call.args().Get<std::uint64_t>();
  return ready() ? AddHost(NewHostNode(GraphHostNode::Task::kCall, number, 0), after) : nullptr;
}

CUgraphNode Reader::Event(GraphNodeKind kind) {
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  CUgraphNode node = nullptr;
  if (!ready()) return node;
  Note(kind == GraphNodeKind::kRecord ? driver().cuGraphAddEventRecordNode(
                                            &node, draft.graph, after.data(), after.size(), event)
                                      : driver().cuGraphAddEventWaitNode(
                                            &node, draft.graph, after.data(), after.size(), event));
  return node;
}

}  // namespace

void ReadGraphNode(Call& call, GraphDraft& draft) {
  Reader reader{call, draft, {}};
  const auto kind = static_cast<GraphNodeKind>(call.args().Get<std::uint32_t>());
  const std::size_t count = call.args().GetCount(wire::kMaxGraphNodes);
  reader.Charge(kNodeCost + count * kEdgeCost);
  for (std::size_t i = 0; i < count; ++i) {
    const auto place = call.args().Get<std::uint32_t>();
    if (place >= draft.count) return call.MarkBad();
    if (reader.ready()) reader.after.push_back(draft.places[place]);
  }
  CUgraphNode node = nullptr;
  switch (kind) {
    case GraphNodeKind::kEmpty:
      node = reader.Empty();
      break;
    case GraphNodeKind::kKernel:
      node = reader.Kernel();
      break;
    case GraphNodeKind::kCopy:
    case GraphNodeKind::kFetch:
    case GraphNodeKind::kSend:
      node = reader.Copy(kind);
      break;
    case GraphNodeKind::kFill:
      node = reader.Fill();
      break;
    case GraphNodeKind::kHost:
      node = reader.Host();
      break;
    case GraphNodeKind::kRecord:
    case GraphNodeKind::kWait:
      node = reader.Event(kind);
      break;
    default:
      return call.MarkBad();
  }
  ++draft.count;
  if (draft.result == CUDA_SUCCESS) draft.places.push_back(node);
}

}  // namespace farwarp::server
