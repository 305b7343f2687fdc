#include "client/driver/process.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "client/driver/copy/arrays.h"
#include "client/driver/grant_source.h"
#include "client/driver/launch/graph_backend.h"
#include "client/driver/memory/managed.h"
#include "client/driver/memory/pools.h"
#include "client/driver/memory/vmm.h"
#include "client/driver/stream/callbacks.h"
#include "client/driver/visible_devices.h"
#include "cuda/wire_table.h"
#include "farwarp/base/log.h"
#include "proto/cuda/driver_log.h"

namespace farwarp::client {
namespace {

// What a GPU at the other end of a network cannot do, or what this library does not offer yet,
// whatever the server's device says of itself.
constexpr int kAbsent[] = {
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS,
    CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR,
    CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1,
    CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1,
    CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR_V1,
    CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH,
    CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS,
    CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS,
    CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD,
    CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED,
};

using Attributes = std::array<int, CU_DEVICE_ATTRIBUTE_MAX>;

Attributes AttributesOf(const wire::DeviceSnapshot& snapshot) {
  Attributes attributes{};
  for (const auto& [attribute, value] : snapshot.attributes) {
    if (attribute > 0 && attribute < CU_DEVICE_ATTRIBUTE_MAX) {
      attributes[static_cast<std::size_t>(attribute)] = value;
    }
  }
  for (const int absent : kAbsent) attributes[static_cast<std::size_t>(absent)] = 0;
  attributes[CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING] = 1;
  return attributes;
}

DeviceLimits LimitsOf(const Attributes& a) {
  return {.warp_size = std::max(a[CU_DEVICE_ATTRIBUTE_WARP_SIZE], 1),
          .max_threads_per_block = a[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK],
          .max_threads_per_multiprocessor = a[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR],
          .max_blocks_per_multiprocessor = a[CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR],
          .registers_per_multiprocessor = a[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR],
          .registers_per_block = a[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK],
          .shared_per_multiprocessor = a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR],
          .shared_per_block = a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK],
          .shared_per_block_optin = a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN],
          .reserved_shared_per_block = a[CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK],
          .multiprocessors = a[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT]};
}

LaunchLimits LaunchLimitsOf(const Attributes& a) {
  return {{a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X], a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y],
           a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z]},
          {a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X], a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y],
           a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z]}};
}

// A program that cannot start is told why even if it never asked for a log.
void Complain(const std::string& why) noexcept {
  FARWARP_LOG(kError, "%s", why.c_str());
  if (LogShown(LogLevel::kError)) return;
  const std::string line = "farwarp: " + why + "\n";
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

bool Flag(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' && std::strcmp(value, "0") != 0;
}

pthread_once_t start_once = PTHREAD_ONCE_INIT;
std::atomic<CUresult> start_result{CUDA_ERROR_NOT_INITIALIZED};
std::atomic<bool> forked{false};

}  // namespace

std::atomic<Process*> Process::current_{nullptr};
std::atomic<CUresult> Process::not_ready_{CUDA_ERROR_NOT_INITIALIZED};

Device::Device(Session& session, std::uint32_t vgpu_number, const wire::DeviceSnapshot& snapshot,
               DeviceHeap::Range window)
    : vgpu(vgpu_number),
      facts(snapshot),
      attributes(AttributesOf(snapshot)),
      limits(LimitsOf(attributes)),
      launch_limits(LaunchLimitsOf(attributes)),
      memory(session, vgpu_number, window, snapshot.memory_credit_bytes) {}

Process::Process()
    : callbacks_(std::make_unique<Callbacks>(*this)),
      pools_(std::make_unique<Pools>(*this)),
      managed_(std::make_unique<Managed>(*this)),
      vmm_(std::make_unique<Vmm>(*this)),
      arrays_(std::make_unique<Arrays>(*this)),
      graph_layer_(std::make_unique<GraphLayer>(*this)),
      graphs_(&graph_layer_->graphs()),
      launch_blocking_(Flag("CUDA_LAUNCH_BLOCKING")) {}

CUresult Process::Use(std::unique_ptr<Session> session,
                      const std::vector<std::uint32_t>& ordinals) {
  session_ = std::move(session);
  arrivals_ = std::make_unique<Arrivals>(*session_);
  const auto& snapshots = session_->welcome().devices;
  std::vector<std::uint32_t> order = ordinals;
  for (std::uint32_t i = 0; ordinals.empty() && i < snapshots.size(); ++i) order.push_back(i);
  std::vector<DeviceUuid> uuids;
  for (const std::uint32_t vgpu : order) {
    if (vgpu >= snapshots.size()) {
      Complain("the grant names a vGPU that the server does not have");
      return CUDA_ERROR_DEVICE_UNAVAILABLE;
    }
    uuids.push_back(snapshots[vgpu].uuid);
  }
  const auto visible = VisibleDevices(std::getenv("CUDA_VISIBLE_DEVICES"), uuids);
  if (visible.empty()) return CUDA_ERROR_NO_DEVICE;
  // Every vGPU of the lease has an equal part of the window, visible or not, so that an address
  // says whose it is.
  const std::uint64_t share = session_->window().bytes / snapshots.size() /
                              DeviceHeap::kGranularity * DeviceHeap::kGranularity;
  for (const std::size_t vgpu : visible) {
    devices_.push_back(
        std::make_unique<Device>(*session_, static_cast<std::uint32_t>(vgpu), snapshots[vgpu],
                                 DeviceHeap::Range{session_->window().base + vgpu * share, share}));
  }
  return CUDA_SUCCESS;
}

CUresult Process::Connect(Process& process) {
  cuda::DriverLog::Get();
  // Who wants no device gets no lease.
  if (ShowsNone(std::getenv("CUDA_VISIBLE_DEVICES"))) return CUDA_ERROR_NO_DEVICE;
  const auto grant = FindGrant();
  if (!grant.ok()) {
    Complain(grant.status().message());
    return CUDA_ERROR_NO_DEVICE;
  }
  Session::Options options;
  options.table = wire::kApiTable;
  options.on_host_callback = [&process](std::uint64_t number) {
    process.HostFunctionReached(number);
  };
  auto session = Session::Connect(*grant, std::move(options));
  if (!session.ok()) {
    Complain(session.status().message());
    return session.status().code() == StatusCode::kVersion ? CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
                                                           : CUDA_ERROR_DEVICE_UNAVAILABLE;
  }
  std::vector<std::uint32_t> ordinals;
  for (const wire::GrantedGpu& gpu : grant->gpus) ordinals.push_back(gpu.ordinal);
  return process.Use(std::move(*session), ordinals);
}

// In a child the connection belongs to the parent: not a byte, not a lock.
void Process::LeaveForksAlone() noexcept {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] {
    pthread_atfork(nullptr, nullptr, [] {
      forked.store(true);
      not_ready_.store(CUDA_ERROR_NOT_INITIALIZED);
      current_.store(nullptr);
    });
  });
}

CUresult Process::Begin() noexcept {
  const auto give_up = [](Process* process, CUresult result) {
    // The lease is another's to have.
    if (process != nullptr && process->session_ != nullptr) process->session_->Stop();
    ReleaseGrant();
    not_ready_.store(result, std::memory_order_relaxed);
    return result;
  };
  Process* process = nullptr;
  try {
    // Never destroyed: exit handlers may still call CUDA.
    process = new Process;
    const CUresult result = Connect(*process);
    if (result != CUDA_SUCCESS) return give_up(process, result);
    LeaveForksAlone();
    current_.store(process, std::memory_order_release);
    if (Flag("FARWARP_STATS")) {
      std::atexit([] {
        if (Process* now = Get(); now != nullptr) {
          WriteStatistics(now->session().statistics(), std::getenv("FARWARP_STATS"));
        }
      });
    }
    return CUDA_SUCCESS;
  } catch (...) {
    return give_up(process, CUDA_ERROR_OUT_OF_MEMORY);
  }
}

CUresult Process::Start() noexcept {
  if (forked.load()) return CUDA_ERROR_NOT_INITIALIZED;
  if (Get() != nullptr) return CUDA_SUCCESS;
  pthread_once(&start_once, [] { start_result.store(Begin()); });
  return Get() != nullptr ? CUDA_SUCCESS : start_result.load();
}

Process* Process::Adopt(std::unique_ptr<Session> session) {
  auto* process = new Process;
  if (process->Use(std::move(session), {}) != CUDA_SUCCESS) return nullptr;
  LeaveForksAlone();
  current_.store(process, std::memory_order_release);
  return process;
}

void Process::Release(Process* process) {
  current_.store(nullptr, std::memory_order_release);
  process->session().Stop();
  process->callbacks_.reset();
  delete process;
}

void Process::HostFunctionReached(std::uint64_t number) {
  callbacks_->Reached(number);
}

int Process::driver_version() const noexcept {
  return session_->welcome().driver_version;
}

Device* Process::DeviceOf(std::uint64_t address) noexcept {
  for (const auto& device : devices_) {
    const auto window = device->memory.window();
    if (address - window.address < window.bytes) return device.get();
  }
  return nullptr;
}

int Process::OrdinalOf(const Device& device) const noexcept {
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (devices_[i].get() == &device) return static_cast<int>(i);
  }
  return 0;
}

bool Process::HostMemoryPending(std::uint64_t address, std::uint64_t bytes) {
  if (callbacks_->pending()) callbacks_->DropFailed();
  return callbacks_->pending() || arrivals_->Pending(address, bytes);
}

bool Process::HostMemoryInUse(std::uint64_t address, std::uint64_t bytes) {
  if (callbacks_->fetch_bytes() != 0) callbacks_->DropFailed();
  return callbacks_->fetch_bytes() != 0 || HostMemoryPending(address, bytes);
}

CUresult Enter(Caller* caller) noexcept {
  caller->process = Process::Get();
  if (caller->process == nullptr) return Process::NotReady();
  caller->thread = ThreadState::Get();
  if (caller->thread == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  caller->context_handle = caller->thread->contexts.top();
  SetCallingThreadContext(caller->context_handle.bits());
  return CUDA_SUCCESS;
}

CUresult EnterContext(Caller* caller) noexcept {
  if (const CUresult result = Enter(caller); result != CUDA_SUCCESS) return result;
  caller->context = caller->process->contexts.Find(caller->context_handle);
  if (caller->context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!caller->context->alive.load(std::memory_order_acquire)) {
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  // A failed context answers everything with its error, also what needs no server.
  const CUresult error = caller->session().error();
  if (error != CUDA_SUCCESS) {
    Arrivals& arrivals = caller->process->arrivals();
    arrivals.EndContext(caller->context_handle.bits(), arrivals.Mark());
  }
  return error;
}

}  // namespace farwarp::client
