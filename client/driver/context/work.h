// Work: what the client knows about whether the device may still be using something. Counts the
// work given to one context and how much of it is known to be done, so that a cuMemFree after a
// synchronisation need not wait again.
//
// Begin() and Mark() are called while the caller holds the stream's tail (between a Command's
// construction and its Post), so the numbers follow the order of the stream. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace farwarp::client {

class Work {
 public:
  // Work enters a stream. `beside_legacy`: one that the legacy default stream does not wait for.
  void Begin(bool beside_legacy) noexcept {
    const std::uint64_t number = begun_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (beside_legacy) beside_.store(number, std::memory_order_relaxed);
  }
  // Everything given so far; to be passed to a Settle… once a wait that covers it has returned.
  std::uint64_t Mark() const noexcept { return begun_.load(std::memory_order_relaxed); }

  // The whole context was waited for.
  void Settle(std::uint64_t mark) noexcept {
    std::uint64_t known = settled_.load(std::memory_order_relaxed);
    while (known < mark &&
           !settled_.compare_exchange_weak(known, mark, std::memory_order_relaxed)) {
    }
  }
  // The legacy default stream was waited for, and with it every stream that it waits for.
  void SettleLegacy(std::uint64_t mark) noexcept {
    if (beside_.load(std::memory_order_relaxed) <= settled_.load(std::memory_order_relaxed)) {
      Settle(mark);
    }
  }
  // Whether what had been given when `mark` was taken is known to be over.
  bool settled(std::uint64_t mark) const noexcept {
    return settled_.load(std::memory_order_relaxed) >= mark;
  }
  bool idle() const noexcept {
    return settled_.load(std::memory_order_relaxed) >= begun_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> begun_{0};
  std::atomic<std::uint64_t> settled_{0};
  std::atomic<std::uint64_t> beside_{
      0};  // Number of the last piece of work beside the legacy stream.
};

}  // namespace farwarp::client
