#include "server/softgpu/api/config.h"

#include <charconv>

#include "farwarp/base/bytes.h"
#include "farwarp/base/duration.h"

namespace farwarp::softgpu {
namespace {

constexpr std::uint64_t kMinMemory = kMiB;
constexpr std::uint64_t kMaxMemory = std::uint64_t{1} << 40;

Status Wrong(std::string_view key, std::string_view value, std::string_view allowed) {
  return Status::Invalid("FARWARP_SOFTGPU: " + std::string(key) + "=" + std::string(value) +
                         ": must be " + std::string(allowed));
}

bool ParseNumber(std::string_view text, int low, int high, int* number) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if (value < low || value > high) return false;
  *number = value;
  return true;
}

Status Apply(std::string_view key, std::string_view value, SoftGpuConfig* config) {
  if (key == "devices") {
    if (ParseNumber(value, 0, 64, &config->devices)) return Status::Ok();
    return Wrong(key, value, "a number from 0 to 64");
  }
  if (key == "sms") {
    if (ParseNumber(value, 1, 1024, &config->multiprocessors)) return Status::Ok();
    return Wrong(key, value, "a number from 1 to 1024");
  }
  if (key == "memory") {
    const Result<std::uint64_t> bytes = ParseBytes(value);
    if (!bytes.ok() || *bytes < kMinMemory || *bytes > kMaxMemory) {
      return Wrong(key, value, "an amount such as 16GiB, from 1MiB to 1024GiB");
    }
    config->memory_bytes = *bytes;
    return Status::Ok();
  }
  if (key == "name") {
    if (value.empty() || value.size() > 255) return Wrong(key, value, "1 to 255 characters");
    config->name = value;
    return Status::Ok();
  }
  if (key == "cc") {
    const std::size_t dot = value.find('.');
    if (dot != std::string_view::npos && ParseNumber(value.substr(0, dot), 5, 12, &config->major) &&
        ParseNumber(value.substr(dot + 1), 0, 9, &config->minor)) {
      return Status::Ok();
    }
    return Wrong(key, value, "a compute capability such as 12.1, from 5.0 to 12.9");
  }
  if (key == "watchdog") {
    const Result<std::chrono::milliseconds> limit = ParseDuration(value);
    if (!limit.ok() || *limit > std::chrono::hours(24)) {
      return Wrong(key, value, "a duration such as 500ms or 30s, at most 24h; 0 is none");
    }
    config->watchdog = *limit;
    return Status::Ok();
  }
  if (key == "threads") {
    if (ParseNumber(value, 1, 256, &config->threads)) return Status::Ok();
    return Wrong(key, value, "a number from 1 to 256");
  }
  if (key == "seed") {
    int seed = 0;
    if (!ParseNumber(value, 0, 2147483647, &seed)) return Wrong(key, value, "a number");
    config->seed = static_cast<std::uint64_t>(seed);
    return Status::Ok();
  }
  return Status::Invalid("FARWARP_SOFTGPU: unknown key '" + std::string(key) +
                         "' (known: devices, memory, name, cc, sms, watchdog, threads, seed)");
}

}  // namespace

Result<SoftGpuConfig> SoftGpuConfig::Parse(std::string_view text) {
  SoftGpuConfig config;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      return Status::Invalid("FARWARP_SOFTGPU: '" + std::string(part) + "' is not key=value");
    }
    FARWARP_RETURN_IF_ERROR(Apply(part.substr(0, equals), part.substr(equals + 1), &config));
  }
  return config;
}

}  // namespace farwarp::softgpu
