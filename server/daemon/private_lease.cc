#include "server/daemon/private_lease.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "farwarp/base/bytes.h"
#include "farwarp/wire/limits.h"

namespace farwarp::server {
namespace {

constexpr std::size_t kMaxLineBytes = 16384;

template <typename T>
bool ToNumber(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

std::string_view Next(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  return part;
}

Result<BriefVgpu> ParseVgpu(std::string_view text, const DriverFacts& facts,
                            const std::vector<std::uint64_t>& left) {
  const std::string shown(text.substr(0, 60));
  BriefVgpu vgpu;
  const std::string_view device = Next(text, '/');
  const std::string_view memory = Next(text, '/');
  if (!ToNumber(memory, vgpu.memory_bytes) || !ToNumber(text, vgpu.compute_percent) ||
      vgpu.memory_bytes == 0 || vgpu.compute_percent == 0 || vgpu.compute_percent > 100) {
    return Status::Invalid("gpu=" + shown + " is not device/memory_bytes/compute_percent");
  }
  std::size_t index = 0;
  if (device == "any") {
    index = static_cast<std::size_t>(std::max_element(left.begin(), left.end()) - left.begin());
  } else if (!ToNumber(device, index) || index >= facts.devices.size()) {
    return Status::Invalid("gpu=" + shown + ": there are " + std::to_string(facts.devices.size()) +
                           " devices");
  }
  if (vgpu.memory_bytes > left[index]) {
    return Status::Limit("gpu=" + shown + ": device " + std::to_string(index) + " has " +
                         FormatBytes(left[index]) + " left");
  }
  vgpu.device = static_cast<std::uint32_t>(index);
  return vgpu;
}

}  // namespace

Result<PrivateLease> ParsePrivateLease(std::string_view line, const DriverFacts& facts) {
  PrivateLease lease;
  std::vector<std::uint64_t> left;
  for (const ProbedDevice& device : facts.devices) left.push_back(device.memory_bytes);
  if (left.empty()) return Status::Unavailable("the driver has no device");
  bool has_id = false;
  bool has_secret = false;
  if (Next(line, ';') != "v1") return Status::Invalid("the lease line does not begin with v1;");
  while (!line.empty()) {
    std::string_view value = Next(line, ';');
    const std::string_view key = Next(value, '=');
    if (key == "lease" && !has_id) {
      FARWARP_RETURN_IF_ERROR(HexDecode(value, lease.id));
      has_id = true;
    } else if (key == "secret" && !has_secret) {
      FARWARP_RETURN_IF_ERROR(HexDecode(value, lease.secret));
      has_secret = true;
    } else if (key == "gpu" && lease.vgpus.size() < wire::kMaxDevices) {
      Result<BriefVgpu> vgpu = ParseVgpu(value, facts, left);
      if (!vgpu.ok()) return vgpu.status();
      left[vgpu->device] -= vgpu->memory_bytes;
      lease.vgpus.push_back(*vgpu);
    } else {
      return Status::Invalid("the lease line has an unknown, repeated or surplus part '" +
                             std::string(key.substr(0, 40)) + "'");
    }
  }
  if (!has_id || !has_secret || lease.vgpus.empty()) {
    return Status::Invalid("the lease line needs lease, secret and at least one gpu");
  }
  return lease;
}

Result<std::string> ReadPrivateLine(int fd, Deadline deadline) {
  std::string line;
  for (;;) {
    pollfd wanted{fd, POLLIN, 0};
    const int ready = ::poll(&wanted, 1, deadline.remaining_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Status::Timeout("no lease arrived on the lease descriptor");
    char byte = 0;  // One at a time: what follows the line is not ours.
    const ssize_t got = ::read(fd, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno("cannot read the lease descriptor", errno);
    if (got == 0) return Status::Closed("the lease descriptor ended before a lease");
    if (byte == '\n') return line;
    line.push_back(byte);
    if (line.size() > kMaxLineBytes) return Status::Invalid("the lease line is too long");
  }
}

}  // namespace farwarp::server
