// AddressSpace: the one range of host addresses that holds everything a kernel may touch.
//
// A single PROT_NONE reservation, as large as a power of two and aligned to its size, contains the
// devices' memory, pinned and managed memory, windows of the VMM functions, and the engine's own
// windows (shared, local, parameters, constants). So one mask and compare tells whether an address
// of a kernel is harmless, and a wild pointer can never reach the heap or the stack of the process
// that hosts the device; what lies inside but is not committed faults by page protection.
//
// Ownership: ranges belong to whoever reserved them, until Release. The reservation lives as long
// as the process. Pages are lazily committed: Commit only makes them accessible, the kernel zeroes
// each at its first touch; Decommit gives them back, so a later Commit starts from zero again.
//
// The instance is the process's only one (the fault handler and address checks in the engine need
// it without a context). Threads: thread-safe.
#pragma once

#include <cstdint>
#include <map>

#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

class AddressSpace {
 public:
  // The granularity of all ranges: small enough to be exact, a multiple of the page size.
  static constexpr std::uint64_t kPage = 4096;

  enum class Access { kNone, kRead, kReadWrite };

  // The process's instance, created at the first call; the error says what the system refused.
  // On success the pointer stays valid until the process ends.
  static Result<AddressSpace*> Get();

  std::uint64_t base() const noexcept { return base_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  // (address & mask()) == base() is the membership test for one address.
  std::uint64_t mask() const noexcept { return ~(bytes_ - 1); }

  // Whether [address, address + bytes) lies inside. Also right for bytes that would wrap around.
  bool Contains(std::uint64_t address, std::uint64_t bytes = 1) const noexcept {
    return (address & mask()) == base_ && bytes <= bytes_ - (address - base_);
  }

  // Takes a free range without making it accessible. `bytes` is rounded up to whole pages, `align`
  // is a power of two (0: one page). With `fixed` other than 0 the range starts exactly there or
  // the call fails with kUnavailable; otherwise any free place is taken, away from the lower half
  // that is left to fixed requests as long as there is room above.
  Result<std::uint64_t> Reserve(std::uint64_t bytes, std::uint64_t align = 0,
                                std::uint64_t fixed = 0) EXCLUDES(mutex_);

  // Gives back a range that Reserve returned: its pages are decommitted, the addresses are free.
  Status Release(std::uint64_t address) EXCLUDES(mutex_);

  // Size of the range that Reserve returned for exactly this address; 0 if there is none.
  std::uint64_t ReservedBytes(std::uint64_t address) const EXCLUDES(mutex_);

  // Makes whole pages accessible. The range must lie inside the space and be page-aligned; the
  // caller owns it.
  Status Commit(std::uint64_t address, std::uint64_t bytes, Access access = Access::kReadWrite);
  // Makes pages inaccessible and drops their contents.
  Status Decommit(std::uint64_t address, std::uint64_t bytes);
  // Changes the protection and keeps the contents.
  Status Protect(std::uint64_t address, std::uint64_t bytes, Access access);
  // Makes pages large where that is possible, which must not be accessible yet: they are got and
  // given back by the hundred, and a process that ends is gone at once.
  void PreferLargePages(std::uint64_t address, std::uint64_t bytes);
  // Takes the pages of one such range to another, which must not be accessible; contents and
  // protection go along. Nothing is left behind. Fails on systems that cannot.
  Status MovePages(std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
  // Replaces pages by a shared mapping of a file (VMM allocations that are mapped repeatedly).
  Status MapFile(std::uint64_t address, std::uint64_t bytes, int fd, std::uint64_t offset,
                 Access access);

  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

 private:
  AddressSpace(std::uint64_t base, std::uint64_t bytes) : base_(base), bytes_(bytes) {}
  static Result<AddressSpace*> Create();
  // First free address in [from, to) for `bytes` at `align`; 0 if there is none.
  std::uint64_t FindFree(std::uint64_t bytes, std::uint64_t align, std::uint64_t from,
                         std::uint64_t to) const REQUIRES(mutex_);
  bool IsFree(std::uint64_t address, std::uint64_t bytes) const REQUIRES(mutex_);
  bool IsWholePages(std::uint64_t address, std::uint64_t bytes) const noexcept;

  const std::uint64_t base_;
  const std::uint64_t bytes_;
  mutable Mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> reserved_ GUARDED_BY(mutex_);  // Address → bytes.
};

}  // namespace farwarp::softgpu
