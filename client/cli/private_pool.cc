// vGPUs from a server of our own on this machine: what `farwarp run` does without a controller.
//
// The lease is made here and handed to the server through a pipe; the server tells its address
// through another one and ends when the first one closes, also when farwarp is killed.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "client/cli/probe.h"
#include "client/cli/source.h"
#include "controller/pool/placement.h"
#include "farwarp/base/bytes.h"
#include "farwarp/base/deadline.h"

namespace farwarp::cli {
namespace {

constexpr auto kStartTime = std::chrono::seconds(20);
constexpr auto kEndTime = std::chrono::seconds(2);
// More vGPUs than this share the software GPU's devices.
constexpr std::size_t kMaxSoftwareDevices = 8;

struct ChosenDriver {
  std::string name;  // As --driver takes it.
  Probed probed;
};

Result<ChosenDriver> ChooseSoftware(const Layout& layout, const Ask& ask) {
  // One device per vGPU, unless the user decided otherwise.
  if (std::getenv("FARWARP_SOFTGPU") == nullptr && ask.vgpus.size() > 1) {
    const std::size_t devices = std::min(ask.vgpus.size(), kMaxSoftwareDevices);
    ::setenv("FARWARP_SOFTGPU", ("devices=" + std::to_string(devices)).c_str(), 1);
  }
  auto probed = ProbeDriver(layout.softgpu_lib + "/libcuda.so.1", layout.lib);
  if (!probed.ok()) {
    return Status(probed.status().code(),
                  "the software GPU cannot be used: " + probed.status().message());
  }
  return ChosenDriver{"softgpu", std::move(*probed)};
}

Result<ChosenDriver> ChooseDriver(const Layout& layout, const Ask& ask, const std::string& wanted) {
  if (wanted == "softgpu") return ChooseSoftware(layout, ask);
  auto real = ProbeDriver(wanted.empty() ? "libcuda.so.1" : wanted, layout.lib);
  if (real.ok() && !real->devices.empty()) {
    const std::string path = real->path;
    return ChosenDriver{path, std::move(*real)};
  }
  if (wanted.empty()) return ChooseSoftware(layout, ask);
  if (!real.ok()) {
    return Status(real.status().code(), "driver " + wanted + ": " + real.status().message());
  }
  return Status::Unavailable("driver " + wanted + " has no device");
}

Result<std::vector<pool::Vgpu>> PlaceOn(const Probed& probed, const Ask& ask) {
  if (probed.devices.empty()) {
    return Status::Unavailable("driver " + probed.path + " has no device");
  }
  std::vector<pool::DeviceRoom> rooms;
  std::uint64_t largest = 0;
  for (const pool::Device& device : probed.devices) {
    const std::uint64_t total = device.memory_bytes / pool::kMemoryUnit * pool::kMemoryUnit;
    rooms.push_back({&device, total, total, pool::kWholeDevicePercent});
    largest = std::max(largest, total);
  }
  auto placement = pool::Place(ask.vgpus, rooms);
  if (!placement) {
    return Status::Limit(
        "the vGPUs asked for do not fit this machine: " + std::to_string(rooms.size()) + " device" +
        (rooms.size() == 1 ? "" : "s") + " (" + probed.devices[0].name + "), the largest with " +
        FormatBytes(largest) + " of memory");
  }
  return std::move(placement->vgpus);
}

Status FillRandom(void* out, std::size_t bytes) {
  const ssize_t got = ::getrandom(out, bytes, 0);
  if (got != static_cast<ssize_t>(bytes)) return Status::FromErrno("getrandom", errno);
  return Status::Ok();
}

Result<std::pair<UniqueFd, UniqueFd>> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno("pipe", errno);
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// What the server said on its standard error, for when it does not start.
std::string LastWords(int fd) {
  char text[2048];
  const off_t end = ::lseek(fd, 0, SEEK_END);
  const off_t from = std::max<off_t>(0, end - static_cast<off_t>(sizeof text));
  const ssize_t got = ::pread(fd, text, sizeof text, from);
  std::string words(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  return words.empty() ? "it said nothing" : words;
}

class PrivatePool final : public VgpuSource {
 public:
  PrivatePool(Child server, UniqueFd lease_pipe, UniqueFd server_says, wire::Grant grant)
      : server_(std::move(server)),
        lease_pipe_(std::move(lease_pipe)),
        server_says_(std::move(server_says)),
        grant_(std::move(grant)) {}
  ~PrivatePool() override { Release(); }

  int fd() const override { return -1; }  // The server's end is a SIGCHLD.
  const std::optional<wire::Grant>& grant() const override { return grant_; }

  Status Check() override {
    if (const auto code = server_.Poll()) {
      return Status::Closed("the private server ended with code " + std::to_string(*code) + ": " +
                            LastWords(server_says_.get()));
    }
    return Status::Ok();
  }

  // Closing the pipe asks the server to end; the destructor of Child does not ask.
  void Release() override {
    if (!lease_pipe_.valid()) return;
    lease_pipe_.reset();
    const Deadline deadline = Deadline::After(kEndTime);
    while (!server_.Poll() && !deadline.expired()) ::poll(nullptr, 0, 1);
  }

 private:
  Child server_;
  UniqueFd lease_pipe_;
  UniqueFd server_says_;
  std::optional<wire::Grant> grant_;
};

Result<std::string> ReadAddress(int fd, Child& server, int server_says) {
  const Deadline deadline = Deadline::After(kStartTime);
  std::string line;
  while (line.find('\n') == std::string::npos) {
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, deadline.remaining_ms()) == 0 || line.size() > 512) {
      return Status::Timeout("the private server does not get ready: " + LastWords(server_says));
    }
    char buffer[256];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      // It is about to end; its code says more than the closed pipe.
      const Deadline end = Deadline::After(kEndTime);
      while (!server.Poll() && !end.expired()) ::poll(nullptr, 0, 1);
      return Status::Unavailable("the private server did not start: " + LastWords(server_says));
    }
    line.append(buffer, static_cast<std::size_t>(got));
  }
  return line.substr(0, line.find('\n'));
}

}  // namespace

Result<std::unique_ptr<VgpuSource>> StartPrivatePool(const Layout& layout, const Ask& ask,
                                                     const std::string& driver,
                                                     const SignalWatch& signals) {
  const std::string server_path = layout.bin + "/farwarp-server";
  if (::access(server_path.c_str(), X_OK) != 0) {
    return Status::NotFound("no controller is configured and there is no " + server_path +
                            " to run a private pool; set FARWARP_CONTROLLER to use a pool");
  }
  auto chosen = ChooseDriver(layout, ask, driver);
  if (!chosen.ok()) return chosen.status();
  auto vgpus = PlaceOn(chosen->probed, ask);
  if (!vgpus.ok()) return vgpus.status();

  wire::Grant lease;
  FARWARP_RETURN_IF_ERROR(FillRandom(lease.lease.data(), lease.lease.size()));
  FARWARP_RETURN_IF_ERROR(FillRandom(lease.secret.data(), lease.secret.size()));
  std::string lease_text =
      "v1;lease=" + HexEncode(lease.lease) + ";secret=" + HexEncode(lease.secret);
  for (const pool::Vgpu& vgpu : *vgpus) {
    lease_text += ";gpu=" + std::to_string(vgpu.device_ordinal) + "/" +
                  std::to_string(vgpu.memory_bytes) + "/" + std::to_string(vgpu.compute_percent);
  }
  lease_text += "\n";

  auto lease_pipe = MakePipe();
  auto address_pipe = MakePipe();
  if (!lease_pipe.ok()) return lease_pipe.status();
  if (!address_pipe.ok()) return address_pipe.status();
  UniqueFd says(::memfd_create("farwarp-server", MFD_CLOEXEC));

  ChildOptions options;
  options.arguments = {"farwarp-server", "--private",
                       "--lease-fd",     std::to_string(lease_pipe->first.get()),
                       "--address-fd",   std::to_string(address_pipe->second.get()),
                       "--driver",       chosen->name};
  // Neither a grant nor our libraries may reach the server: its driver is the genuine one.
  options.environment = EnvironmentWith({"FARWARP_GRANT="});
  options.inherited_fds = {lease_pipe->first.get(), address_pipe->second.get()};
  options.own_group = true;
  options.no_input = true;
  options.standard_error = says.get();
  auto server = Child::Start(server_path, options, signals.original_mask());
  if (!server.ok()) return server.status();
  lease_pipe->first.reset();
  address_pipe->second.reset();
  if (::write(lease_pipe->second.get(), lease_text.data(), lease_text.size()) !=
      static_cast<ssize_t>(lease_text.size())) {
    return Status::Unavailable("the private server did not start: " + LastWords(says.get()));
  }
  auto address = ReadAddress(address_pipe->first.get(), *server, says.get());
  if (!address.ok()) return address.status();
  for (const pool::Vgpu& vgpu : *vgpus)
    lease.gpus.push_back({*address, vgpu.ordinal, vgpu.memory_bytes, vgpu.compute_percent});
  auto grant = wire::ParseGrant(wire::FormatGrant(lease));
  if (!grant.ok()) {
    return Status::Invalid("the private server gave a bad address: " + grant.status().message());
  }
  return std::unique_ptr<VgpuSource>(std::make_unique<PrivatePool>(
      std::move(*server), std::move(lease_pipe->second), std::move(says), std::move(*grant)));
}

}  // namespace farwarp::cli
