#include "client/driver/grant_source.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "farwarp/base/deadline.h"
#include "farwarp/base/unique_fd.h"

extern char** environ;

namespace farwarp::client {
namespace {

constexpr std::size_t kMaxGrantBytes = 64 << 10;

std::string ToolPath() {
  if (const char* path = std::getenv("FARWARP_CLI"); path != nullptr && *path != '\0') return path;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&FindGrant), &info) != 0 &&
      info.dli_fname != nullptr) {
    std::string library(info.dli_fname);
    if (const auto slash = library.rfind('/'); slash != std::string::npos) {
      const std::string tool = library.substr(0, slash) + "/../bin/farwarp";
      if (::access(tool.c_str(), X_OK) == 0) return tool;
    }
  }
  return "farwarp";
}

std::chrono::milliseconds Patience() {
  if (const char* text = std::getenv("FARWARP_GRANT_TIMEOUT_MS"); text != nullptr) {
    const long value = std::strtol(text, nullptr, 10);
    if (value > 0 && value <= 86'400'000) return std::chrono::milliseconds(value);
  }
  return std::chrono::seconds(10);
}

// The tool must not load our own libraries, or it would ask itself for a grant.
std::vector<char*> ToolEnvironment() {
  std::vector<char*> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("LD_PRELOAD=") && !text.starts_with("LD_LIBRARY_PATH=")) {
      kept.push_back(*entry);
    }
  }
  kept.push_back(nullptr);
  return kept;
}

// The end of the pipe that holds the lease, or -1.
std::atomic<int> hold_end{-1};

void CloseHold() noexcept {
  if (const int fd = hold_end.exchange(-1); fd >= 0) ::close(fd);
}

struct Pipe {
  UniqueFd read, write;
  bool Open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    read.reset(ends[0]);
    write.reset(ends[1]);
    return true;
  }
};

Result<std::string> ReadLine(int fd, Deadline deadline) {
  std::string line;
  for (;;) {
    pollfd wait{fd, POLLIN, 0};
    const int ready = ::poll(&wait, 1, deadline.remaining_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      return Status::Timeout(
          "farwarp grant gave no vGPU in time; see farwarp ps, or set FARWARP_GRANT_TIMEOUT_MS");
    }
    char bytes[512];
    const ssize_t got = ::read(fd, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Status::Unavailable("farwarp grant ended without a grant");
    line.append(bytes, static_cast<std::size_t>(got));
    if (const auto end = line.find('\n'); end != std::string::npos) {
      line.resize(end);
      return line;
    }
    if (line.size() > kMaxGrantBytes) return Status::Invalid("farwarp grant wrote no grant");
  }
}

// What the program does with its signals is no affair of the tool's.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    sigset_t none, usual;
    ::sigemptyset(&none);
    ::sigemptyset(&usual);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGCHLD}) ::sigaddset(&usual, signal);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &usual);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const noexcept { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// True once the tool has ended.
bool Ended(pid_t tool, Deadline deadline) {
  for (;;) {
    const pid_t ended = ::waitpid(tool, nullptr, WNOHANG);
    // Not our child any more, if the program reaps all that ends.
    if (ended == tool || (ended < 0 && errno != EINTR)) return true;
    if (deadline.expired()) return false;
    ::poll(nullptr, 0, 10);
  }
}

void End(pid_t tool) {
  CloseHold();
  ::kill(tool, SIGTERM);
  if (Ended(tool, Deadline::After(std::chrono::seconds(1)))) return;
  ::kill(-tool, SIGKILL);
  static_cast<void>(Ended(tool, Deadline::After(std::chrono::seconds(1))));
}

Result<wire::Grant> AskTool() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] { ::pthread_atfork(nullptr, nullptr, &CloseHold); });
  Pipe answer, hold;
  if (!answer.Open() || !hold.Open()) return Status::FromErrno("pipe", errno);
  // Open until ReleaseGrant or the end of the process: its end is the end of the lease.
  hold_end.store(hold.write.release());
  const std::string tool = ToolPath();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, hold.read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, answer.write.get(), 1);
  std::string argument0 = "farwarp", argument1 = "grant";
  char* arguments[] = {argument0.data(), argument1.data(), nullptr};
  auto environment = ToolEnvironment();
  pid_t child = -1;
  const SpawnAttributes attributes;
  const int error = ::posix_spawnp(&child, tool.c_str(), &actions, attributes.get(), arguments,
                                   environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    CloseHold();
    return Status::NotFound("there is no FARWARP_GRANT, and " + tool +
                            " cannot be started to get one; start the program with farwarp run");
  }
  answer.write.reset();
  hold.read.reset();
  auto line = ReadLine(answer.read.get(), Deadline::After(Patience()));
  if (!line.ok()) {
    End(child);
    return line.status();
  }
  return wire::ParseGrant(*line);
}

}  // namespace

Result<wire::Grant> FindGrant() {
  if (const char* text = std::getenv("FARWARP_GRANT"); text != nullptr && *text != '\0') {
    return wire::ParseGrant(text);
  }
  return AskTool();
}

void ReleaseGrant() noexcept {
  CloseHold();
}

}  // namespace farwarp::client
