// Placement: which devices of one node carry the vGPUs of a request.
//
// Best fit: every vGPU goes where the least memory is left over, so that large holes stay for large
// requests. The first answer tried is best-fit-decreasing; when that gets stuck, a bounded search
// looks for any other arrangement. Pure and deterministic, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controller/pool/types.h"
#include "farwarp/base/status.h"

namespace farwarp::pool {

// What a device has and what of it is not promised to anybody.
struct DeviceRoom {
  const Device* device = nullptr;
  std::uint64_t total_bytes = 0;  // Whole units.
  std::uint64_t free_bytes = 0;
  std::uint32_t free_percent = kWholeDevicePercent;
};

struct Placement {
  std::vector<Vgpu> vgpus;           // By ordinal, as they were asked.
  std::uint64_t leftover_bytes = 0;  // Free memory left on the devices that are used.
};

// Refuses requests that break a rule, whatever the pool looks like.
Status CheckRequest(const Request& request);
// The vGPU that `ask` means on a device with `total_bytes`. Memory in whole units.
Vgpu ResolveAsk(const VgpuAsk& ask, std::uint64_t total_bytes);
// Nothing when they do not fit (or none was found within the search bound).
std::optional<Placement> Place(std::span<const VgpuAsk> asks, std::span<const DeviceRoom> rooms);

}  // namespace farwarp::pool
