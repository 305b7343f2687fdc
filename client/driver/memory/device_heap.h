// DeviceHeap: names the addresses of one vGPU's device memory. It carves allocations out of ranges
// that the server has mapped, decides where a new range goes, and tells which ranges hold nothing
// any more. It does not talk to the server: DeviceMemory (device_memory.h) pays for ranges with
// credit and sends the commands.
//
// A range is a multiple of kGranularity. Allocations share ranges (best fit); what does not fit
// into mapped memory gets a new range just large enough, so a large allocation ends up with one
// that is empty, and can go back to the server, as soon as it is freed.
//
// External lock. Pure: no I/O, no clock. What throws because memory runs out leaves no trace.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace farwarp::client {

class DeviceHeap {
 public:
  static constexpr std::uint64_t kGranularity = std::uint64_t{2} << 20;
  static constexpr std::uint64_t kAlignment = 512;

  struct Range {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };
  struct Allocation {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;   // As asked for.
    std::uint64_t owner = 0;   // The context that allocated it.
    std::uint64_t serial = 0;  // Unique over the heap's life: CU_POINTER_ATTRIBUTE_BUFFER_ID.
  };

  // `window` is this vGPU's part of the address window; both numbers multiples of kGranularity.
  explicit DeviceHeap(Range window);

  // The bytes of a range that an allocation of `bytes` needs if no mapped one has room; 0 if it can
  // never fit.
  std::uint64_t RangeBytesFor(std::uint64_t bytes) const noexcept;
  // Carves from what is mapped. nullopt: no room, AddRange first. `bytes` is at least 1.
  std::optional<std::uint64_t> Allocate(std::uint64_t bytes, std::uint64_t owner);
  // Chooses a place for a range of `bytes` and treats it as mapped from now on.
  std::optional<Range> AddRange(std::uint64_t bytes);
  // Frees the allocation that begins at `address`; false if none does.
  bool Free(std::uint64_t address);
  // Ranges without allocations that would have to go so that at most `keep_bytes` of them are left;
  // those of large allocations first.
  std::vector<Range> EmptyRanges(std::uint64_t keep_bytes) const;
  // Forgets a range without allocations, which is no longer mapped.
  void RemoveEmptyRange(const Range& range) noexcept;

  // The allocation that `address` lies in.
  std::optional<Allocation> Find(std::uint64_t address) const;
  // True if [address, address + bytes) lies in one allocation; an empty range only needs `address`
  // to lie in one or at its end.
  bool Covers(std::uint64_t address, std::uint64_t bytes) const;
  // Addresses of all allocations of `owner`.
  std::vector<std::uint64_t> OwnedBy(std::uint64_t owner) const;

  Range window() const noexcept { return window_; }
  std::uint64_t mapped_bytes() const noexcept { return mapped_bytes_; }
  std::uint64_t allocated_bytes() const noexcept { return allocated_bytes_; }
  std::size_t allocations() const noexcept { return allocations_.size(); }

  // Recomputes everything that is kept redundantly; for tests.
  bool Consistent() const;

 private:
  void InsertFree(std::uint64_t address, std::uint64_t bytes);
  void EraseFree(std::map<std::uint64_t, std::uint64_t>::iterator free);
  std::map<std::uint64_t, std::uint64_t>::const_iterator RangeOf(std::uint64_t address) const;

  Range window_;
  std::map<std::uint64_t, std::uint64_t> ranges_;  // address → bytes
  std::map<std::uint64_t, std::uint64_t> free_;    // address → bytes, inside ranges
  std::set<std::pair<std::uint64_t, std::uint64_t>> free_by_size_;  // bytes, address
  std::map<std::uint64_t, Allocation> allocations_;
  std::uint64_t mapped_bytes_ = 0;
  std::uint64_t allocated_bytes_ = 0;  // Rounded to kAlignment.
  std::uint64_t next_serial_ = 1;
};

}  // namespace farwarp::client
