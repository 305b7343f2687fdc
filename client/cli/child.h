// Child: a program that farwarp starts, with the signals that farwarp gets passed on to it.
//
// Signals: a SignalWatch blocks those that farwarp handles before any thread exists and hands them
// out through a file descriptor. Signals that come from the terminal reach the child by themselves,
// as it is in the same process group; only those sent by other processes are passed on.
//
// External lock.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "farwarp/base/status.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {

class SignalWatch {
 public:
  // Call before any thread is started.
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  struct Got {
    int number = 0;
    bool from_process = false;  // Sent by kill(2) and the like, not by the terminal.
  };
  int fd() const { return fd_.get(); }
  std::optional<Got> Take();
  const sigset_t& original_mask() const { return original_; }

 private:
  sigset_t original_;
  UniqueFd fd_;
};

struct ChildOptions {
  std::vector<std::string> arguments;    // arguments[0] is the name it sees.
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<int> inherited_fds;        // Beyond 0, 1 and 2; same numbers there.
  bool own_group = false;                // Out of the terminal's reach.
  int standard_output = -1;              // Instead of farwarp's.
  int standard_error = -1;               // Likewise.
  bool no_input = false;                 // /dev/null as standard input.
};

class Child {
 public:
  static Result<Child> Start(const std::string& path, const ChildOptions& options,
                             const sigset_t& signal_mask);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  // Kills what still runs.
  ~Child();

  pid_t pid() const { return pid_; }
  void Send(int signal) const;
  // The exit code as a shell counts it (128 + n for signal n), or nothing while it runs.
  std::optional<int> Poll();

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::optional<int> code_;
};

// The own environment with `changes` ("NAME=value") applied.
std::vector<std::string> EnvironmentWith(const std::vector<std::string>& changes);

}  // namespace farwarp::cli
