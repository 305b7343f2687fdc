// DeviceFacts: what the pool is told of a physical device.
//
// Calls the driver; one thread, after cuInit.
#pragma once

#include <cstdint>
#include <string>

#include "farwarp/base/status.h"
#include "server/driver/table.h"
#include "server/session/vgpu_identity.h"

namespace farwarp::server {

struct DeviceFacts {
  CUdevice device = 0;
  std::string name;
  Uuid uuid{};
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_capability = 0;  // 10 * major + minor
  std::uint32_t sm_count = 0;
};

Result<DeviceFacts> ReadDevice(const driver::Table& driver, int ordinal);

// "GPU-" and the usual 8-4-4-4-12 digits.
std::string FormatUuid(const Uuid& uuid);

}  // namespace farwarp::server
