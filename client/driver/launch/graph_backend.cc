#include "client/driver/launch/graph_backend.h"

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "client/driver/copy/copy.h"
#include "client/driver/launch/graph_plan.h"
#include "client/driver/launch/launch.h"
#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "client/driver/stream/callbacks.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {
namespace {

using wire::IdOf;
using wire::InternalCommand;

// The caller with his current context, if it is alive.
CUresult Who(Caller* caller) {
  const CUresult result = Enter(caller);
  if (result == CUDA_SUCCESS) {
    caller->context = caller->process->contexts.Find(caller->context_handle);
  }
  return result;
}

NullStream NullOf(bool per_thread) {
  return per_thread ? NullStream::kPerThread : NullStream::kLegacy;
}

class ClientExecutable final : public graph::Executable {
 public:
  ClientExecutable(Process& process, std::uint64_t number, unsigned long long flags)
      : process_(process), plan_(process, number), flags_(flags) {}

  ~ClientExecutable() override {
    Command command(process_.session(), IdOf(InternalCommand::kDestroyGraph));
    command.body().Put(plan_.number());
    static_cast<void>(command.Post());
  }

  CUresult Send(const graph::Plan& plan) {
    const CUresult result = plan_.Send(plan, flags_);
    changed_ = result != CUDA_SUCCESS;
    return result;
  }

  CUresult Launch(const graph::Plan& plan, CUstream stream, bool per_thread) override;

  CUresult Upload(CUstream stream, bool per_thread) override {
    Caller caller;
    StreamUse use;
    CUresult result = Who(&caller);
    if (result == CUDA_SUCCESS) result = ResolveStream(caller, stream, NullOf(per_thread), &use);
    if (result != CUDA_SUCCESS) return result;
    Command command(process_.session(), IdOf(InternalCommand::kUploadGraph));
    command.body().Put(plan_.number());
    command.body().PutPointer(use.wire);
    return command.Post();
  }

  bool AfterLaunches(std::function<void()> then) override;

  // The next launch sends it.
  CUresult Update(const graph::Plan&, std::uint32_t) override {
    changed_ = true;
    return CUDA_SUCCESS;
  }

 private:
  // The launch itself; `transfers` are what it expects, also when it fails.
  CUresult Post(const graph::Plan& plan, const StreamUse& use,
                std::vector<std::uint64_t>* transfers);

  Process& process_;
  GraphPlan plan_;
  const unsigned long long flags_;
  bool changed_ = false;
  // Where the last launch went, and its number in the context's work.
  wire::Handle context_;
  wire::Handle stream_;
  std::uint64_t mark_ = 0;
};

bool ClientExecutable::AfterLaunches(std::function<void()> then) {
  StreamUse use;
  use.context_handle = context_;
  use.context = process_.contexts.Find(context_);
  if (use.context == nullptr || !use.context->alive.load() || use.context->work.settled(mark_)) {
    return false;
  }
  // A stream that is gone has been followed by the legacy one, unless it was beside that.
  use.stream = process_.streams.Find(stream_);
  use.wire = use.stream != nullptr ? wire::ToPointer<CUstream>(stream_) : nullptr;
  auto owned = std::make_unique<std::function<void()>>(std::move(then));
  const CUhostFn call = [](void* data) {
    const std::unique_ptr<std::function<void()>> last(static_cast<std::function<void()>*>(data));
    (*last)();
  };
  if (process_.callbacks().Enqueue(use, {.function = call, .data = owned.get()}) != CUDA_SUCCESS) {
    return false;
  }
  static_cast<void>(owned.release());
  return true;
}

CUresult ClientExecutable::Launch(const graph::Plan& plan, CUstream stream, bool per_thread) {
  Caller caller;
  StreamUse use;
  CUresult result = Who(&caller);
  if (result == CUDA_SUCCESS && process_.managed().any()) {
    result = process_.managed().BeforeWork(caller);
  }
  if (result == CUDA_SUCCESS) result = ResolveForWork(caller, stream, NullOf(per_thread), &use);
  if (result == CUDA_SUCCESS && changed_) result = Send(plan);
  if (result != CUDA_SUCCESS) return result;
  process_.arrivals().Tidy();
  std::vector<std::uint64_t> transfers;
  const std::uint64_t context = use.context_handle.bits();
  process_.callbacks().Expect(plan_.callbacks(), context, plan_.owed());
  result = CUDA_ERROR_OUT_OF_MEMORY;
  try {
    result = Post(plan, use, &transfers);
  } catch (...) {
  }
  if (result != CUDA_SUCCESS) {
    for (const std::uint64_t transfer : transfers) process_.session().CancelTransfer(transfer);
    process_.callbacks().Unexpect(context, plan_.owed());
    return result;
  }
  context_ = use.context_handle;
  stream_ = use.legacy() ? wire::Handle() : wire::FromPointer(use.wire);
  mark_ = use.context->work.Mark();
  for (const graph::PlanNode& node : plan) {
    if (node.work.type != CU_GRAPH_NODE_TYPE_EVENT_RECORD) continue;
    if (Event* event = process_.events.Find(node.work.event); event != nullptr) {
      event->recorded.store(true, std::memory_order_relaxed);
    }
  }
  return process_.launch_blocking() ? process_.session().AfterWait(SynchronizeStream(process_, use))
                                    : CUDA_SUCCESS;
}

CUresult ClientExecutable::Post(const graph::Plan& plan, const StreamUse& use,
                                std::vector<std::uint64_t>* transfers) {
  transfers->reserve(plan_.arrivals().size());
  for (const GraphPlan::Arrival& arrival : plan_.arrivals()) {
    transfers->push_back(process_.session().ExpectTransfer(
        reinterpret_cast<void*>(arrival.address), static_cast<std::size_t>(arrival.bytes)));
  }
  Command command(process_.session(), IdOf(InternalCommand::kLaunchGraph));
  command.body().Put(plan_.number());
  command.body().PutPointer(use.wire);
  command.body().Put(static_cast<std::uint64_t>(transfers->size()));
  for (const std::uint64_t transfer : *transfers) command.body().Put(transfer);
  std::size_t next = 0;
  for (const GraphPlan::Arrival& arrival : plan_.arrivals()) {
    process_.arrivals().NoteCopy(arrival.address, arrival.bytes, (*transfers)[next++], use);
  }
  for (const graph::PlanNode& node : plan) {
    if (node.work.type != CU_GRAPH_NODE_TYPE_EVENT_RECORD) continue;
    process_.arrivals().NoteUnknownRecord(wire::FromPointer(node.work.event).bits());
  }
  use.context->work.Begin(use.beside_legacy());
  for (const graph::PlanNode& node : plan) {
    if (node.work.context == nullptr) continue;
    Context* other = process_.contexts.Find(node.work.context);
    // Another context's device is busy with this, too, and nothing here says until when.
    if (other != nullptr && other != use.context) other->work.Begin(true);
  }
  return command.Post();
}

class ClientBackend final : public graph::Backend {
 public:
  explicit ClientBackend(Process& process) : process_(process) {}

  CUresult CurrentContext(CUcontext* context) override {
    Caller caller;
    const CUresult result = EnterContext(&caller);
    if (result == CUDA_SUCCESS) *context = wire::ToPointer<CUcontext>(caller.context_handle);
    return result;
  }

  CUresult FindStream(CUstream stream, bool per_thread, graph::StreamInfo* info) override {
    Caller caller;
    StreamUse use;
    CUresult result = Who(&caller);
    if (result == CUDA_SUCCESS) result = ResolveStream(caller, stream, NullOf(per_thread), &use);
    if (result != CUDA_SUCCESS) return result;
    info->legacy = use.legacy();
    info->key = use.legacy() ? use.context_handle.bits() : wire::FromPointer(use.wire).bits();
    info->blocking = !use.beside_legacy();
    info->context = wire::ToPointer<CUcontext>(use.context_handle);
    return CUDA_SUCCESS;
  }

  bool IsEvent(CUevent event) override { return process_.events.Find(event) != nullptr; }

  CUresult Describe(const graph::KernelWork& kernel, std::vector<graph::ParameterPlace>* places,
                    std::size_t* bytes, CUcontext* handle) override {
    Caller caller;
    CUresult result = Who(&caller);
    if (result != CUDA_SUCCESS) return result;
    if (*handle == nullptr) *handle = wire::ToPointer<CUcontext>(caller.context_handle);
    const Context* context = process_.contexts.Find(*handle);
    if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    const Launchable* launchable = FindLaunchable(caller, kernel.target());
    if (launchable == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    const wire::LaunchShape shape{{kernel.grid[0], kernel.grid[1], kernel.grid[2]},
                                  {kernel.block[0], kernel.block[1], kernel.block[2]},
                                  kernel.shared_bytes,
                                  0};
    result = CheckLaunchShape(*context->device, *launchable, shape);
    if (result != CUDA_SUCCESS) return result;
    places->clear();
    for (const KernelParameter& parameter : launchable->info->parameters) {
      places->push_back({parameter.offset, parameter.size});
    }
    *bytes = launchable->info->parameter_bytes;
    return CUDA_SUCCESS;
  }

  CUresult CheckCopy(const CUDA_MEMCPY3D& params) override {
    CopyRequest request;
    const CUresult result = ReadBox(process_, params, &request);
    return result != CUDA_SUCCESS ? result : CheckRequest(process_, request);
  }

  CUresult CheckFill(const CUDA_MEMSET_NODE_PARAMS& params) override {
    return CheckFillShape(process_, params.dst, params.pitch, params.width, params.height,
                          params.elementSize);
  }

  bool Holds(const graph::GraphMemory& memory) override {
    Device* device = process_.FindDevice(memory.device);
    if (device == nullptr) return false;
    const auto found = device->memory.Find(memory.address);
    return found.has_value() && found->serial == memory.serial;
  }

  bool IsDevice(CUdevice device) override { return process_.FindDevice(device) != nullptr; }

  CUresult Allocate(const CUDA_MEM_ALLOC_NODE_PARAMS& wanted,
                    std::shared_ptr<graph::GraphMemory>* memory) override;

  CUresult Instantiate(const graph::Plan& plan, unsigned long long flags,
                       std::unique_ptr<graph::Executable>* executable) override {
    constexpr unsigned long long kForServer = CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
    auto made =
        std::make_unique<ClientExecutable>(process_, next_.fetch_add(1), flags & kForServer);
    const CUresult result = made->Send(plan);
    if (result == CUDA_SUCCESS) *executable = std::move(made);
    return result;
  }

 private:
  Process& process_;
  std::atomic<std::uint64_t> next_{1};
};

// Frees what an allocation node held once no launch can use it any more.
void FreeWhenUnused(Process& process, Device& device, std::uint64_t address, std::uint64_t serial) {
  const auto found = device.memory.Find(address);
  if (!found.has_value() || found->serial != serial) return;  // Gone with its context.
  if (SynchronizeBusy(process, &device, {}) != CUDA_SUCCESS) return;
  static_cast<void>(device.memory.Free(address));
}

CUresult ClientBackend::Allocate(const CUDA_MEM_ALLOC_NODE_PARAMS& wanted,
                                 std::shared_ptr<graph::GraphMemory>* memory) {
  Caller caller;
  if (const CUresult result = EnterContext(&caller); result != CUDA_SUCCESS) return result;
  const int ordinal = wanted.poolProps.location.id;
  Device* device = process_.FindDevice(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  std::uint64_t address = 0;
  const CUresult result =
      device->memory.Allocate(wanted.bytesize, caller.context_handle.bits(), &address);
  if (result != CUDA_SUCCESS) return result;
  const std::uint64_t serial = device->memory.Find(address)->serial;
  auto made = std::make_shared<graph::GraphMemory>();
  made->address = address;
  made->bytes = wanted.bytesize;
  made->device = ordinal;
  made->serial = serial;
  made->holds =
      std::shared_ptr<void>(nullptr, [&process = process_, device, address, serial](void*) {
        FreeWhenUnused(process, *device, address, serial);
      });
  *memory = std::move(made);
  return CUDA_SUCCESS;
}

}  // namespace

GraphLayer::GraphLayer(Process& process)
    : backend_(std::make_unique<ClientBackend>(process)),
      graphs_(std::make_unique<graph::Graphs>(*backend_)) {}
GraphLayer::~GraphLayer() = default;

CUresult GraphLayer::CopyInTurn(const StreamUse& use, const CopyRequest& request) {
  graph::Plan plan(1);
  plan[0].work.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  plan[0].work.context = wire::ToPointer<CUcontext>(use.context_handle);
  plan[0].work.copy = NodeOf(request);
  std::unique_ptr<graph::Executable> once;
  const CUresult result = backend_->Instantiate(plan, 0, &once);
  if (result != CUDA_SUCCESS) return result;
  return once->Launch(plan, request.stream, request.null == NullStream::kPerThread);
}

CUDA_MEMCPY3D NodeOf(const CopyRequest& request) {
  CUDA_MEMCPY3D copy{};
  const auto height = [&](const wire::CopyPlane& plane) {
    return plane.pitch == 0 ? request.extent.rows : plane.slice_pitch / plane.pitch;
  };
  copy.srcMemoryType = request.from_side == Side::kHost ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy.srcHost = reinterpret_cast<const void*>(request.from.address);
  copy.srcDevice = request.from.address;
  copy.srcPitch = request.from.pitch;
  copy.srcHeight = height(request.from);
  copy.dstMemoryType = request.to_side == Side::kHost ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy.dstHost = reinterpret_cast<void*>(request.to.address);
  copy.dstDevice = request.to.address;
  copy.dstPitch = request.to.pitch;
  copy.dstHeight = height(request.to);
  copy.WidthInBytes = request.extent.row_bytes;
  copy.Height = request.extent.rows;
  copy.Depth = request.extent.slices;
  return copy;
}

}  // namespace farwarp::client
