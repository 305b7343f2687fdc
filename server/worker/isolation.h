// Isolation: what a worker does to itself before it touches its client or the driver.
//
// Once, first thing in main.
#pragma once

#include <cstdint>

#include "farwarp/base/status.h"

namespace farwarp::server {

// Ends with the daemon, holds no descriptor beyond the first `last_fd` + 1, writes no core files,
// gains no privileges. Needs no privileges itself.
Status Isolate(int last_fd);
// Fails if the daemon died before this process could ask to die with it.
Status CheckDaemon(std::uint32_t daemon_pid);

// Bounds the memory of this process's own: what it writes to and shares with nobody. Neither
// reserved addresses nor shared files count. A driver that keeps its devices' memory in this
// process has that counted, so the caller allows for it. An allocation beyond the limit fails;
// where nobody expects that, the process says so and ends with kExitOverMemory.
Status LimitMemory(std::uint64_t bytes);

}  // namespace farwarp::server
