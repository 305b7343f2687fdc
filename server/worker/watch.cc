#include "server/worker/watch.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

#include "server/worker/brief.h"

namespace farwarp::server {
namespace {

// Long enough to say goodbye to a client that reads.
constexpr std::chrono::milliseconds kAskedPatience{500};

std::atomic<int> end_code{kExitCutShort};

void ExitNow(int) {
  ::_exit(end_code.load(std::memory_order_relaxed));
}

}  // namespace

void BeginEnd(std::chrono::milliseconds patience, int exit_code) noexcept {
  // Nobody holds it for long, and the signal's handler never takes it.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  end_code.store(exit_code, std::memory_order_relaxed);
  // A signal, because any thread may be stuck in the driver.
  struct sigaction action{};
  action.sa_handler = &ExitNow;
  ::sigaction(SIGALRM, &action, nullptr);
  sigset_t alarm;
  ::sigemptyset(&alarm);
  ::sigaddset(&alarm, SIGALRM);
  ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
  itimerval timer{};
  ::getitimer(ITIMER_REAL, &timer);
  const std::chrono::microseconds left = std::chrono::seconds(timer.it_value.tv_sec) +
                                         std::chrono::microseconds(timer.it_value.tv_usec);
  if (left.count() != 0 && left <= patience) return;
  timer = {};
  timer.it_value.tv_sec = patience.count() / 1000;
  timer.it_value.tv_usec = patience.count() % 1000 * 1000;
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

Result<std::unique_ptr<Watch>> Watch::Start(
    int socket_fd, int control_fd, std::function<void(const wire::Farewell&)> on_farewell) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return Status::FromErrno("eventfd", errno);
  return std::unique_ptr<Watch>(
      new Watch(std::move(stop), socket_fd, control_fd, std::move(on_farewell)));
}

Watch::Watch(UniqueFd stop, int socket_fd, int control_fd,
             std::function<void(const wire::Farewell&)> on_farewell)
    : stop_(std::move(stop)),
      socket_fd_(socket_fd),
      control_fd_(control_fd),
      on_farewell_(std::move(on_farewell)),
      thread_([this] { Run(); }) {}

Watch::~Watch() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void Watch::Run() {
  std::array<pollfd, 3> wanted{
      {{stop_.get(), POLLIN, 0}, {control_fd_, POLLIN, 0}, {socket_fd_, POLLRDHUP, 0}}};
  for (;;) {
    if (::poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) return;
    if (wanted[0].revents != 0) return;
    if (wanted[1].revents != 0) {
      wanted[1].fd = -1;
      std::array<std::byte, 4096> payload;
      const ssize_t got = ::recv(control_fd_, payload.data(), payload.size(), MSG_DONTWAIT);
      BeginEnd(kAskedPatience, kExitCutShort);
      if (got > 0) {
        const auto farewell =
            wire::Farewell::Decode({payload.data(), static_cast<std::size_t>(got)});
        if (farewell.ok()) on_farewell_(*farewell);
      }
    }
    if (wanted[2].revents != 0) {
      wanted[2].fd = -1;
      BeginEnd(kGivingBackPatience, kExitCutShort);
    }
  }
}

}  // namespace farwarp::server
