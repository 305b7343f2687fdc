// Whether a node's data port is within reach.
//
// Thread-safe.
#pragma once

#include <string>

#include "farwarp/base/status.h"

namespace farwarp::cli {

// Connects to host:port and closes again; waits 2 s at most.
Status Reach(const std::string& endpoint);

}  // namespace farwarp::cli
