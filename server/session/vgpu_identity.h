// Identity of a vGPU: a UUID derived from its lease, its ordinal and its device, so that it is the
// same for all processes of a lease and differs between any two vGPUs. Pure functions.
#pragma once

#include <array>
#include <cstdint>

#include "farwarp/wire/grant.h"

namespace farwarp::server {

using Uuid = std::array<std::uint8_t, 16>;

Uuid DeriveUuid(const wire::LeaseId& lease, std::uint32_t ordinal, const Uuid& device);

}  // namespace farwarp::server
