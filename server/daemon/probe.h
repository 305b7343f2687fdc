// Probe: asks a short-lived child (farwarp-worker --probe) what a driver offers, so that the daemon
// itself never loads one and a driver that crashes or hangs in cuInit costs an error message.
//
// Called once, before the daemon's loop runs. Waits at most its deadline.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "farwarp/base/deadline.h"
#include "farwarp/base/status.h"

namespace farwarp::server {

struct ProbedDevice {
  std::uint32_t ordinal = 0;
  std::string uuid;  // "GPU-…"
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_capability = 0;  // 10 * major + minor
  std::uint32_t sm_count = 0;
  std::string name;
};

struct DriverFacts {
  std::int32_t version = 0;  // As cuDriverGetVersion gives it.
  std::vector<ProbedDevice> devices;
};

// At least one device, or an error that says what is wrong with the driver and what to do.
Result<DriverFacts> ProbeDriver(const std::string& worker_program, const std::string& driver,
                                Deadline deadline);
// Derives the UUIDs of devices anew, from the node's name and what they were: unique in a pool, the
// same at every start.
void NameDevicesAfter(const std::string& node_name, DriverFacts& facts);
// The child's lines; see server/worker/probe_driver.h. Exposed for tests.
Result<DriverFacts> ParseProbe(const std::string& text, const std::string& driver);

}  // namespace farwarp::server
