#include "farwarp/base/bytes.h"

#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace farwarp {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 60;

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr Unit kUnits[] = {
    {"", 1},
    {"b", 1},
    {"k", 1000},
    {"kb", 1000},
    {"ki", 1024},
    {"kib", 1024},
    {"m", 1'000'000},
    {"mb", 1'000'000},
    {"mi", kMiB},
    {"mib", kMiB},
    {"g", 1'000'000'000},
    {"gb", 1'000'000'000},
    {"gi", kGiB},
    {"gib", kGiB},
    {"t", 1'000'000'000'000},
    {"tb", 1'000'000'000'000},
    {"ti", kGiB << 10},
    {"tib", kGiB << 10},
};

Status NotASize(std::string_view text) {
  return Status::Invalid("'" + std::string(text.substr(0, 40)) +
                         "' is not a size; write for example 8Gi, 512Mi or a number of bytes");
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<std::uint64_t> ParseBytes(std::string_view text) {
  std::size_t at = 0;
  double value = 0;
  double fraction = 0;
  double scale = 1;
  std::size_t digits = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, ++digits)
    value = value * 10 + (text[at] - '0');
  if (at < text.size() && text[at] == '.') {
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, ++digits) {
      scale /= 10;
      fraction += scale * (text[at] - '0');
    }
  }
  if (digits == 0 || digits > 20) return NotASize(text);
  while (at < text.size() && text[at] == ' ') ++at;
  std::string unit;
  for (; at < text.size(); ++at)
    unit += static_cast<char>(std::tolower(static_cast<unsigned char>(text[at])));
  for (const Unit& known : kUnits) {
    if (unit != known.name) continue;
    const double bytes = (value + fraction) * static_cast<double>(known.bytes);
    if (bytes > static_cast<double>(kMaxBytes)) {
      return Status::Invalid("'" + std::string(text.substr(0, 40)) + "' is more than 1 EiB");
    }
    if (bytes < 1) return Status::Invalid("a size of zero bytes makes no sense here");
    return static_cast<std::uint64_t>(bytes);
  }
  return NotASize(text);
}

std::string FormatBytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 6> kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  const bool whole = std::lround(value * 10) % 10 == 0;
  std::snprintf(text, sizeof text, whole ? "%.0f %s" : "%.1f %s", value, kNames[unit]);
  return text;
}

std::string HexEncode(std::span<const std::uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Status HexDecode(std::string_view text, std::span<std::uint8_t> out) {
  if (text.size() != out.size() * 2) {
    return Status::Invalid("expected " + std::to_string(out.size() * 2) +
                           " hexadecimal digits, found " + std::to_string(text.size()) +
                           " characters");
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (HexDigit(text[2 * i]) < 0 || HexDigit(text[2 * i + 1]) < 0)
      return Status::Invalid("expected only hexadecimal digits");
  }
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::uint8_t>(HexDigit(text[2 * i]) << 4 | HexDigit(text[2 * i + 1]));
  return Status::Ok();
}

}  // namespace farwarp
