// AllocationMap: every range of memory that the driver knows, by address: device allocations,
// pinned, managed and registered host memory, VMM mappings and the variables of modules. It answers
// what a pointer is, and whether a copy stays inside of what was allocated.
//
// Ownership: the map owns descriptions, not memory; whoever takes an Allocation out frees it.
// Threads: thread-safe. Answers are copies, so they are those of the moment.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

enum class MemoryKind {
  kDevice,      // cuMemAlloc and the pools.
  kPinned,      // cuMemHostAlloc: host memory inside the address space.
  kManaged,     // cuMemAllocManaged.
  kRegistered,  // cuMemHostRegister: the application's own memory.
  kMapped,      // cuMemMap.
  kVariable,    // .global and .const variables of a module.
  kArray,       // The texels of a CUDA array.
};

struct Allocation {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;          // What the caller asked for.
  std::uint64_t charged_bytes = 0;  // What the device's budget was charged.
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;             // Ordinal.
  std::uint64_t context = 0;  // Id of the owning context; 0: none, as VMM memory.
  unsigned flags = 0;         // Those of the call that made it.
  std::uint64_t id = 0;       // Unique in the process, given by Insert.
  std::uint64_t pool = 0;     // Handle of its memory pool, 0: none.
  bool readable = true;       // False: mapped, but without access yet.
  bool writable = true;
  bool sync_memops = false;          // CU_POINTER_ATTRIBUTE_SYNC_MEMOPS.
  std::shared_ptr<void> physical;    // Keeps the memory behind a VMM mapping alive.
  std::uint64_t mapping_offset = 0;  // Offset of a VMM mapping in its physical memory.

  std::uint64_t end() const noexcept { return address + bytes; }
};

class AllocationMap {
 public:
  // The range must not overlap another of this map; false if it does.
  bool Insert(Allocation allocation) EXCLUDES(mutex_);
  // Takes the allocation that starts at `address` out.
  std::optional<Allocation> Remove(std::uint64_t address) EXCLUDES(mutex_);
  // As above, but only if it is of that kind.
  std::optional<Allocation> Remove(std::uint64_t address, MemoryKind kind) EXCLUDES(mutex_);
  std::optional<Allocation> Find(std::uint64_t address) const EXCLUDES(mutex_);
  // What an address may have been meant for: the allocation that holds it or whose begin or end is
  // nearest. Nothing if there is none.
  std::optional<Allocation> Nearest(std::uint64_t address) const EXCLUDES(mutex_);
  // Whether [address, address + bytes) is allocated without a gap; copies may run over the seam of
  // two neighbouring VMM mappings. With `write`, whether it may be written too.
  bool Covers(std::uint64_t address, std::uint64_t bytes, bool write) const EXCLUDES(mutex_);
  // Whether any part of the range is known.
  bool Overlaps(std::uint64_t address, std::uint64_t bytes) const EXCLUDES(mutex_);
  // The allocations that lie wholly inside, if they cover the range without a gap; else empty.
  std::vector<Allocation> Exactly(std::uint64_t address, std::uint64_t bytes) const
      EXCLUDES(mutex_);
  // Changes one allocation under the lock: change(Allocation&).
  template <typename Change>
  bool Update(std::uint64_t address, Change change) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto found = by_address_.find(address);
    if (found == by_address_.end()) return false;
    change(found->second);
    return true;
  }
  // Takes out everything a context owns.
  std::vector<Allocation> RemoveOwnedBy(std::uint64_t context) EXCLUDES(mutex_);

 private:
  using ByAddress = std::map<std::uint64_t, Allocation>;
  ByAddress::const_iterator At(std::uint64_t address) const REQUIRES(mutex_);

  mutable Mutex mutex_;
  ByAddress by_address_ GUARDED_BY(mutex_);
  std::uint64_t next_id_ GUARDED_BY(mutex_) = 1;
};

}  // namespace farwarp::softgpu
