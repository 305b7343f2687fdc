// Process: the client library's one state in this process, and how each CUDA function gets at it.
//
// cuInit creates it (Start); nothing exists before, and nothing is ever destroyed, because exit
// handlers of the application may still call CUDA. A function begins with Enter or EnterContext,
// which answer with the right CUDA error before cuInit, in a forked child and after the end.
//
// Thread-safe. Entering costs two loads and one thread-local access.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/driver/context/context.h"
#include "client/driver/copy/arrivals.h"
#include "client/driver/launch/occupancy.h"
#include "client/driver/memory/device_memory.h"
#include "client/driver/memory/globals.h"
#include "client/driver/memory/host_registry.h"
#include "client/driver/module/link_state.h"
#include "client/driver/module/module.h"
#include "client/driver/object_table.h"
#include "client/driver/stream/stream.h"
#include "client/driver/thread_state.h"
#include "client/session/session.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/graph/graphs.h"

namespace farwarp::client {

class Arrays;
class Callbacks;
class GraphLayer;
class Pools;
class Managed;
class Vmm;

// The largest grid and block, per dimension.
struct LaunchLimits {
  int grid[3];
  int block[3];
};

// One vGPU that the application sees. Its ordinal is its place in Process::devices().
struct Device {
  Device(Session& session, std::uint32_t vgpu_number, const wire::DeviceSnapshot& snapshot,
         DeviceHeap::Range window);

  // 0 for an attribute that the server did not tell.
  int Attribute(int attribute) const noexcept {
    return attribute > 0 && attribute < CU_DEVICE_ATTRIBUTE_MAX
               ? attributes[static_cast<std::size_t>(attribute)]
               : 0;
  }

  const std::uint32_t vgpu;  // Ordinal in the lease.
  const wire::DeviceSnapshot& facts;
  const std::array<int, CU_DEVICE_ATTRIBUTE_MAX> attributes;
  const DeviceLimits limits;
  const LaunchLimits launch_limits;
  DeviceMemory memory;

  // The primary context: its handle stays the same for the life of the process. A reset ends it and
  // releases nothing: it is inactive until the next retain.
  Mutex primary_mutex;
  wire::Handle primary GUARDED_BY(primary_mutex);
  unsigned primary_references GUARDED_BY(primary_mutex) = 0;
  bool primary_active GUARDED_BY(primary_mutex) = false;
  unsigned primary_flags GUARDED_BY(primary_mutex) = 0;
};

// The range of stream priorities; lower numbers are the higher priorities.
inline constexpr int kLeastPriority = 0;
inline int GreatestPriority(const Device& device) noexcept {
  return device.Attribute(CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED) != 0 ? -5 : 0;
}

class Process {
 public:
  // What cuInit does, once; later calls return the first answer.
  static CUresult Start() noexcept;
  // The state if the process may use CUDA, else nullptr.
  static Process* Get() noexcept { return current_.load(std::memory_order_acquire); }
  // Why Get() is null.
  static CUresult NotReady() noexcept { return not_ready_.load(std::memory_order_relaxed); }

  // For tests: a state around a session that somebody else connected, current until Release, which
  // destroys it.
  static Process* Adopt(std::unique_ptr<Session> session);
  static void Release(Process* process);
  // For tests: what a session's owner passes on to the process.
  void HostFunctionReached(std::uint64_t number);

  Session& session() noexcept { return *session_; }
  // The server's, or if there is none, that of the API this library was made for.
  int driver_version() const noexcept;
  std::vector<std::unique_ptr<Device>>& devices() noexcept { return devices_; }
  // nullptr for a number that is no device.
  Device* FindDevice(CUdevice number) noexcept {
    return number >= 0 && static_cast<std::size_t>(number) < devices_.size()
               ? devices_[static_cast<std::size_t>(number)].get()
               : nullptr;
  }
  // The device whose part of the address window holds `address`.
  Device* DeviceOf(std::uint64_t address) noexcept;
  int OrdinalOf(const Device& device) const noexcept;

  ObjectTable<Context, wire::HandleKind::kContext> contexts;
  ObjectTable<Stream, wire::HandleKind::kStream> streams;
  ObjectTable<Event, wire::HandleKind::kEvent> events;
  ObjectTable<Module, wire::HandleKind::kModule> modules;
  ObjectTable<Library, wire::HandleKind::kLibrary> libraries;
  ObjectTable<Function, wire::HandleKind::kFunction> functions;
  ObjectTable<Kernel, wire::HandleKind::kKernel> kernels;
  ObjectTable<Link, wire::HandleKind::kLinkState> links;
  HostRegistry host;
  Globals globals;

  // An asynchronous device-to-host copy is on its way into [address, address + bytes), or a host
  // function that might write there has not run yet.
  bool HostMemoryPending(std::uint64_t address, std::uint64_t bytes);
  // The same, or its bytes may still be read.
  bool HostMemoryInUse(std::uint64_t address, std::uint64_t bytes);
  Arrivals& arrivals() noexcept { return *arrivals_; }

  bool launch_blocking() const noexcept { return launch_blocking_; }
  Callbacks& callbacks() noexcept { return *callbacks_; }
  GraphLayer& graph_layer() noexcept { return *graph_layer_; }
  graph::Graphs& graphs() noexcept { return *graphs_; }
  Pools& pools() noexcept { return *pools_; }
  Managed& managed() noexcept { return *managed_; }
  Vmm& vmm() noexcept { return *vmm_; }
  Arrays& arrays() noexcept { return *arrays_; }

 private:
  Process();
  // Builds the devices that CUDA_VISIBLE_DEVICES shows. `ordinals` are the grant's: which vGPU of
  // the lease is the program's first, second, …; empty for the lease's own order.
  CUresult Use(std::unique_ptr<Session> session, const std::vector<std::uint32_t>& ordinals);
  static CUresult Begin() noexcept;
  static void LeaveForksAlone() noexcept;
  static CUresult Connect(Process& process);

  static std::atomic<Process*> current_;
  static std::atomic<CUresult> not_ready_;

  std::unique_ptr<Session> session_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::unique_ptr<Arrivals> arrivals_;
  std::unique_ptr<Callbacks> callbacks_;
  std::unique_ptr<Pools> pools_;
  std::unique_ptr<Managed> managed_;
  std::unique_ptr<Vmm> vmm_;
  std::unique_ptr<Arrays> arrays_;
  std::unique_ptr<GraphLayer> graph_layer_;
  graph::Graphs* const graphs_;
  bool launch_blocking_ = false;
};

// What has ended here while the command that ends it on the server is still to be posted.
struct Ending {
  std::vector<decltype(Process::streams)::Removed> streams;
  std::vector<decltype(Process::events)::Removed> events;
  std::vector<decltype(Process::modules)::Removed> modules;
  std::vector<decltype(Process::libraries)::Removed> libraries;
  std::vector<decltype(Process::functions)::Removed> functions;
  std::vector<decltype(Process::kernels)::Removed> kernels;
};

// Who is calling.
struct Caller {
  Process* process = nullptr;
  ThreadState* thread = nullptr;
  wire::Handle context_handle;
  Context* context = nullptr;

  Session& session() const noexcept { return process->session(); }
  Device& device() const noexcept { return *context->device; }
};

// An initialised process.
CUresult Enter(Caller* caller) noexcept;
// An initialised process and a current context that is alive.
CUresult EnterContext(Caller* caller) noexcept;

}  // namespace farwarp::client

// Begins a function: FARWARP_ENTER(caller) or FARWARP_ENTER_CONTEXT(caller).
#define FARWARP_ENTER(caller)                                                              \
  ::farwarp::client::Caller caller;                                                        \
  if (const CUresult entered = ::farwarp::client::Enter(&caller); entered != CUDA_SUCCESS) \
  return entered
#define FARWARP_ENTER_CONTEXT(caller)                                                             \
  ::farwarp::client::Caller caller;                                                               \
  if (const CUresult entered = ::farwarp::client::EnterContext(&caller); entered != CUDA_SUCCESS) \
  return entered
