#include "client/cli/child.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <utility>

#include "client/cli/exit_code.h"

namespace farwarp::cli {
namespace {

constexpr int kHandled[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
                            SIGUSR2, SIGCONT, SIGCHLD, SIGPIPE};

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What posix_spawn does in the child before the program starts.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
  }
  ~SpawnPlan() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void Fill(const ChildOptions& options, const sigset_t& signal_mask) {
    posix_spawnattr_setsigmask(&attributes_, &signal_mask);
    int flags = POSIX_SPAWN_SETSIGMASK;
    if (options.own_group) {
      posix_spawnattr_setpgroup(&attributes_, 0);
      flags |= POSIX_SPAWN_SETPGROUP;
    }
    posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
    if (options.no_input)
      posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (options.standard_output >= 0)
      posix_spawn_file_actions_adddup2(&actions_, options.standard_output, STDOUT_FILENO);
    if (options.standard_error >= 0)
      posix_spawn_file_actions_adddup2(&actions_, options.standard_error, STDERR_FILENO);
    // Duplicating a descriptor onto itself clears its close-on-exec flag.
    for (const int fd : options.inherited_fds) posix_spawn_file_actions_adddup2(&actions_, fd, fd);
  }
  const posix_spawnattr_t* attributes() const { return &attributes_; }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

}  // namespace

SignalWatch::SignalWatch() {
  sigset_t handled;
  sigemptyset(&handled);
  for (const int number : kHandled) sigaddset(&handled, number);
  pthread_sigmask(SIG_BLOCK, &handled, &original_);
  fd_.reset(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
}

SignalWatch::~SignalWatch() {
  // A write to a server that had died left this pending; it must not end farwarp now.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  const timespec at_once{};
  while (::sigtimedwait(&pipe, nullptr, &at_once) == SIGPIPE) {
  }
  pthread_sigmask(SIG_SETMASK, &original_, nullptr);
}

std::optional<SignalWatch::Got> SignalWatch::Take() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return Got{static_cast<int>(info.ssi_signo), info.ssi_code <= 0};
}

Result<Child> Child::Start(const std::string& path, const ChildOptions& options,
                           const sigset_t& signal_mask) {
  SpawnPlan plan;
  plan.Fill(options, signal_mask);
  const std::vector<char*> arguments = Pointers(options.arguments);
  const std::vector<char*> environment = Pointers(options.environment);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, path.c_str(), plan.actions(), plan.attributes(),
                                  arguments.data(), environment.data());
  if (error == ENOENT) return Status::NotFound(Status::FromErrno(path, error).message());
  if (error != 0) return Status::Invalid(Status::FromErrno(path, error).message());
  return Child(pid);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), code_(std::exchange(other.code_, std::nullopt)) {}

Child::~Child() {
  if (pid_ <= 0 || code_) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Child::Send(int signal) const {
  if (pid_ > 0 && !code_) ::kill(pid_, signal);
}

std::optional<int> Child::Poll() {
  if (code_ || pid_ <= 0) return code_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  if (WIFEXITED(status)) code_ = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) code_ = kSignalBase + WTERMSIG(status);
  return code_;
}

std::vector<std::string> EnvironmentWith(const std::vector<std::string>& changes) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    bool replaced = false;
    for (const std::string& change : changes) {
      const std::size_t name_bytes = change.find('=') + 1;
      replaced = replaced || text.compare(0, name_bytes, change, 0, name_bytes) == 0;
    }
    if (!replaced) environment.push_back(text);
  }
  environment.insert(environment.end(), changes.begin(), changes.end());
  return environment;
}

}  // namespace farwarp::cli
