#include "client/driver/visible_devices.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <string_view>

namespace farwarp::client {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<std::size_t> Unique(std::string_view prefix, std::span<const DeviceUuid> uuids) {
  std::optional<std::size_t> match;
  for (std::size_t i = 0; i < uuids.size(); ++i) {
    const std::string text = UuidText(uuids[i]);
    if (!std::string_view(text).starts_with(prefix)) continue;
    if (match.has_value()) return std::nullopt;
    match = i;
  }
  return match;
}

bool IsUuid(std::string_view entry) {
  return entry.starts_with("GPU-") && entry.size() > 4;
}

std::optional<std::size_t> Number(std::string_view entry) {
  std::size_t index = 0;
  std::size_t digits = 0;
  // As strtoul: leading digits count, whatever follows them does not.
  while (digits < entry.size() && entry[digits] >= '0' && entry[digits] <= '9') {
    if (digits == 9) return std::nullopt;
    index = index * 10 + static_cast<std::size_t>(entry[digits] - '0');
    ++digits;
  }
  if (digits == 0) return std::nullopt;
  return index;
}

std::optional<std::size_t> Select(std::string_view entry, std::span<const DeviceUuid> uuids) {
  if (IsUuid(entry)) return Unique(entry, uuids);
  const auto index = Number(entry);
  return index.has_value() && *index < uuids.size() ? index : std::nullopt;
}

}  // namespace

std::string UuidText(const DeviceUuid& uuid) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text.push_back('-');
    text.push_back(kHex[uuid[i] >> 4]);
    text.push_back(kHex[uuid[i] & 15]);
  }
  return text;
}

bool ShowsNone(const char* value) {
  if (value == nullptr) return false;
  const std::string_view text(value);
  const std::string_view first = Trim(text.substr(0, text.find(',')));
  return !IsUuid(first) && !Number(first).has_value();
}

std::vector<std::size_t> VisibleDevices(const char* value, std::span<const DeviceUuid> uuids) {
  std::vector<std::size_t> devices;
  if (value == nullptr) {
    devices.resize(uuids.size());
    std::iota(devices.begin(), devices.end(), std::size_t{0});
    return devices;
  }
  std::string_view rest(value);
  for (;;) {
    const std::size_t comma = rest.find(',');
    const auto index = Select(Trim(rest.substr(0, comma)), uuids);
    if (!index.has_value()) break;
    if (std::find(devices.begin(), devices.end(), *index) != devices.end()) return {};
    devices.push_back(*index);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return devices;
}

}  // namespace farwarp::client
