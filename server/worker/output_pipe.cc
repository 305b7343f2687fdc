#include "server/worker/output_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <utility>

namespace farwarp::server {
namespace {
constexpr int kPipeBytes = 1 << 20;
constexpr int kIdleMs = 1000;
constexpr std::size_t kReadBytes = 32768;
}  // namespace

Result<std::unique_ptr<OutputPipe>> OutputPipe::Create() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno("pipe2", errno);
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return Status::FromErrno("eventfd", errno);
  // Only our end must not wait. A kernel that prints faster than the network takes it waits while
  // this thread is the one that sends; text that waits behind another sender is kept in the
  // session.
  if (::fcntl(read_end.get(), F_SETFL, O_NONBLOCK) != 0 || ::dup2(write_end.get(), 1) != 1) {
    return Status::FromErrno("cannot redirect standard output", errno);
  }
  ::fcntl(write_end.get(), F_SETPIPE_SZ, kPipeBytes);  // More is better, not needed.
  // A driver that prints through this process's stdio must not keep text in its buffer.
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  return std::unique_ptr<OutputPipe>(new OutputPipe(std::move(read_end), std::move(stop)));
}

OutputPipe::OutputPipe(UniqueFd read_end, UniqueFd stop) noexcept
    : read_end_(std::move(read_end)), stop_(std::move(stop)) {}

OutputPipe::~OutputPipe() {
  Stop();
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void OutputPipe::Stop() {
  const MutexLock lock(mutex_);
  sink_ = nullptr;
}

void OutputPipe::Start(Sink sink) {
  {
    const MutexLock lock(mutex_);
    sink_ = std::move(sink);
  }
  thread_ = std::thread([this] { Run(); });
}

void OutputPipe::Flush() {
  const MutexLock lock(mutex_);
  char buffer[kReadBytes];
  // Bounded: what is printed while we read is the next call's.
  for (int read_bytes = 0; read_bytes < kPipeBytes;) {
    const ssize_t got = ::read(read_end_.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    read_bytes += static_cast<int>(got);
    if (sink_) sink_(std::string_view(buffer, static_cast<std::size_t>(got)));
  }
}

void OutputPipe::Run() {
  for (;;) {
    pollfd wanted[2] = {{read_end_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(wanted, 2, kIdleMs) < 0 && errno != EINTR) return;
    if (wanted[1].revents != 0) return;
    if (wanted[0].revents != 0) Flush();
  }
}

}  // namespace farwarp::server
