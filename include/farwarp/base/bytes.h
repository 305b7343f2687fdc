// Amounts of memory as people write and read them, and bytes as hexadecimal digits.
//
// Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "farwarp/base/status.h"

namespace farwarp {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// "8Gi", "8GiB", "512Mi", "1.5Gi", "2G" (10^9), "4096" (bytes). Case does not matter. Zero, signs,
// unknown units and more than 2^60 bytes are refused.
Result<std::uint64_t> ParseBytes(std::string_view text);
// The shortest of "17 B", "512 MiB", "1.5 GiB"; one decimal at most.
std::string FormatBytes(std::uint64_t bytes);

std::string HexEncode(std::span<const std::uint8_t> bytes);
// Fills `out` exactly, or refuses: wrong length or a character that is no hexadecimal digit.
Status HexDecode(std::string_view text, std::span<std::uint8_t> out);

}  // namespace farwarp
