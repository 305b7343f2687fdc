// farwarp-server: offers the GPUs of this node.
#include <fcntl.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/base/bytes.h"
#include "farwarp/transport/socket_channel.h"
#include "server/daemon/config.h"
#include "server/daemon/daemon.h"
#include "server/daemon/node_agent.h"
#include "server/daemon/private_lease.h"
#include "server/daemon/probe.h"

namespace farwarp::server {
namespace {

constexpr int kCannotServe = 1;
constexpr int kUsageError = 2;
constexpr int kDriverUnusable = 3;
constexpr std::chrono::seconds kProbeTime{30};
constexpr std::chrono::seconds kLeaseTime{10};

int Fail(int code, const std::string& message) {
  std::fprintf(stderr, "farwarp-server: %s\n", message.c_str());
  return code;
}

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

void LogToSpdlog(LogLevel level, const char* line) {
  switch (level) {
    case LogLevel::kError:
      return spdlog::error("{}", line);
    case LogLevel::kWarn:
      return spdlog::warn("{}", line);
    case LogLevel::kInfo:
      return spdlog::info("{}", line);
    case LogLevel::kDebug:
      return spdlog::debug("{}", line);
    default:
      return spdlog::trace("{}", line);
  }
}

void SetUpLog(const std::string& level) {
  auto logger = spdlog::stderr_logger_mt("server");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->set_level(level == "error" ? spdlog::level::err : spdlog::level::from_str(level));
  spdlog::set_default_logger(logger);
  SetLogSink(&LogToSpdlog);
  SetLogLevel(ParseLogLevel(level.c_str()));
  // gRPC's own messages belong to debugging; ours say what went wrong.
  gpr_set_log_function([](gpr_log_func_args* args) { spdlog::debug("grpc: {}", args->message); });
}

// Command line settings over those from file and environment; only what was given.
struct Flags {
  std::string config;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::string> labels;
  bool is_private = false;
  int lease_fd = -1;
  int address_fd = -1;
};

void AddSetting(CLI::App& app, Flags& flags, const std::string& key, const std::string& help) {
  std::string option = "--" + key;
  for (char& c : option) {
    if (c == '_') c = '-';
  }
  app.add_option_function<std::string>(
      option, [&flags, key](const std::string& value) { flags.settings.emplace_back(key, value); },
      help);
}

void AddOptions(CLI::App& app, Flags& flags) {
  AddSetting(app, flags, "listen", "host:port for programs, port 0 for any (0.0.0.0:7461)");
  AddSetting(app, flags, "advertise", "host[:port] that programs are told to connect to");
  AddSetting(app, flags, "driver", "softgpu, or a libcuda.so.1 (default: the system's)");
  AddSetting(app, flags, "controller", "host:port of the controller");
  AddSetting(app, flags, "node_name", "name in the pool (default: the host's name)");
  AddSetting(app, flags, "log_level", "off, error, warn, info, debug or trace");
  AddSetting(app, flags, "max_connections", "programs served at a time (256)");
  AddSetting(app, flags, "max_handshakes", "connections that may be proving themselves (512)");
  AddSetting(app, flags, "worker_memory", "host memory of one program's worker (8Gi)");
  AddSetting(app, flags, "handshake_timeout", "time for a program to prove its lease (2s)");
  AddSetting(app, flags, "grace", "time for a worker to end by itself (2s)");
  AddSetting(app, flags, "heartbeat", "how often a silent program is asked for a sign (1s)");
  AddSetting(app, flags, "client_pause", "how long a program may be stopped (10m)");
  app.add_option("--label", flags.labels, "KEY=VALUE that requests can ask for")->take_all();
  app.add_option("--config", flags.config, "settings file (TOML)");
  app.add_flag("--private", flags.is_private, "serve one lease that a launcher passes");
  app.add_option("--lease-fd", flags.lease_fd,
                 "descriptor with the lease; its end ends the server");
  app.add_option("--address-fd", flags.address_fd, "descriptor to write host:port to");
}

Status Collect(const Flags& flags, const std::string& host_name, Config& config) {
  if (!flags.config.empty()) FARWARP_RETURN_IF_ERROR(ReadConfigFile(flags.config, config));
  const Environment environment = [](const char* name) { return std::getenv(name); };
  FARWARP_RETURN_IF_ERROR(ReadConfigEnvironment(environment, config));
  for (const auto& [key, value] : flags.settings) {
    FARWARP_RETURN_IF_ERROR(SetConfig(config, key, value, "--" + key));
  }
  for (const std::string& label : flags.labels) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Status::Invalid("--label " + label + " is not KEY=VALUE");
    }
    config.labels[label.substr(0, equals)] = label.substr(equals + 1);
  }
  config.is_private = flags.is_private;
  config.lease_fd = flags.lease_fd;
  config.address_fd = flags.address_fd;
  return CompleteConfig(host_name, config);
}

// The launcher's descriptors are for this process alone: a worker or a probe that held one would
// keep the launcher waiting for its end.
Status TakePrivateFds(const Config& config, UniqueFd& lease, UniqueFd& address) {
  for (const int fd : {config.lease_fd, config.address_fd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return Status::Invalid("descriptor " + std::to_string(fd) + " is not open");
    }
  }
  lease.reset(config.lease_fd);
  address.reset(config.address_fd);
  return Status::Ok();
}

void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// SIGINT and SIGTERM as a descriptor. Blocked before any thread exists.
UniqueFd BlockSignals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

std::string DriverPath(const std::string& name) {
  return name == "softgpu" ? ProgramFolder() + "/../lib/softgpu/libcuda.so.1" : name;
}

// All parts of a running server, in the order in which they need each other.
class Server {
 public:
  Server(const Config& config, DriverFacts facts, UniqueFd signals, UniqueFd lease_fd,
         UniqueFd address_fd)
      : config_(config),
        facts_(std::move(facts)),
        signals_(std::move(signals)),
        lease_fd_(std::move(lease_fd)),
        address_fd_(std::move(address_fd)) {}

  Status Start(const std::string& worker_program, const std::string& driver,
               const std::string& host_name);
  void Run() { loop_->Run(); }

 private:
  Status HoldPrivateLease();
  void Stop(const std::string& reason);

  const Config config_;
  const DriverFacts facts_;
  const UniqueFd signals_;
  const UniqueFd lease_fd_;
  UniqueFd address_fd_;
  bool stopping_ = false;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<NodeAgent> agent_;
};

Status Server::Start(const std::string& worker_program, const std::string& driver,
                     const std::string& host_name) {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::Create();
  if (!loop.ok()) return loop.status();
  loop_ = std::move(*loop);
  Daemon::Options options;
  options.worker_program = worker_program;
  options.driver = driver;
  // Physical memory of the software GPU is fresh pages of the operating system. Clearing them would
  // only make them real.
  options.fresh_memory = config_.driver == "softgpu";
  options.max_connections = config_.max_connections;
  options.grace = config_.grace;
  options.worker_memory = config_.worker_memory;
  options.heartbeat = config_.heartbeat;
  options.client_pause = config_.client_pause;
  options.worker_log = ParseLogLevel(config_.log_level.c_str());
  options.gate.timeout = config_.handshake_timeout;
  options.gate.max_pending = config_.max_handshakes;
  daemon_ = std::make_unique<Daemon>(*loop_, options);
  FARWARP_RETURN_IF_ERROR(loop_->Add(signals_.get(), EPOLLIN, [this](std::uint32_t) {
    signalfd_siginfo signal{};
    if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) return;
    Stop(signal.ssi_signo == SIGINT ? "interrupted" : "terminated");
  }));
  if (config_.is_private) FARWARP_RETURN_IF_ERROR(HoldPrivateLease());

  auto listener = transport::ListenTcp(config_.listen);
  if (!listener.ok()) return listener.status();
  const std::string endpoint = AdvertisedEndpoint(config_, listener->second, host_name);
  spdlog::info("farwarp-server {} listens on {} with {} device{}, driver {}.{}", FARWARP_VERSION,
               listener->second, facts_.devices.size(), facts_.devices.size() == 1 ? "" : "s",
               facts_.version / 1000, facts_.version % 1000 / 10);
  FARWARP_RETURN_IF_ERROR(daemon_->Listen(std::move(listener->first)));
  if (address_fd_.valid()) {
    const std::string line = endpoint + "\n";
    if (::write(address_fd_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      return Status::FromErrno("cannot write to the address descriptor", errno);
    }
    address_fd_.reset();
  }
  if (!config_.controller.empty()) {
    agent_ = std::make_unique<NodeAgent>(*loop_, *daemon_,
                                         NodeAgent::Options{config_.controller, config_.node_name,
                                                            endpoint, config_.labels, facts_});
    daemon_->OnChange([this] {
      if (agent_ != nullptr) agent_->Notify();
    });
  }
  return Status::Ok();
}

Status Server::HoldPrivateLease() {
  Result<std::string> line = ReadPrivateLine(lease_fd_.get(), Deadline::After(kLeaseTime));
  if (!line.ok()) return line.status();
  Result<PrivateLease> lease = ParsePrivateLease(*line, facts_);
  if (!lease.ok()) return lease.status();
  LeaseOffer offer;
  offer.id = lease->id;
  offer.secret = lease->secret;
  offer.vgpus = lease->vgpus;
  for (const BriefVgpu& vgpu : offer.vgpus) {
    offer.device_uuids.push_back(facts_.devices[vgpu.device].uuid);
  }
  offer.client = "the launcher of this private server";
  FARWARP_RETURN_IF_ERROR(daemon_->PrepareLease(std::move(offer)));
  return loop_->Add(lease_fd_.get(), EPOLLIN | EPOLLRDHUP, [this](std::uint32_t) {
    char ignored[256];
    const ssize_t got = ::read(lease_fd_.get(), ignored, sizeof ignored);
    if (got > 0 || (got < 0 && errno == EINTR)) return;
    loop_->Remove(lease_fd_.get());
    Stop("the launcher has ended");
  });
}

void Server::Stop(const std::string& reason) {
  if (std::exchange(stopping_, true)) return loop_->Stop();  // Asked twice: at once.
  spdlog::info("shutting down: {}", reason);
  daemon_->Shutdown(reason, [this] { loop_->Stop(); });
}

int Serve(const Config& config, const std::string& host_name) {
  UniqueFd lease_fd;
  UniqueFd address_fd;
  if (config.is_private) {
    if (const Status status = TakePrivateFds(config, lease_fd, address_fd); !status.ok()) {
      return Fail(kUsageError, status.message());
    }
  }
  RaiseFileLimit();
  UniqueFd signals = BlockSignals();
  const std::string driver = DriverPath(config.driver);
  const std::string worker_program = ProgramFolder() + "/farwarp-worker";
  Result<DriverFacts> facts = ProbeDriver(worker_program, driver, Deadline::After(kProbeTime));
  if (!facts.ok()) return Fail(kDriverUnusable, facts.status().message());

  // The software GPU of every host is the same; in a pool each of its devices is one of a kind.
  if (config.driver == "softgpu") NameDevicesAfter(config.node_name, *facts);

  Server server(config, std::move(*facts), std::move(signals), std::move(lease_fd),
                std::move(address_fd));
  if (const Status status = server.Start(worker_program, driver, host_name); !status.ok()) {
    return Fail(kCannotServe, status.message());
  }
  server.Run();
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{"Offers this node's GPUs, in parts, to programs on other machines."};
  app.set_version_flag("--version", std::string("farwarp-server ") + FARWARP_VERSION);
  Flags flags;
  AddOptions(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  Config config;
  const std::string host_name = HostName();
  if (const Status status = Collect(flags, host_name, config); !status.ok()) {
    return Fail(kUsageError, status.message());
  }
  SetUpLog(config.log_level);
  return Serve(config, host_name);
}

}  // namespace
}  // namespace farwarp::server

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): it ends the process.
  return farwarp::server::Main(argc, argv);
}
