#include "server/daemon/probe.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "farwarp/base/bytes.h"
#include "farwarp/base/unique_fd.h"
#include "farwarp/wire/limits.h"
#include "server/daemon/spawn.h"

namespace farwarp::server {
namespace {

constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 10;
constexpr int kProbeAnswerFd = 3;

template <typename T>
bool ToNumber(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

// Splits off everything up to the next tab.
std::string_view NextField(std::string_view& line) {
  const std::size_t tab = line.find('\t');
  const std::string_view field = line.substr(0, tab);
  line = tab == std::string_view::npos ? std::string_view{} : line.substr(tab + 1);
  return field;
}

bool ParseDevice(std::string_view line, ProbedDevice& device) {
  const bool numbers = ToNumber(NextField(line), device.ordinal) &&
                       ToNumber(NextField(line), device.memory_bytes) &&
                       ToNumber(NextField(line), device.compute_capability) &&
                       ToNumber(NextField(line), device.sm_count);
  device.uuid = NextField(line);
  device.name = line;
  return numbers && !device.uuid.empty() && device.memory_bytes != 0;
}

// Reads until the child closes its end.
Result<std::string> ReadAnswer(int fd, Deadline deadline) {
  std::string text;
  for (;;) {
    pollfd wanted{fd, POLLIN, 0};
    const int ready = ::poll(&wanted, 1, deadline.remaining_ms());
    if (ready == 0) return Status::Timeout("does not answer in time");
    if (ready < 0 && errno != EINTR) return Status::FromErrno("poll", errno);
    if (ready < 0) continue;
    std::array<char, 4096> buffer;
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno("read", errno);
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > kMaxAnswerBytes) return Status::Invalid("answers without end");
  }
}

}  // namespace

void NameDevicesAfter(const std::string& node_name, DriverFacts& facts) {
  for (ProbedDevice& device : facts.devices) {
    std::array<std::uint8_t, 16> bytes{};
    const std::string text = node_name + '\0' + std::to_string(device.ordinal) + '\0' + device.uuid;
    for (std::size_t half = 0; half < 2; ++half) {
      std::uint64_t hash = 0xcbf29ce484222325u ^ (half * 0x9e3779b97f4a7c15u);  // FNV-1a
      for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
      std::memcpy(bytes.data() + half * sizeof hash, &hash, sizeof hash);
    }
    // Version and variant bits of a UUID that was made from a name.
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x80);
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
    const std::string hex = HexEncode(bytes);
    device.uuid = "GPU-" + hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) +
                  "-" + hex.substr(16, 4) + "-" + hex.substr(20);
  }
}

Result<DriverFacts> ParseProbe(const std::string& text, const std::string& driver) {
  DriverFacts facts;
  bool complete = false;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;
    std::string_view line = rest.substr(0, end);
    rest = rest.substr(end + 1);
    const std::string_view kind = NextField(line);
    if (kind == "error") return Status::Unavailable(std::string(line));
    bool good = true;
    if (kind == "version") good = ToNumber(line, facts.version);
    if (kind == "device") {
      ProbedDevice device;
      good = facts.devices.size() < wire::kMaxDevices && ParseDevice(line, device);
      facts.devices.push_back(std::move(device));
    }
    if (kind == "end") complete = true;
    if (!good) return Status::Invalid("the driver " + driver + " gives senseless answers");
  }
  if (!complete) return Status::Unavailable("the driver " + driver + " did not finish answering");
  return facts;
}

Result<DriverFacts> ProbeDriver(const std::string& worker_program, const std::string& driver,
                                Deadline deadline) {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Status::FromErrno("pipe2", errno);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const std::pair<int, int> fds[] = {{write_end.get(), kProbeAnswerFd}};
  Result<ChildProcess> child = Spawn(worker_program, {"farwarp-worker", "--probe", driver}, fds);
  if (!child.ok()) return child.status();
  write_end.reset();
  Result<std::string> answer = ReadAnswer(read_end.get(), deadline);
  pollfd ended{child->pidfd.get(), POLLIN, 0};
  if (!answer.ok() || ::poll(&ended, 1, deadline.remaining_ms()) <= 0) KillGroup(*child);
  const ChildEnd end = Reap(*child);
  if (!answer.ok()) {
    return Status::Unavailable("the driver " + driver + " " + answer.status().message());
  }
  if (end.signalled) {
    return Status::Unavailable("the driver " + driver +
                               " crashes when it is loaded: " + end.Describe());
  }
  return ParseProbe(*answer, driver);
}

}  // namespace farwarp::server
