#include "farwarp/base/duration.h"

#include <cstdint>

namespace farwarp {
namespace {

constexpr std::int64_t kSecond = 1000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;
constexpr std::int64_t kYear = 365 * kDay;

struct Unit {
  std::string_view name;
  std::int64_t milliseconds;
};
constexpr Unit kUnits[] = {{"", kSecond},    {"s", kSecond}, {"ms", 1},  {"m", kMinute},
                           {"min", kMinute}, {"h", kHour},   {"d", kDay}};

}  // namespace

Result<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  std::size_t at = 0;
  double value = 0;
  double scale = 0;
  std::size_t digits = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && scale == 0) {
      scale = 1;
    } else if (c >= '0' && c <= '9') {
      ++digits;
      value = value * 10 + (c - '0');
      if (scale != 0) scale *= 10;
    } else {
      break;
    }
  }
  while (at < text.size() && text[at] == ' ') ++at;
  for (const Unit& unit : kUnits) {
    if (digits == 0 || digits > 15 || text.substr(at) != unit.name) continue;
    if (scale != 0) value /= scale;
    value *= static_cast<double>(unit.milliseconds);
    if (value > static_cast<double>(kYear)) {
      return Status::Invalid("'" + std::string(text.substr(0, 40)) + "' is more than a year");
    }
    return std::chrono::milliseconds(static_cast<std::int64_t>(value));
  }
  return Status::Invalid("'" + std::string(text.substr(0, 40)) +
                         "' is not a duration; write for example 30s, 10m or 2h");
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  const std::int64_t ms = duration.count();
  if (ms < kSecond) return std::to_string(ms) + " ms";
  if (ms < 2 * kMinute) return std::to_string(ms / kSecond) + " s";
  if (ms < 2 * kHour) return std::to_string(ms / kMinute) + " min";
  if (ms < 2 * kDay) return std::to_string(ms / kHour) + " h";
  return std::to_string(ms / kDay) + " d";
}

}  // namespace farwarp
