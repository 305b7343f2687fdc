// EventLoop: the daemon's one thread. Descriptors, timers and work posted by other threads become
// callbacks that run one at a time, so the state they touch needs no lock.
//
// Callbacks must not wait. Everything is for the loop's thread, except Post and Stop, which any
// thread may call. A descriptor stays its owner's; it must be Removed before it is closed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::server {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Task = std::function<void()>;
  using Watch = std::function<void(std::uint32_t events)>;  // epoll's event bits.
  using TimerId = std::uint64_t;

  static Result<std::unique_ptr<EventLoop>> Create();

  Status Add(int fd, std::uint32_t events, Watch watch);
  Status Change(int fd, std::uint32_t events);
  void Remove(int fd);

  // Runs `task` once, `delay` from now. Cancelling a timer that has run does nothing.
  TimerId After(std::chrono::nanoseconds delay, Task task);
  void Cancel(TimerId timer);

  // Any thread. After Run has returned, posted tasks are dropped.
  void Post(Task task) EXCLUDES(mutex_);
  void Stop();

  void Run();

 private:
  struct Watched {
    int fd;
    std::shared_ptr<Watch> watch;
  };

  EventLoop(UniqueFd epoll, UniqueFd wake);
  int RunTimers();
  void RunPosted() EXCLUDES(mutex_);

  const UniqueFd epoll_;
  const UniqueFd wake_;
  bool stopped_ = false;
  // Events carry an id that is never reused: a descriptor closed and opened again during one round
  // must not receive its predecessor's events.
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, Watched> watched_;
  std::unordered_map<int, std::uint64_t> id_of_fd_;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers_;
  std::unordered_map<TimerId, Clock::time_point> when_;
  TimerId next_timer_ = 1;

  Mutex mutex_;
  std::vector<Task> posted_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::server
