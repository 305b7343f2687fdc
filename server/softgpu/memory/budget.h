// MemoryBudget: how much of one device's memory is in use. Exact: what is charged never exceeds
// the device's size, whatever the threads do. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace farwarp::softgpu {

class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t total) : total_(total) {}

  std::uint64_t total() const noexcept { return total_; }
  std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  std::uint64_t free() const noexcept { return total_ - used(); }

  // Takes `bytes` or nothing at all.
  [[nodiscard]] bool Charge(std::uint64_t bytes) noexcept {
    std::uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > total_ - used) return false;
      // Relaxed: the count orders nothing but itself.
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void Refund(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  const std::uint64_t total_;
  std::atomic<std::uint64_t> used_{0};
};

}  // namespace farwarp::softgpu
