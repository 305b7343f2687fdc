// Grant: what a launcher gives a program so that it may use vGPUs, as one line of text in
// FARWARP_GRANT.
//
//   grant := "v1;lease=" hex32 ";secret=" hex64 (";gpu=" endpoint "/" ordinal "/" memory_bytes "/"
//   compute_percent)+
//
// The order of the gpu entries is the order in which the program sees its devices. The secret
// proves the lease (handshake.h) and is never logged. Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "farwarp/base/status.h"

namespace farwarp::wire {

using LeaseId = std::array<std::uint8_t, 16>;
using LeaseSecret = std::array<std::uint8_t, 32>;

struct GrantedGpu {
  std::string endpoint;       // host:port of the server's data port.
  std::uint32_t ordinal = 0;  // Of the vGPU in its lease on that server.
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_percent = 100;
};

struct Grant {
  LeaseId lease{};
  LeaseSecret secret{};
  std::vector<GrantedGpu> gpus;
};

Result<Grant> ParseGrant(std::string_view text);
std::string FormatGrant(const Grant& grant);

}  // namespace farwarp::wire
