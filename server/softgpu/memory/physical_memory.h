// PhysicalMemory: the memory behind cuMemCreate. All of it lies in one sparse memory file, so that
// the same memory can be mapped at several addresses, and a device needs one descriptor however
// many allocations it has.
//
// Ownership: an Extent gives its part of the file back (and its pages to the system, so that the
// next owner finds zeros) when the last shared_ptr to it goes. Threads: thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/base/unique_fd.h"
#include "server/softgpu/memory/budget.h"

namespace farwarp::softgpu {

class PhysicalMemory : public std::enable_shared_from_this<PhysicalMemory> {
 public:
  struct Extent {
    Extent(std::shared_ptr<PhysicalMemory> o, std::uint64_t at, std::uint64_t n, bool paid)
        : owner(std::move(o)), offset(at), bytes(n), charged(paid) {}
    ~Extent();
    Extent(const Extent&) = delete;
    Extent& operator=(const Extent&) = delete;

    const std::shared_ptr<PhysicalMemory> owner;
    const std::uint64_t offset;
    const std::uint64_t bytes;
    const bool charged;
  };

  // The budget must outlive this object and its extents.
  static Result<std::shared_ptr<PhysicalMemory>> Create(MemoryBudget& budget);

  // kLimit if the device has not so much left; `charge` is false for host memory.
  Result<std::shared_ptr<Extent>> Allocate(std::uint64_t bytes, bool charge);
  int fd() const noexcept { return fd_.get(); }

 private:
  PhysicalMemory(UniqueFd fd, MemoryBudget& budget) : fd_(std::move(fd)), budget_(budget) {}
  void Free(const Extent& extent);

  const UniqueFd fd_;
  MemoryBudget& budget_;
  Mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> used_ GUARDED_BY(mutex_);  // Offset → bytes.
};

}  // namespace farwarp::softgpu
