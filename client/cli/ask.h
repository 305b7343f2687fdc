// From what the user wrote (-n, -m, -p, --compute, --wait) to what is asked of the pool.
//
// Pure functions, thread-safe.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "controller/pool/types.h"
#include "farwarp/base/status.h"

namespace farwarp::cli {

// Empty text: not given.
struct AskText {
  std::string count = {};     // "2"
  std::string memory = {};    // "8Gi" or "1Gi,2Gi"
  std::string fraction = {};  // "0.5": half of a device's memory and compute
  std::string compute = {};   // "30": percent of a device's compute
  std::string wait = {};      // "10m"
};

struct Ask {
  std::vector<pool::VgpuAsk> vgpus;
  std::chrono::milliseconds wait{0};
};

// Errors name the option and what it should look like.
Result<Ask> ParseAsk(const AskText& text);

}  // namespace farwarp::cli
