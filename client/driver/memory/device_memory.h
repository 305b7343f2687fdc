// DeviceMemory: one vGPU's device memory as the application sees it: a DeviceHeap whose ranges are
// paid for with memory credit.
//
// The server has charged the credit to the lease before the client spends it, so mapping a range
// needs no reply and cannot exceed the quota. An allocation that the credit does not cover asks for
// exactly what is missing; that is the only call here that waits. Memory of freed ranges becomes
// credit again; what exceeds kKeepCredit goes back to the lease.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "client/driver/memory/device_heap.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

class Session;

class DeviceMemory {
 public:
  static constexpr std::uint64_t kKeepCredit = std::uint64_t{64} << 20;
  static constexpr std::uint64_t kKeepEmpty = std::uint64_t{32} << 20;  // Mapped, holding nothing.

  DeviceMemory(Session& session, std::uint32_t vgpu, DeviceHeap::Range window,
               std::uint64_t credit);

  // CUDA_ERROR_OUT_OF_MEMORY leaves everything as it was and is not sticky.
  CUresult Allocate(std::uint64_t bytes, std::uint64_t owner, std::uint64_t* address)
      EXCLUDES(mutex_);
  // The device must be done with the memory. CUDA_ERROR_INVALID_VALUE if nothing begins there.
  CUresult Free(std::uint64_t address) EXCLUDES(mutex_);
  // Everything of a context that has ended.
  void FreeOwnedBy(std::uint64_t owner) EXCLUDES(mutex_);
  // What is free and what the quota is, from the server.
  CUresult Info(std::uint64_t* free_bytes, std::uint64_t* total_bytes) EXCLUDES(mutex_);

  std::optional<DeviceHeap::Allocation> Find(std::uint64_t address) const EXCLUDES(mutex_);
  bool Covers(std::uint64_t address, std::uint64_t bytes) const EXCLUDES(mutex_);
  DeviceHeap::Range window() const noexcept { return window_; }
  // The part of the window that the heap leaves to the application's own mappings (vmm.h).
  DeviceHeap::Range mappable() const noexcept {
    const std::uint64_t heap = HeapOf(window_).bytes;
    return {window_.address + heap, window_.bytes - heap};
  }
  // Credit for memory that does not come from the heap, and back.
  CUresult Spend(std::uint64_t bytes) EXCLUDES(mutex_);
  CUresult Regain(std::uint64_t bytes) EXCLUDES(mutex_);
  std::uint64_t credit() const EXCLUDES(mutex_);
  // Bytes that the server has mapped, and true if the books of them agree; for tests.
  std::uint64_t mapped_bytes() const EXCLUDES(mutex_);
  bool Consistent() const EXCLUDES(mutex_);

 private:
  static DeviceHeap::Range HeapOf(DeviceHeap::Range window) noexcept {
    constexpr std::uint64_t kUnit = DeviceHeap::kGranularity;
    return {window.address, window.bytes / 2 / kUnit * kUnit};
  }
  // Maps a range for `bytes`; without the credit for it, says how much is `missing`.
  CUresult MapFor(std::uint64_t bytes, std::uint64_t* missing) REQUIRES(mutex_);
  CUresult PostRange(wire::InternalCommand id, const DeviceHeap::Range& range) REQUIRES(mutex_);
  CUresult Acquire(std::uint64_t bytes) EXCLUDES(mutex_);
  CUresult UnmapEmpty(std::uint64_t keep_bytes) REQUIRES(mutex_);
  CUresult ReturnSurplus() REQUIRES(mutex_);

  Session& session_;
  const std::uint32_t vgpu_;
  const DeviceHeap::Range window_;
  mutable Mutex mutex_;
  DeviceHeap heap_ GUARDED_BY(mutex_);
  std::uint64_t credit_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::client
