// Event: a point in a stream's work, with the time at which it was reached. Recording again gives
// it a new point; whoever waits for the old one goes on waiting for that. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "farwarp/base/thread_annotations.h"
#include "server/softgpu/api/stream/work.h"

namespace farwarp::softgpu {

class Context;

class Event {
 public:
  struct Point {
    std::shared_ptr<Work> work;
    std::atomic<std::int64_t> reached_ns{0};
  };

  Event(std::shared_ptr<Context> context, unsigned flags)
      : context_(std::move(context)), flags_(flags) {}

  const std::shared_ptr<Context>& context() const noexcept { return context_; }
  unsigned flags() const noexcept { return flags_; }

  // The last recorded point; null before the first.
  std::shared_ptr<Point> point() const EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return point_;
  }
  void set_point(std::shared_ptr<Point> point) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    point_ = std::move(point);
  }

 private:
  const std::shared_ptr<Context> context_;
  const unsigned flags_;
  mutable Mutex mutex_;
  std::shared_ptr<Point> point_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::softgpu
