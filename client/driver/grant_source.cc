#include "client/driver/grant_source.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

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

Result<wire::Grant> AskTool() {
  Pipe answer, hold;
  if (!answer.Open() || !hold.Open()) return Status::FromErrno("pipe", errno);
  const std::string tool = ToolPath();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, hold.read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, answer.write.get(), 1);
  std::string argument0 = "farwarp", argument1 = "grant";
  char* arguments[] = {argument0.data(), argument1.data(), nullptr};
  auto environment = ToolEnvironment();
  pid_t child = -1;
  const int error =
      ::posix_spawnp(&child, tool.c_str(), &actions, nullptr, arguments, environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return Status::NotFound("there is no FARWARP_GRANT, and " + tool +
                            " cannot be started to get one; start the program with farwarp run");
  }
  answer.write.reset();
  hold.read.reset();
  auto line = ReadLine(answer.read.get(), Deadline::After(Patience()));
  if (!line.ok()) {
    ::kill(child, SIGTERM);
    ::waitpid(child, nullptr, 0);
    return line.status();
  }
  // Open for the life of the process: its end is the end of the lease.
  static_cast<void>(hold.write.release());
  return wire::ParseGrant(*line);
}

}  // namespace

Result<wire::Grant> FindGrant() {
  if (const char* text = std::getenv("FARWARP_GRANT"); text != nullptr && *text != '\0') {
    return wire::ParseGrant(text);
  }
  return AskTool();
}

}  // namespace farwarp::client
