#include "server/daemon/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "farwarp/base/check.h"

namespace farwarp::server {
namespace {
constexpr std::uint64_t kWakeId = 0;
constexpr int kIdleMs = 1000;
}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return Status::FromErrno("epoll_create1", errno);
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Status::FromErrno("eventfd", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return Status::FromErrno("epoll_ctl", errno);
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake)
    : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

Status EventLoop::Add(int fd, std::uint32_t events, Watch watch) {
  const std::uint64_t id = next_id_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Status::FromErrno("epoll_ctl", errno);
  }
  watched_.emplace(id, Watched{fd, std::make_shared<Watch>(std::move(watch))});
  id_of_fd_[fd] = id;
  return Status::Ok();
}

Status EventLoop::Change(int fd, std::uint32_t events) {
  const auto id = id_of_fd_.find(fd);
  if (id == id_of_fd_.end()) return Status::NotFound("the descriptor is not watched");
  epoll_event event{};
  event.events = events;
  event.data.u64 = id->second;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return Status::FromErrno("epoll_ctl", errno);
  }
  return Status::Ok();
}

void EventLoop::Remove(int fd) {
  const auto id = id_of_fd_.find(fd);
  if (id == id_of_fd_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(id->second);
  id_of_fd_.erase(id);
}

EventLoop::TimerId EventLoop::After(std::chrono::nanoseconds delay, Task task) {
  const TimerId timer = next_timer_++;
  const Clock::time_point when = Clock::now() + delay;
  timers_.emplace(std::pair(when, timer), std::move(task));
  when_.emplace(timer, when);
  return timer;
}

void EventLoop::Cancel(TimerId timer) {
  const auto when = when_.find(timer);
  if (when == when_.end()) return;
  timers_.erase({when->second, timer});
  when_.erase(when);
}

void EventLoop::Post(Task task) {
  {
    const MutexLock lock(mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  // A full counter means that the loop is being woken already.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::Stop() {
  Post([this] { stopped_ = true; });
}

int EventLoop::RunTimers() {
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now && !stopped_) {
    auto due = timers_.extract(timers_.begin());
    when_.erase(due.key().second);
    due.mapped()();
  }
  if (timers_.empty()) return kIdleMs;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - Clock::now())
          .count();
  return left <= 0 ? 0 : left > kIdleMs ? kIdleMs : static_cast<int>(left);
}

void EventLoop::RunPosted() {
  std::vector<Task> tasks;
  {
    const MutexLock lock(mutex_);
    tasks.swap(posted_);
  }
  for (const Task& task : tasks) task();
}

void EventLoop::Run() {
  std::array<epoll_event, 64> events;
  while (!stopped_) {
    const int timeout_ms = RunTimers();
    const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   stopped_ ? 0 : timeout_ms);
    FARWARP_CHECK(ready >= 0 || errno == EINTR);
    for (int i = 0; i < ready; ++i) {
      // Copied: the structure is packed, so its members may not be referred to.
      const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
      const std::uint32_t bits = events[static_cast<std::size_t>(i)].events;
      if (id == kWakeId) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
        continue;
      }
      const auto found = watched_.find(id);
      if (found == watched_.end()) continue;
      const std::shared_ptr<Watch> watch = found->second.watch;  // It may remove itself.
      (*watch)(bits);
    }
    RunPosted();
  }
}

}  // namespace farwarp::server
