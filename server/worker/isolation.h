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

}  // namespace farwarp::server
