// Why a controller cannot be reached, in words for people instead of gRPC's.
//
// Pure, thread-safe.
#pragma once

#include <string>

namespace farwarp::control {

// `message`: of the status that gRPC made up itself (UNAVAILABLE, CANCELLED, INTERNAL, UNKNOWN).
std::string WhyUnreachable(const std::string& message);

}  // namespace farwarp::control
