#include "server/daemon/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <string_view>

namespace farwarp::server {
namespace {

// What must not reach a worker: grants, and libraries that belong to programs. A worker's driver is
// the one that --driver names.
bool IsForeign(std::string_view variable) {
  for (const std::string_view name :
       {"FARWARP_GRANT=", "LD_PRELOAD=", "FARWARP_SERVER_", "CUDA_LOG_FILE="}) {
    if (variable.substr(0, name.size()) == name) return true;
  }
  return false;
}

struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  int Prepare() {
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    return ::posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
};

}  // namespace

std::string ChildEnd::Describe() const {
  if (!signalled) return "exit code " + std::to_string(code);
  const char* name = ::sigdescr_np(code);
  return "signal " + std::to_string(code) + " (" + (name != nullptr ? name : "?") + ")";
}

Result<ChildProcess> Spawn(const std::string& path, const std::vector<std::string>& arguments,
                           std::span<const std::pair<int, int>> fds) {
  SpawnSettings settings;
  int error = settings.Prepare();
  // Copies above every target, so that placing one does not overwrite the source of another.
  constexpr int kAboveTargets = 64;
  std::vector<UniqueFd> sources;
  if (error == 0) {
    error = ::posix_spawn_file_actions_addopen(&settings.actions, 0, "/dev/null", O_RDONLY, 0);
  }
  for (const auto& [ours, theirs] : fds) {
    sources.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, kAboveTargets));
    if (!sources.back().valid()) return Status::FromErrno("cannot pass a descriptor", errno);
    if (error == 0) {
      error = ::posix_spawn_file_actions_adddup2(&settings.actions, sources.back().get(), theirs);
    }
  }
  if (error != 0) return Status::FromErrno("cannot prepare " + path, error);

  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsForeign(*variable)) environment.push_back(*variable);
  }
  environment.push_back(nullptr);

  ChildProcess child;
  error = ::posix_spawn(&child.pid, path.c_str(), &settings.actions, &settings.attributes,
                        argv.data(), environment.data());
  if (error != 0) return Status::FromErrno("cannot start " + path, error);
  child.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (!child.pidfd.valid()) {
    const int why = errno;
    ::kill(-child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    return Status::FromErrno("pidfd_open", why);
  }
  return child;
}

void KillGroup(const ChildProcess& child) noexcept {
  if (child.pid > 0) ::kill(-child.pid, SIGKILL);
}

ChildEnd Reap(ChildProcess& child) noexcept {
  // The zombie still holds the group's number, so this cannot hit a stranger.
  KillGroup(child);
  ChildEnd end;
  int status = 0;
  pid_t reaped = 0;
  do {
    reaped = ::waitpid(child.pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  child.pid = -1;
  end.signalled = WIFSIGNALED(status);
  end.code = end.signalled ? WTERMSIG(status) : WEXITSTATUS(status);
  return end;
}

std::string ProgramFolder() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : program.parent_path().string();
}

}  // namespace farwarp::server
