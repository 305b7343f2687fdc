#include "client/runtime/process.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "client/runtime/registry.h"
#include "farwarp/base/log.h"

namespace farwarp::runtime {
namespace {
constinit thread_local ThreadState thread_state{};
alignas(Process) unsigned char process_storage[sizeof(Process)];
}  // namespace

ThreadState& CurrentThread() noexcept {
  return thread_state;
}

Process& Process::Get() noexcept {
  static Process* const process = new (process_storage) Process();
  return *process;
}

Process::Process() noexcept {
  // A child must not find the registry locked by a thread that it does not have.
  pthread_atfork([] { Registry::Get().LockForFork(); }, [] { Registry::Get().UnlockAfterFork(); },
                 [] {
                   Registry::Get().UnlockAfterFork();
                   AfterForkInChild();
                 });
}

void Process::AfterForkInChild() {
  Process& process = Get();
  if (process.phase_.load(std::memory_order_relaxed) == kFresh) return;
  process.phase_.store(kForked, std::memory_order_release);
  process.epoch_.fetch_add(1, std::memory_order_release);
}

void Process::LoadOnce() {
  if (loaded_) return;
  loaded_ = true;
  int version = 0;
  const Status status = LoadDriver(&tables_, &version);
  driver_version_.store(version, std::memory_order_relaxed);
  usable_ = status.ok();
  if (!usable_) FARWARP_LOG(kError, "cuda runtime: %s", status.message().c_str());
  // Registered after the driver's own handlers, hence run before them.
  std::atexit([] { Get().exiting_.store(true, std::memory_order_relaxed); });
}

int Process::DriverVersion() noexcept {
  if (!forked()) {
    try {
      MutexLock lock(start_mutex_);
      LoadOnce();
    } catch (...) {
      return 0;
    }
  }
  return driver_version_.load(std::memory_order_relaxed);
}

cudaError_t Process::Initialise() {
  LoadOnce();
  if (!usable_) return cudaErrorInsufficientDriver;
  const Driver& d = tables_.legacy;
  CUresult result = d.Init(0);
  int count = 0;
  if (result == CUDA_SUCCESS) result = d.DeviceGetCount(&count);
  if (result != CUDA_SUCCESS) {
    FARWARP_LOG(kError, "cuda runtime: the driver does not start: error %d",
                static_cast<int>(result));
    return ToRuntimeError(result);
  }
  if (count <= 0) return cudaErrorNoDevice;
  primaries_ = std::make_unique<Primary[]>(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    result = d.DeviceGet(&primaries_[static_cast<size_t>(i)].device, i);
    if (result != CUDA_SUCCESS) return ToRuntimeError(result);
  }
  device_count_ = count;
  FARWARP_LOG(kInfo, "cuda runtime: driver %d, %d devices", driver_version_.load(), count);
  return cudaSuccess;
}

cudaError_t Process::StartSlowly() noexcept {
  if (phase_.load(std::memory_order_acquire) == kForked) return cudaErrorInitializationError;
  try {
    MutexLock lock(start_mutex_);
    const int phase = phase_.load(std::memory_order_acquire);
    if (phase == kReady) return cudaSuccess;
    if (phase == kFailed) return start_error_;
    phase_.store(kStarting, std::memory_order_release);
    start_error_ = Initialise();
    phase_.store(start_error_ == cudaSuccess ? kReady : kFailed, std::memory_order_release);
    return start_error_;
  } catch (...) {
    return cudaErrorMemoryAllocation;
  }
}

cudaError_t Process::Device(int ordinal, CUdevice* device) const noexcept {
  if (ordinal < 0 || ordinal >= device_count_) return cudaErrorInvalidDevice;
  *device = primaries_[static_cast<size_t>(ordinal)].device;
  return cudaSuccess;
}

cudaError_t Process::Ordinal(CUdevice device, int* ordinal) const noexcept {
  for (int i = 0; i < device_count_; ++i) {
    if (primaries_[static_cast<size_t>(i)].device == device) {
      *ordinal = i;
      return cudaSuccess;
    }
  }
  return cudaErrorInvalidDevice;
}

cudaError_t Process::RetainPrimary(int ordinal, CUcontext* context) noexcept {
  if (ordinal < 0 || ordinal >= device_count_) return cudaErrorInvalidDevice;
  Primary& primary = primaries_[static_cast<size_t>(ordinal)];
  MutexLock lock(primary.mutex);
  if (primary.context == nullptr) {
    CUcontext retained = nullptr;
    const CUresult result = tables_.legacy.DevicePrimaryCtxRetain(&retained, primary.device);
    if (result != CUDA_SUCCESS) return ToRuntimeError(result);
    primary.context = retained;
  }
  *context = primary.context;
  return cudaSuccess;
}

cudaError_t Process::BindPrimary(int ordinal) noexcept {
  // Read first: a reset in between makes the thread bind once more.
  const uint64_t epoch = epoch_.load(std::memory_order_acquire);
  CUcontext context = nullptr;
  cudaError_t error = RetainPrimary(ordinal, &context);
  if (error != cudaSuccess) return error;
  error = ToRuntimeError(tables_.legacy.CtxSetCurrent(context));
  if (error != cudaSuccess) return error;
  thread_state.bound_context = context;
  thread_state.bound_epoch = epoch;
  return cudaSuccess;
}

cudaError_t Process::BindSlowly() noexcept {
  if (const cudaError_t error = Start(); error != cudaSuccess) return error;
  const uint64_t epoch = epoch_.load(std::memory_order_acquire);
  CUcontext current = nullptr;
  const CUresult result = tables_.legacy.CtxGetCurrent(&current);
  if (result != CUDA_SUCCESS) return ToRuntimeError(result);
  if (current != nullptr && current != thread_state.bound_context) {
    // The program made a context of its own current; the runtime works in it.
    thread_state.bound_epoch = epoch;
    return cudaSuccess;
  }
  if (thread_state.device_plus_one > 0 || thread_state.valid_device_count == 0) {
    return BindPrimary(thread_state.device());
  }
  cudaError_t error = cudaErrorNoDevice;
  for (int i = 0; i < thread_state.valid_device_count; ++i) {
    error = BindPrimary(thread_state.valid_devices[i]);
    if (error != cudaSuccess) continue;
    thread_state.device_plus_one = thread_state.valid_devices[i] + 1;
    break;
  }
  return error;
}

bool Process::Rebind() noexcept {
  if (!started()) return false;
  CUcontext current = nullptr;
  if (tables_.legacy.CtxGetCurrent(&current) != CUDA_SUCCESS || current != nullptr) return false;
  thread_state.bound_epoch = 0;
  return Bind() == cudaSuccess;
}

cudaError_t Process::SetDevice(int ordinal) noexcept {
  if (const cudaError_t error = Start(); error != cudaSuccess) return error;
  const cudaError_t error = BindPrimary(ordinal);
  if (error == cudaSuccess) thread_state.device_plus_one = ordinal + 1;
  return error;
}

int Process::CurrentDevice() noexcept {
  CUdevice device = 0;
  int ordinal = 0;
  // The program may have made a context current before the thread's first call of the runtime.
  if (tables_.legacy.CtxGetDevice(&device) == CUDA_SUCCESS &&
      Ordinal(device, &ordinal) == cudaSuccess) {
    return ordinal;
  }
  if (thread_state.device_plus_one == 0 && thread_state.valid_device_count > 0) {
    return thread_state.valid_devices[0];
  }
  return thread_state.device();
}

cudaError_t Process::ResetDevice() noexcept {
  if (const cudaError_t error = Start(); error != cudaSuccess) return error;
  Primary& primary = primaries_[static_cast<size_t>(CurrentDevice())];
  MutexLock lock(primary.mutex);
  const CUresult reset = tables_.legacy.DevicePrimaryCtxReset(primary.device);
  if (primary.context != nullptr) {
    tables_.legacy.DevicePrimaryCtxRelease(primary.device);
    primary.context = nullptr;
  }
  epoch_.fetch_add(1, std::memory_order_release);
  return ToRuntimeError(reset);
}

cudaError_t Process::CurrentContextError(CUcontext* current) noexcept {
  *current = nullptr;
  if (tables_.legacy.CtxGetCurrent(current) != CUDA_SUCCESS || *current == nullptr) {
    return cudaSuccess;
  }
  // Any call would tell; this one changes nothing and waits for no work.
  size_t free_bytes = 0, total_bytes = 0;
  const cudaError_t error = ToRuntimeError(tables_.legacy.MemGetInfo(&free_bytes, &total_bytes));
  return IsSticky(error) ? error : cudaSuccess;
}

cudaError_t Process::Record(cudaError_t error) noexcept {
  if (error == cudaSuccess) return error;
  thread_state.last_error = error;
  CUcontext current = nullptr;
  if (!IsSticky(error) || !started() || CurrentContextError(&current) == cudaSuccess) return error;
  try {
    MutexLock lock(spoiled_mutex_);
    if (std::find(spoiled_.begin(), spoiled_.end(), current) == spoiled_.end()) {
      spoiled_.push_back(current);
    }
    any_spoiled_.store(true, std::memory_order_release);
  } catch (...) {  // Without memory the error is told once.
  }
  return error;
}

cudaError_t Process::LastError(bool clear) noexcept {
  cudaError_t error = thread_state.last_error;
  if (clear) thread_state.last_error = cudaSuccess;
  if (error != cudaSuccess || !started() || !any_spoiled_.load(std::memory_order_acquire)) {
    return error;
  }
  CUcontext current = nullptr;
  if (tables_.legacy.CtxGetCurrent(&current) != CUDA_SUCCESS || current == nullptr) return error;
  {
    MutexLock lock(spoiled_mutex_);
    if (std::find(spoiled_.begin(), spoiled_.end(), current) == spoiled_.end()) return error;
  }
  error = CurrentContextError(&current);
  if (error != cudaSuccess) return error;
  MutexLock lock(spoiled_mutex_);
  std::erase(spoiled_, current);
  any_spoiled_.store(!spoiled_.empty(), std::memory_order_release);
  return cudaSuccess;
}

}  // namespace farwarp::runtime
