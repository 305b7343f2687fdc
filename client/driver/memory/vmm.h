// Vmm: virtual memory management by the application (cuMemAddressReserve, cuMemCreate, cuMemMap):
// the client names addresses and physical memory, so that nothing but credit that is missing needs
// a reply.
//
// Reservations lie in the upper half of a vGPU's part of the address window; the lower half is the
// heap of cuMemAlloc. None of it belongs to a context: what is said about it is sent although the
// calling thread's has failed. Thread-safe. Lives as long as the Process.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

struct Caller;
struct Device;
class Process;

class Vmm {
 public:
  static constexpr std::uint64_t kGranularity = std::uint64_t{2} << 20;

  struct Mapping {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    std::uint64_t offset = 0;
    std::uint64_t physical = 0;
    int ordinal = 0;  // Of the device whose memory it is.
    std::uint64_t serial = 0;
    std::map<int, CUmemAccess_flags> access;  // By device.
  };

  explicit Vmm(Process& process) : process_(process) {}

  CUresult Reserve(const Caller& caller, std::uint64_t bytes, std::uint64_t alignment,
                   std::uint64_t wish, CUdeviceptr* address) EXCLUDES(mutex_);
  CUresult Unreserve(std::uint64_t address, std::uint64_t bytes) EXCLUDES(mutex_);
  CUresult Create(const CUmemAllocationProp& props, std::uint64_t bytes,
                  CUmemGenericAllocationHandle* handle) EXCLUDES(mutex_);
  CUresult Release(CUmemGenericAllocationHandle handle) EXCLUDES(mutex_);
  CUresult Map(std::uint64_t address, std::uint64_t bytes, std::uint64_t offset,
               CUmemGenericAllocationHandle handle) EXCLUDES(mutex_);
  CUresult Unmap(std::uint64_t address, std::uint64_t bytes) EXCLUDES(mutex_);
  CUresult SetAccess(std::uint64_t address, std::uint64_t bytes, const CUmemAccessDesc* desc,
                     std::size_t count) EXCLUDES(mutex_);
  CUresult GetAccess(std::uint64_t address, int ordinal, unsigned long long* flags)
      EXCLUDES(mutex_);
  CUresult Retain(std::uint64_t address, CUmemGenericAllocationHandle* handle) EXCLUDES(mutex_);
  CUresult Properties(CUmemGenericAllocationHandle handle, CUmemAllocationProp* props)
      EXCLUDES(mutex_);

  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  // The mapping that `address` lies in.
  std::optional<Mapping> Find(std::uint64_t address) EXCLUDES(mutex_);
  // Whether all of it is mapped, without a gap, and accessible to some device.
  bool Covers(std::uint64_t address, std::uint64_t bytes) EXCLUDES(mutex_);

 private:
  struct Physical {
    CUmemAllocationProp props;
    std::uint64_t bytes;
    Device* device;
    std::uint64_t handles;  // That the application has.
    std::uint64_t mappings;
  };
  using Mappings = std::map<std::uint64_t, Mapping>;

  // The mappings that make up exactly this range; empty if they do not.
  std::vector<Mappings::iterator> Exactly(std::uint64_t address, std::uint64_t bytes)
      REQUIRES(mutex_);
  CUresult DropIfUnused(std::uint64_t number) REQUIRES(mutex_);

  Process& process_;
  std::atomic<bool> any_{false};
  Mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> reserved_ GUARDED_BY(mutex_);  // address → bytes
  std::map<std::uint64_t, Physical> physicals_ GUARDED_BY(mutex_);      // By handle.
  Mappings mappings_ GUARDED_BY(mutex_);
  std::uint64_t next_ GUARDED_BY(mutex_) = 1;
  std::uint64_t next_serial_ GUARDED_BY(mutex_) = std::uint64_t{1} << 40;
};

}  // namespace farwarp::client
