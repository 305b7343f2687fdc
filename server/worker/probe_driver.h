// ProbeDriver: the short-lived child's half of the daemon's probe: loads a driver and writes what
// it offers.
//
//   answer := "version" TAB number LF
//             ("device" TAB ordinal TAB memory_bytes TAB capability TAB sm_count TAB uuid TAB name
//             LF)+ "end" LF
//           | "error" TAB sentence LF
//
// One thread, once per process.
#pragma once

#include <memory>
#include <string>

#include "farwarp/base/status.h"
#include "server/driver/table.h"

namespace farwarp::server {

// The oldest driver with everything that a worker needs of it (CUDA 12.0).
inline constexpr int kOldestDriver = 12000;

struct LoadedDriver {
  std::unique_ptr<driver::Driver> driver;
  int version = 0;
  int device_count = 0;
};

// Loads and initialises `path`. Refuses Farwarp's own client library, which would call this server
// for ever, drivers that are too old, and drivers without a device.
Result<LoadedDriver> LoadDriver(const std::string& path);

// Name and number of a CUDA error, as the driver itself says it.
std::string DescribeError(const driver::Table& driver, CUresult result);

std::string ProbeAnswer(const std::string& path);

}  // namespace farwarp::server
