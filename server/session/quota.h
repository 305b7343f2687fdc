// Quota: how much device memory a lease uses on each of its vGPUs, over all its worker processes,
// without a byte of overshoot.
//
// One shared page group (a sealed memfd) per lease, made by the daemon and mapped by each of the
// lease's workers:
//
//   page := Header limit:u64[vgpus] mutex slot[workers]        slot := used:u64[vgpus]
//
// There is deliberately no stored total: what is used is the sum over the slots, so a charge is ONE
// store into the worker's own slot and a process killed at any instruction leaves the books exact.
// Charging sums and stores under a robust, process-shared mutex, which the kernel passes on when
// its holder dies. The daemon gives a dead worker's share back by zeroing the slot that nobody
// writes any more. It never takes the mutex: a worker that was taken over could otherwise aim the
// mutex's list pointers at the daemon.
//
// Ownership: a Quota owns its mapping; the descriptor stays with whoever passed it.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "farwarp/base/status.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::server {

// Worker processes that one lease may have at a time on one node.
inline constexpr std::uint32_t kMaxWorkersPerLease = 256;

// What a worker, and each command handler in it, charges to.
class Quota {
 public:
  // Maps the books of a lease. `slot` is the place that the daemon gave to this process.
  static Result<Quota> Map(int memory_fd, std::uint32_t slot);

  Quota(Quota&& other) noexcept;
  Quota& operator=(Quota&& other) noexcept;
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;
  ~Quota();

  std::uint32_t vgpus() const noexcept;
  // True, and the bytes are charged, if they still fit into the lease's limit; else nothing
  // changes. A forged vGPU ordinal does not fit.
  [[nodiscard]] bool Charge(std::uint32_t vgpu, std::uint64_t bytes) noexcept;
  // Gives back what this process charged. More than that is a bug of the caller and is cut off at
  // what is charged: returns what was really given back.
  std::uint64_t Discharge(std::uint32_t vgpu, std::uint64_t bytes) noexcept;
  // Of the whole lease, all its processes together.
  std::uint64_t Used(std::uint32_t vgpu) const noexcept;
  // Of this process alone.
  std::uint64_t Mine(std::uint32_t vgpu) const noexcept;
  std::uint64_t Limit(std::uint32_t vgpu) const noexcept;

 private:
  friend class QuotaBook;
  Quota(std::byte* memory, std::size_t bytes, std::uint32_t vgpus, std::uint32_t slot) noexcept
      : memory_(memory), bytes_(bytes), vgpus_(vgpus), slot_(slot) {}

  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint32_t vgpus_ = 0;  // Our copy: the shared one may be overwritten.
  std::uint32_t slot_ = 0;
};

// The daemon's side: makes the books, hands out slots, takes them back. External lock.
class QuotaBook {
 public:
  // One limit per vGPU, by ordinal.
  static Result<QuotaBook> Create(std::span<const std::uint64_t> limits);

  QuotaBook(QuotaBook&&) noexcept = default;
  QuotaBook& operator=(QuotaBook&&) noexcept = default;

  // Passed to workers; stays open as long as the book.
  int fd() const noexcept { return memory_fd_.get(); }
  // kLimit when kMaxWorkersPerLease processes hold one.
  Result<std::uint32_t> TakeSlot();
  // The holder must be dead (reaped): everything it still had charged is given back.
  void FreeSlot(std::uint32_t slot);

  std::uint32_t vgpus() const noexcept { return static_cast<std::uint32_t>(limits_.size()); }
  std::uint64_t Used(std::uint32_t vgpu) const noexcept { return view_.Used(vgpu); }
  std::uint64_t Limit(std::uint32_t vgpu) const noexcept {
    return vgpu < limits_.size() ? limits_[vgpu] : 0;
  }

 private:
  QuotaBook(UniqueFd memory_fd, Quota view, std::span<const std::uint64_t> limits);

  UniqueFd memory_fd_;
  Quota view_;
  std::vector<std::uint64_t> limits_;
  std::vector<bool> taken_;
};

}  // namespace farwarp::server
