// PrivateLease: the one lease of a daemon in private mode, as its launcher writes it.
//
//   line := "v1;lease=" hex32 ";secret=" hex64 (";gpu=" device "/" memory_bytes "/"
//           compute_percent)+ "\n"                        device := number | "any"
//
// Pure functions; ReadPrivateLine waits at most its deadline.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "farwarp/base/deadline.h"
#include "farwarp/base/status.h"
#include "farwarp/wire/grant.h"
#include "server/daemon/probe.h"
#include "server/worker/brief.h"

namespace farwarp::server {

struct PrivateLease {
  wire::LeaseId id{};
  wire::LeaseSecret secret{};
  std::vector<BriefVgpu> vgpus;
};

// Checks the numbers against the devices that are there. "any" takes the device with the most
// memory left.
Result<PrivateLease> ParsePrivateLease(std::string_view line, const DriverFacts& facts);
Result<std::string> ReadPrivateLine(int fd, Deadline deadline);

}  // namespace farwarp::server
