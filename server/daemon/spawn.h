// Spawn: starts another program of ours with chosen descriptors and nothing else of the daemon's.
//
// posix_spawn, never fork: the daemon has gRPC's threads. The child leads its own process group,
// has default signal handling and an empty signal mask.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/base/deadline.h"
#include "farwarp/base/status.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::server {

// A started child: the pid stays ours until it is reaped through the pidfd.
struct ChildProcess {
  pid_t pid = -1;
  UniqueFd pidfd;  // Readable when it has ended.
};

struct ChildEnd {
  bool signalled = false;
  int code = 0;  // Exit code or signal number.

  bool clean() const noexcept { return !signalled && code == 0; }
  // "exit code 3" or "signal 11 (Segmentation fault)".
  std::string Describe() const;
};

// `fds` maps descriptors of this process to numbers in the child. Standard input is /dev/null.
Result<ChildProcess> Spawn(const std::string& path, const std::vector<std::string>& arguments,
                           std::span<const std::pair<int, int>> fds);
void KillGroup(const ChildProcess& child) noexcept;
// The child must have ended (pidfd readable). Whatever it had started ends with it.
ChildEnd Reap(ChildProcess& child) noexcept;

// The folder of the running program.
std::string ProgramFolder();

}  // namespace farwarp::server
