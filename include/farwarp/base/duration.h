// Durations as people write and read them: "500ms", "30s", "10m", "2h", "1d"; a bare number is
// seconds.
//
// Pure functions, thread-safe.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "farwarp/base/status.h"

namespace farwarp {

// At most a year. Zero is allowed; signs and unknown units are not.
Result<std::chrono::milliseconds> ParseDuration(std::string_view text);
// The shortest of "250 ms", "12 s", "3 min", "2 h", "4 d"; rounded down.
std::string FormatDuration(std::chrono::milliseconds duration);

}  // namespace farwarp
