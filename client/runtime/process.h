// The runtime's state in this process and in each of its threads: whether the driver is ready,
// which device a thread uses, whose context is current, and the errors that are remembered.
//
// Nothing happens before the first CUDA call. That call loads and initialises the driver (Start);
// the first call of a thread that needs a context makes one current (Bind): the one that the
// program already made current through the driver API, otherwise the primary context of the
// thread's device. After fork the child may not use CUDA if the parent did: every call then answers
// cudaErrorInitializationError and touches neither driver nor lock.
//
// Thread-safe. The one Process lives until the process ends and is never destroyed, because
// programs call CUDA from their own exit handlers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/runtime/driver.h"
#include "client/runtime/error.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::runtime {

enum class StreamMode { kLegacy, kPerThread };

// What belongs to one thread. Plain data, so that it needs no constructor and no destructor.
struct ThreadState {
  cudaError_t last_error;
  // Which binding this thread has, by Process::epoch(); 0 before the first.
  uint64_t bound_epoch;
  CUcontext bound_context;
  // The device chosen by cudaSetDevice plus one, 0 before that.
  int device_plus_one;
  // The list of cudaSetValidDevices; tried in order when no device was chosen.
  static constexpr int kMaxValidDevices = 64;
  int valid_devices[kMaxValidDevices];
  int valid_device_count;

  int device() const noexcept { return device_plus_one > 0 ? device_plus_one - 1 : 0; }
};

ThreadState& CurrentThread() noexcept;

class Process {
 public:
  static Process& Get() noexcept;

  // Loads and initialises the driver, once. The first answer is kept for the life of the process.
  cudaError_t Start() noexcept {
    return phase_.load(std::memory_order_acquire) == kReady ? cudaSuccess : StartSlowly();
  }
  // Start, and a context current in this thread.
  cudaError_t Bind() noexcept {
    return CurrentThread().bound_epoch == epoch_.load(std::memory_order_acquire) ? cudaSuccess
                                                                                 : BindSlowly();
  }
  // After a call failed for want of a context: true if the program had taken it away and one is
  // current again, so that the call may be repeated.
  bool Rebind() noexcept;

  // Both need a successful Start.
  const Driver& driver(StreamMode mode = StreamMode::kLegacy) const noexcept {
    return mode == StreamMode::kLegacy ? tables_.legacy : tables_.per_thread;
  }
  int device_count() const noexcept { return device_count_; }
  // The driver's handle of a device; cudaErrorInvalidDevice for a number out of range.
  cudaError_t Device(int ordinal, CUdevice* device) const noexcept;
  // The number of a driver's handle; cudaErrorInvalidDevice if it is none of ours.
  cudaError_t Ordinal(CUdevice device, int* ordinal) const noexcept;

  // The version of the loaded driver, 0 without one. Loads it, but does not initialise it.
  int DriverVersion() noexcept;

  // Makes the device the thread's and its primary context current.
  cudaError_t SetDevice(int ordinal) noexcept;
  // Creates the primary context without making it current.
  cudaError_t RetainPrimary(int ordinal, CUcontext* context) noexcept;
  // Destroys everything on the calling thread's device; all threads bind anew.
  cudaError_t ResetDevice() noexcept;
  // The device of the current context, or the one that the next call will use.
  int CurrentDevice() noexcept;

  // Remembers an error for cudaGetLastError; returns it.
  cudaError_t Record(cudaError_t error) noexcept;
  // What cudaGetLastError and cudaPeekAtLastError return. An error that spoiled the current context
  // is returned again and again.
  cudaError_t LastError(bool clear) noexcept;

  // True once the process runs its exit handlers: device code need not be unloaded any more.
  bool exiting() const noexcept { return exiting_.load(std::memory_order_relaxed); }
  bool forked() const noexcept { return phase_.load(std::memory_order_acquire) == kForked; }
  bool started() const noexcept { return phase_.load(std::memory_order_acquire) == kReady; }

 private:
  enum Phase : int { kFresh, kStarting, kReady, kFailed, kForked };
  struct Primary {
    CUdevice device = 0;
    Mutex mutex;
    CUcontext context GUARDED_BY(mutex) = nullptr;
  };

  Process() noexcept;
  cudaError_t StartSlowly() noexcept;
  cudaError_t BindSlowly() noexcept;
  cudaError_t BindPrimary(int ordinal) noexcept;
  cudaError_t Initialise() REQUIRES(start_mutex_);
  void LoadOnce() REQUIRES(start_mutex_);
  static void AfterForkInChild();
  // The error that has spoiled the current context, from the driver: a call may report another
  // context's, and a context may end in ways that the runtime does not see.
  cudaError_t CurrentContextError(CUcontext* current) noexcept;

  std::atomic<int> phase_{kFresh};
  std::atomic<uint64_t> epoch_{1};
  std::atomic<bool> exiting_{false};

  Mutex start_mutex_;
  bool loaded_ GUARDED_BY(start_mutex_) = false;
  bool usable_ GUARDED_BY(start_mutex_) = false;
  std::atomic<int> driver_version_{0};
  // Written before phase_ leaves kStarting, read-only afterwards.
  cudaError_t start_error_ = cudaSuccess;
  DriverTables tables_{};
  int device_count_ = 0;
  std::unique_ptr<Primary[]> primaries_;

  // Contexts that were found spoiled, so that nobody asks the driver while all is well. One that
  // has ended since is found out when its handle is current again.
  Mutex spoiled_mutex_;
  std::vector<CUcontext> spoiled_ GUARDED_BY(spoiled_mutex_);
  std::atomic<bool> any_spoiled_{false};
};

}  // namespace farwarp::runtime
