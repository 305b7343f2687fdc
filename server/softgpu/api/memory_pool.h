// MemoryPool: what cuMemAllocAsync allocates from. The software GPU has no cache to keep memory in,
// so a pool holds the attributes, counts what its allocations use, and frees at once what a stream
// frees. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace farwarp::softgpu {

class MemoryPool {
 public:
  MemoryPool(int device, bool is_default, std::uint64_t max_bytes = 0)
      : device_(device), is_default_(is_default), max_bytes_(max_bytes) {}

  int device() const noexcept { return device_; }
  bool is_default() const noexcept { return is_default_; }
  std::uint64_t used() const noexcept { return used_.load(); }
  std::uint64_t high() const noexcept { return high_.load(); }
  void ResetHigh() noexcept { high_.store(used_.load()); }

  // False if the pool's own maximum would be exceeded.
  bool Add(std::uint64_t bytes) noexcept {
    const std::uint64_t now = used_.fetch_add(bytes) + bytes;
    if (max_bytes_ != 0 && now > max_bytes_) {
      used_.fetch_sub(bytes);
      return false;
    }
    std::uint64_t high = high_.load();
    while (now > high && !high_.compare_exchange_weak(high, now)) {
    }
    return true;
  }
  void Remove(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes); }

  std::atomic<std::uint64_t> release_threshold{0};
  std::atomic<int> follow_event_dependencies{1};
  std::atomic<int> allow_opportunistic{1};
  std::atomic<int> allow_internal_dependencies{1};

 private:
  const int device_;
  const bool is_default_;
  const std::uint64_t max_bytes_;
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> high_{0};
};

}  // namespace farwarp::softgpu
