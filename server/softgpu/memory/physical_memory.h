// PhysicalMemory: the memory behind cuMemCreate.
//
// What is mapped at one place, all of it, is anonymous memory there: it comes in large pages, and
// the system takes it back from a dead process in a fraction of the time that a file's pages cost.
// While it is mapped nowhere it waits at an address of its own. What is mapped in part or a second
// time moves to a part of one sparse memory file, which can be mapped at several addresses; a
// device needs one descriptor for it, however many allocations it has. From there it does not come
// back.
//
// Ownership: an Extent gives its memory back to the system, so that the next owner finds zeros,
// when the last shared_ptr to it goes; who maps it holds one until it is unmapped. Threads:
// thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/base/unique_fd.h"
#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/memory/budget.h"
#include "server/softgpu/memory/in_use.h"

namespace farwarp::softgpu {

class PhysicalMemory : public std::enable_shared_from_this<PhysicalMemory> {
 public:
  class Extent {
   public:
    Extent(std::shared_ptr<PhysicalMemory> o, std::uint64_t at, std::uint64_t n, bool paid)
        : owner(std::move(o)), offset(at), bytes(n), charged(paid) {}
    ~Extent();
    Extent(const Extent&) = delete;
    Extent& operator=(const Extent&) = delete;

    const std::shared_ptr<PhysicalMemory> owner;
    const std::uint64_t offset;  // In the file.
    const std::uint64_t bytes;
    const bool charged;

   private:
    friend class PhysicalMemory;
    enum class Place { kNowhere, kMapping, kWaiting, kFile };
    // Guarded by the owner's places_mutex_.
    Place place_ = Place::kNowhere;
    std::uint64_t address_ = 0;  // Of the mapping, or where it waits.
    AddressSpace::Access access_ = AddressSpace::Access::kNone;  // Of the mapping.
  };

  // The budget must outlive this object and its extents.
  static Result<std::shared_ptr<PhysicalMemory>> Create(MemoryBudget& budget);

  // kLimit if the device has not so much left; `charge` is false for host memory.
  Result<std::shared_ptr<Extent>> Allocate(std::uint64_t bytes, bool charge);

  // Maps [offset, offset + bytes) of an extent of this memory at an address that nothing is mapped
  // at, without access to it. `in_use` is told if memory has to move for it.
  Status Map(Extent& extent, std::uint64_t address, std::uint64_t bytes, std::uint64_t offset,
             InUse& in_use) EXCLUDES(places_mutex_);
  // Undoes one Map. No copy touches the range.
  Status Unmap(Extent& extent, std::uint64_t address, std::uint64_t bytes) EXCLUDES(places_mutex_);
  // Of one mapping.
  Status Protect(Extent& extent, std::uint64_t address, std::uint64_t bytes,
                 AddressSpace::Access access) EXCLUDES(places_mutex_);

 private:
  PhysicalMemory(AddressSpace& space, UniqueFd fd, MemoryBudget& budget)
      : space_(space), fd_(std::move(fd)), budget_(budget) {}
  bool CanMovePages();
  // From the mapping to where it waits, and back.
  Status PutAside(Extent& extent) REQUIRES(places_mutex_);
  Status BringBack(Extent& extent, std::uint64_t address) REQUIRES(places_mutex_);
  Status MoveToFile(Extent& extent, InUse& in_use) REQUIRES(places_mutex_);
  // Of what waits.
  Status CopyToFile(const Extent& extent) REQUIRES(places_mutex_);
  bool GiveBackPages(const Extent& extent);
  void Free(const Extent& extent);

  AddressSpace& space_;
  const UniqueFd fd_;
  MemoryBudget& budget_;
  bool moves_pages_ = false;  // Constant after Create.
  Mutex places_mutex_;        // Before mutex_.
  Mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> used_ GUARDED_BY(mutex_);  // Offset → bytes.
};

}  // namespace farwarp::softgpu
