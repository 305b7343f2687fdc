#include "server/softgpu/api/launch/graph_backend.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "server/softgpu/api/context/current.h"
#include "server/softgpu/api/launch/launch.h"
#include "server/softgpu/api/memory/device_memory.h"

namespace farwarp::softgpu {
namespace {

using graph::Graphs;
using graph::Plan;
using graph::PlanNode;

// Null until something asks for graphs, so that programs without them pay one load.
std::atomic<Graphs*> graphs{nullptr};

bool Capturing() noexcept {
  const Graphs* all = graphs.load(std::memory_order_acquire);
  return all != nullptr && all->capturing();
}

Fill FillOf(const CUDA_MEMSET_NODE_PARAMS& params) {
  Fill fill;
  fill.to = params.dst;
  fill.value = params.value;
  fill.element = params.elementSize;
  fill.count = params.width;
  fill.height = params.height;
  fill.pitch = params.pitch;
  return fill;
}

// A record of an event by a node: the event's new point, reached when the node is.
std::shared_ptr<Work> RecordWork(Event& event, int priority) {
  auto point = std::make_shared<Event::Point>();
  point->work =
      std::make_shared<Work>(Lane::kInline, priority, [where = std::weak_ptr<Event::Point>(point)] {
        if (const auto reached = where.lock()) {
          reached->reached_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                    std::chrono::steady_clock::now().time_since_epoch())
                                    .count();
        }
      });
  auto work = point->work;
  event.set_point(std::move(point));
  return work;
}

class SoftExecutable final : public graph::Executable {
 public:
  explicit SoftExecutable(Driver& driver) : driver_(driver) {}

  CUresult Launch(const Plan& plan, CUstream stream, bool per_thread) override;
  CUresult Upload(CUstream stream, bool per_thread) override {
    std::shared_ptr<Stream> found;
    std::shared_ptr<Context> context;
    return FindStream(driver_, per_thread ? PerThread(stream) : stream, &found, &context);
  }
  bool AfterLaunches(std::function<void()> then) override {
    if (last_ == nullptr || last_->done()) return false;
    const auto work = std::make_shared<Work>(Lane::kHost, 0, std::move(then));
    work->After(last_);
    driver_.executor.Submit(work);
    return true;
  }
  // Everything is read from the plan at each launch.
  CUresult Update(const Plan&, std::uint32_t) override { return CUDA_SUCCESS; }

 private:
  struct Prepared {
    Lane lane = Lane::kInline;
    Work::Body body;
    std::shared_ptr<Context> context;
    std::shared_ptr<Event> event;
  };
  CUresult Prepare(const PlanNode& node, const std::shared_ptr<Context>& context, Prepared* made);

  Driver& driver_;
  std::shared_ptr<Work> last_;  // Launches of one graph follow each other.
};

CUresult SoftExecutable::Prepare(const PlanNode& node, const std::shared_ptr<Context>& context,
                                 Prepared* made) {
  made->context = context;
  if (!node.enabled) return CUDA_SUCCESS;
  switch (node.work.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      made->lane = Lane::kKernel;
      made->context = driver_.contexts.Find(node.work.context);
      if (made->context == nullptr) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
      return PrepareLaunch(driver_, made->context, node.work.kernel, &made->body);
    case CU_GRAPH_NODE_TYPE_MEMCPY: {
      made->lane = Lane::kCopy;
      Copy copy;
      const CUresult result = DescribeCopy(node.work.copy, &copy);
      return result != CUDA_SUCCESS ? result
                                    : PrepareCopy(driver_, context.get(), copy, &made->body);
    }
    case CU_GRAPH_NODE_TYPE_MEMSET:
      made->lane = Lane::kCopy;
      return PrepareFill(driver_, context.get(), FillOf(node.work.fill), &made->body);
    case CU_GRAPH_NODE_TYPE_HOST:
      made->lane = Lane::kHost;
      made->body = [host = node.work.host] { host.fn(host.userData); };
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      made->event = driver_.events.Find(node.work.event);
      return made->event == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
    default:
      return CUDA_SUCCESS;
  }
}

CUresult SoftExecutable::Launch(const Plan& plan, CUstream handle, bool per_thread) {
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Context> context;
  CUresult result = FindStream(driver_, per_thread ? PerThread(handle) : handle, &stream, &context);
  if (result != CUDA_SUCCESS) return result;
  if (context->error() != CUDA_SUCCESS) return context->error();
  std::vector<Prepared> prepared(plan.size());
  std::vector<std::shared_ptr<graph::GraphMemory>> memory;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    result = Prepare(plan[i], context, &prepared[i]);
    if (result != CUDA_SUCCESS) return result;
    if (plan[i].work.memory != nullptr) memory.push_back(plan[i].work.memory);
  }
  const auto begin = context->EnqueueAlways(stream, Lane::kInline, nullptr, last_);
  // The last work keeps the graph's memory until all others are done with it.
  const auto end =
      std::make_shared<Work>(Lane::kInline, stream->priority(), [memory = std::move(memory)] {});
  std::vector<std::shared_ptr<Work>> works(plan.size());
  for (std::size_t i = 0; i < plan.size(); ++i) {
    Prepared& node = prepared[i];
    if (plan[i].work.type == CU_GRAPH_NODE_TYPE_EVENT_RECORD) {
      works[i] = RecordWork(*node.event, stream->priority());
    } else if (node.body == nullptr) {
      works[i] = std::make_shared<Work>(Lane::kInline, stream->priority(), nullptr);
    } else {
      works[i] =
          std::make_shared<Work>(node.lane, stream->priority(),
                                 [owner = std::move(node.context), body = std::move(node.body)] {
                                   if (owner->error() == CUDA_SUCCESS) body();
                                 });
    }
    if (plan[i].work.type == CU_GRAPH_NODE_TYPE_WAIT_EVENT) {
      if (const auto point = node.event->point(); point != nullptr) works[i]->After(point->work);
    }
    if (plan[i].after.empty()) works[i]->After(begin);
    for (const std::uint32_t before : plan[i].after) works[i]->After(works[before]);
    end->After(works[i]);
  }
  for (const auto& work : works) driver_.executor.Submit(work);
  driver_.executor.Submit(end);
  last_ = context->EnqueueAlways(stream, Lane::kInline, nullptr, end);
  return CUDA_SUCCESS;
}

class SoftBackend final : public graph::Backend {
 public:
  explicit SoftBackend(Driver& driver) : driver_(driver) {}

  CUresult CurrentContext(CUcontext* context) override {
    std::shared_ptr<Context> current;
    const CUresult result = softgpu::CurrentContext(driver_, &current);
    if (result == CUDA_SUCCESS) *context = current->handle();
    return result;
  }
  CUresult FindStream(CUstream handle, bool per_thread, graph::StreamInfo* info) override {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Context> context;
    const CUresult result =
        softgpu::FindStream(driver_, per_thread ? PerThread(handle) : handle, &stream, &context);
    if (result != CUDA_SUCCESS) return result;
    info->key = stream->id();
    info->legacy = stream->kind() == StreamKind::kLegacy;
    info->blocking = stream->blocking();
    info->context = context->handle();
    return CUDA_SUCCESS;
  }
  bool IsEvent(CUevent event) override { return driver_.events.Find(event) != nullptr; }
  CUresult Describe(const graph::KernelWork& kernel, std::vector<graph::ParameterPlace>* places,
                    std::size_t* bytes, CUcontext* handle) override {
    std::shared_ptr<Context> context;
    if (*handle != nullptr) {
      context = driver_.contexts.Find(*handle);
      if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    } else if (const CUresult result = softgpu::CurrentContext(driver_, &context);
               result != CUDA_SUCCESS) {
      return result;
    }
    *handle = context->handle();
    return DescribeLaunch(driver_, context, kernel, places, bytes);
  }
  CUresult CheckCopy(const CUDA_MEMCPY3D& params) override {
    Copy copy;
    Work::Body body;
    const CUresult result = DescribeCopy(params, &copy);
    return result != CUDA_SUCCESS ? result : PrepareCopy(driver_, nullptr, copy, &body);
  }
  CUresult CheckFill(const CUDA_MEMSET_NODE_PARAMS& params) override {
    Work::Body body;
    return PrepareFill(driver_, nullptr, FillOf(params), &body);
  }
  bool IsDevice(CUdevice device) override { return driver_.FindDevice(device) != nullptr; }

  CUresult Allocate(const CUDA_MEM_ALLOC_NODE_PARAMS& wanted,
                    std::shared_ptr<graph::GraphMemory>* memory) override {
    const int device = wanted.poolProps.location.id;
    if (driver_.FindDevice(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    Allocation allocation;
    allocation.kind = MemoryKind::kDevice;
    allocation.device = device;
    std::uint64_t address = 0;
    const CUresult result = AllocateMemory(driver_, allocation, wanted.bytesize, &address);
    if (result != CUDA_SUCCESS) return result;
    auto made = std::make_shared<graph::GraphMemory>();
    made->address = address;
    made->bytes = wanted.bytesize;
    made->device = device;
    made->holds = std::shared_ptr<void>(nullptr, [&driver = driver_, address](void*) {
      const auto removed = driver.allocations.Remove(address, MemoryKind::kDevice);
      if (removed) FreeMemory(driver, *removed);
    });
    *memory = std::move(made);
    return CUDA_SUCCESS;
  }

  CUresult Instantiate(const Plan&, unsigned long long,
                       std::unique_ptr<graph::Executable>* executable) override {
    *executable = std::make_unique<SoftExecutable>(driver_);
    return CUDA_SUCCESS;
  }

 private:
  Driver& driver_;
};

}  // namespace

Graphs& GraphsOf(Driver& driver) {
  // Never destroyed, as the driver itself.
  static Graphs* const made = [&driver] {
    auto* all = new Graphs(*new SoftBackend(driver));
    graphs.store(all, std::memory_order_release);
    return all;
  }();
  return *made;
}

namespace {

// What a synchronous call may not do while something is captured.
bool RefuseSynchronous(CUstream stream, CUresult* result) {
  *result = graphs.load()->CheckStream(stream, false);
  if (*result == CUDA_SUCCESS) *result = graphs.load()->CheckUnsafe();
  return *result != CUDA_SUCCESS;
}

}  // namespace

bool CaptureCopy(CUstream stream, const CUDA_MEMCPY3D& copy, bool synchronous, CUresult* result) {
  if (!Capturing()) return false;
  if (synchronous) return RefuseSynchronous(stream, result);
  graph::NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  work.copy = copy;
  return graphs.load()->Capture(stream, false, std::move(work), result);
}

bool CaptureFill(CUstream stream, const Fill& fill, bool synchronous, CUresult* result) {
  if (!Capturing()) return false;
  if (synchronous) return RefuseSynchronous(stream, result);
  graph::NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_MEMSET;
  work.fill = {fill.to,    fill.pitch, fill.value, static_cast<unsigned>(fill.element),
               fill.count, fill.height};
  return graphs.load()->Capture(stream, false, std::move(work), result);
}

bool CaptureHost(CUstream stream, CUhostFn function, void* data, CUresult* result) {
  if (!Capturing()) return false;
  graph::NodeWork work;
  work.type = CU_GRAPH_NODE_TYPE_HOST;
  work.host = {function, data};
  return graphs.load()->Capture(stream, false, std::move(work), result);
}

bool CaptureLaunch(CUstream stream, const CUDA_KERNEL_NODE_PARAMS& params,
                   std::span<const CUlaunchAttribute> attributes, CUresult* result) {
  return Capturing() && graphs.load()->CaptureLaunch(
                            stream, false, params, {attributes.begin(), attributes.end()}, result);
}

CUresult CheckCapturedStream(CUstream stream) {
  return Capturing() ? graphs.load()->CheckStream(stream, false) : CUDA_SUCCESS;
}
CUresult CheckUnsafe() {
  return Capturing() ? graphs.load()->CheckUnsafe() : CUDA_SUCCESS;
}
CUresult CheckCapturedContext() {
  return Capturing() ? graphs.load()->CheckContext(TopContext()) : CUDA_SUCCESS;
}
CUresult CheckCapturedEvent(CUevent event) {
  return Capturing() ? graphs.load()->CheckEvent(event) : CUDA_SUCCESS;
}
void ForgetCapturedContext(CUcontext context) {
  if (Capturing()) graphs.load()->ForgetContext(context);
}

}  // namespace farwarp::softgpu
