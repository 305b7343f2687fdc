// Deadline: a point on the monotonic clock by which a wait must end. Everything that waits takes
// one. Value type.
#pragma once

#include <chrono>

namespace farwarp {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static Deadline After(std::chrono::nanoseconds duration) {
    return Deadline(Clock::now() + duration);
  }
  static Deadline At(Clock::time_point when) { return Deadline(when); }

  Clock::time_point when() const noexcept { return when_; }
  bool expired() const { return Clock::now() >= when_; }
  // Milliseconds left, rounded up, at least 0 and at most about 24 days: what poll() takes.
  int remaining_ms() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(when_ - Clock::now()).count();
    if (left <= 0) return 0;
    return left > 2'000'000'000 ? 2'000'000'000 : static_cast<int>(left);
  }

 private:
  explicit Deadline(Clock::time_point when) : when_(when) {}
  Clock::time_point when_;
};

}  // namespace farwarp
