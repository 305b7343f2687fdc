#include "server/worker/isolation.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include "server/worker/brief.h"

namespace farwarp::server {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

[[noreturn]] void EndOverMemory() noexcept {
  constexpr char kMessage[] = "farwarp-worker: out of memory; see --worker-memory\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  ::_exit(kExitOverMemory);
}

// Allocates nothing: there is nothing left to allocate.
[[noreturn]] void EndForAReason() {
  const std::exception_ptr thrown = std::current_exception();
  if (thrown == nullptr) std::abort();
  try {
    std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    EndOverMemory();
  } catch (const std::system_error& error) {
    // A thread, whose stack counts.
    if (error.code() == std::errc::resource_unavailable_try_again) EndOverMemory();
    std::abort();
  } catch (...) {
    std::abort();
  }
}

}  // namespace

Status Isolate(int last_fd) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return Status::FromErrno("PR_SET_PDEATHSIG", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Status::FromErrno("PR_SET_NO_NEW_PRIVS", errno);
  }
  if (::close_range(static_cast<unsigned>(last_fd) + 1, ~0u, 0) != 0) {
    return Status::FromErrno("close_range", errno);
  }
  for (int fd = 3; fd <= last_fd; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  // A core holds a tenant's data, and writing one delays giving the memory back.
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return Status::FromErrno("RLIMIT_CORE", errno);
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return Status::FromErrno("PR_SET_DUMPABLE", errno);
  ::signal(SIGPIPE, SIG_IGN);
  return Status::Ok();
}

Status CheckDaemon(std::uint32_t daemon_pid) {
  if (static_cast<std::uint32_t>(::getppid()) != daemon_pid) {
    return Status::Closed("the daemon has ended");
  }
  return Status::Ok();
}

Status LimitMemory(std::uint64_t bytes) {
  std::set_terminate(&EndForAReason);
  // A sanitizer's own books are beyond any limit: under one the worker could allocate nothing.
  if (kSanitized) return Status::Ok();
  const rlimit limit{bytes, bytes};
  if (::setrlimit(RLIMIT_DATA, &limit) != 0) return Status::FromErrno("RLIMIT_DATA", errno);
  return Status::Ok();
}

}  // namespace farwarp::server
