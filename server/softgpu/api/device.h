// Device: one imitated GPU: its facts, its memory, its primary context and its default memory pool.
//
// Ownership: the Driver owns all devices for the life of the process; references to them never
// dangle. Threads: thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "server/softgpu/api/config.h"
#include "server/softgpu/memory/budget.h"
#include "server/softgpu/memory/physical_memory.h"

namespace farwarp::softgpu {

class Context;

class Device {
 public:
  Device(int ordinal, const SoftGpuConfig& config);

  int ordinal() const noexcept { return ordinal_; }
  const std::string& name() const noexcept { return name_; }
  int compute_capability() const noexcept { return major_ * 10 + minor_; }
  int multiprocessors() const noexcept { return multiprocessors_; }
  const std::array<unsigned char, 16>& uuid() const noexcept { return uuid_; }
  // "0000:01:00.0"
  std::string PciBusId() const;
  MemoryBudget& budget() noexcept { return budget_; }
  // The memory behind cuMemCreate; made at its first use.
  Result<std::shared_ptr<PhysicalMemory>> Physical() EXCLUDES(mutex_);

  // False: there is no such attribute.
  bool Attribute(CUdevice_attribute attribute, int* value) const noexcept;

  // The primary context as cuDevicePrimaryCtx* see it. Its handle stays the same for the life of
  // the process, whatever context is behind it.
  struct Primary {
    CUcontext handle = nullptr;
    std::shared_ptr<Context> context;
    unsigned retained = 0;
    unsigned flags = 0;
  };
  Mutex primary_mutex;
  Primary primary GUARDED_BY(primary_mutex);

  // The pool of cuMemAllocAsync, and the one the program made the device's own.
  CUmemoryPool default_pool = nullptr;  // Set once, when the driver starts.
  std::atomic<CUmemoryPool> current_pool{nullptr};

 private:
  const int ordinal_;
  const std::string name_;
  const int major_;
  const int minor_;
  const int multiprocessors_;
  std::array<unsigned char, 16> uuid_{};
  MemoryBudget budget_;
  Mutex mutex_;
  std::shared_ptr<PhysicalMemory> physical_ GUARDED_BY(mutex_);
};

// Facts that several parts need; the same for all devices.
// Compute capability, from which on there are clusters.
inline constexpr int kFirstWithClusters = 90;
inline constexpr int kMaxThreadsPerBlock = 1024;
inline constexpr int kMaxBlockZ = 64;
inline constexpr int kMaxGridYZ = 65535;
inline constexpr int kWarpSize = 32;
inline constexpr int kSharedPerBlock = 48 << 10;
inline constexpr int kSharedPerBlockOptin = 99 << 10;
inline constexpr int kSharedPerMultiprocessor = 100 << 10;
inline constexpr int kReservedSharedPerBlock = 1 << 10;
inline constexpr int kThreadsPerMultiprocessor = 1536;
inline constexpr int kBlocksPerMultiprocessor = 24;
inline constexpr int kRegisters = 65536;
inline constexpr int kTextureAlignment = 512;  // Also the pitch of cuMemAllocPitch.
inline constexpr std::size_t kVmmGranularity = std::size_t{2} << 20;
inline constexpr int kLeastPriority = 0;
inline constexpr int kGreatestPriority = -5;

}  // namespace farwarp::softgpu
