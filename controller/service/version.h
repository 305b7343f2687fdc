// The version this controller reports. Constant, thread-safe.
#pragma once

namespace farwarp::controller {

inline constexpr char kVersion[] = FARWARP_VERSION;

}  // namespace farwarp::controller
