// farwarp-controller: keeps the pool of vGPUs.
#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "controller/service/config.h"
#include "controller/service/server.h"
#include "controller/service/version.h"

namespace farwarp::controller {
namespace {

constexpr int kUsageError = 2;
constexpr int kCannotServe = 1;

struct Flags {
  std::string listen;
  std::string state;
  std::string config;
  std::string log_level;
  bool print_address = false;
};

// File, then environment, then command line, each over the one before.
Status Collect(const Flags& flags, Config& config) {
  if (!flags.config.empty()) FARWARP_RETURN_IF_ERROR(ReadConfigFile(flags.config, config));
  const Environment environment = [](const char* name) { return std::getenv(name); };
  FARWARP_RETURN_IF_ERROR(ReadConfigEnvironment(environment, config));
  if (!flags.listen.empty()) config.listen = flags.listen;
  if (!flags.state.empty()) config.state = flags.state;
  if (!flags.log_level.empty()) config.log_level = flags.log_level;
  if (config.state.empty()) config.state = DefaultStatePath(environment, ::geteuid() == 0);
  return CheckConfig(config);
}

// gRPC's own messages belong to debugging; ours say what went wrong.
void QuietGrpc() {
  gpr_set_log_function([](gpr_log_func_args* args) { spdlog::debug("grpc: {}", args->message); });
}

void SetUpLog(const std::string& level) {
  auto logger = spdlog::stderr_logger_mt("controller");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  logger->set_level(level == "error" ? spdlog::level::err : spdlog::level::from_str(level));
  spdlog::set_default_logger(logger);
}

int Serve(const Config& config, bool print_address) {
  // Blocked before any thread exists, so that only sigwait below sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  Result<std::unique_ptr<ControllerServer>> server = ControllerServer::Start(config);
  if (!server.ok()) {
    std::fprintf(stderr, "farwarp-controller: %s\n", server.status().message().c_str());
    return server.status().code() == StatusCode::kInvalid ? kUsageError : kCannotServe;
  }
  spdlog::info("farwarp-controller {} listens on {}, state in {}", kVersion, (*server)->address(),
               config.state);
  if (print_address) {
    std::printf("%s\n", (*server)->address().c_str());
    std::fflush(stdout);
  }
  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("{}: shutting down, leases stay", signal == SIGINT ? "interrupted" : "terminated");
  (*server)->Shutdown();
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{"Keeps a pool of vGPUs: nodes attach to it, programs get leases from it."};
  app.set_version_flag("--version", std::string("farwarp-controller ") + kVersion);
  Flags flags;
  app.add_option("--listen", flags.listen,
                 "host:port to listen on, port 0 for any (default 127.0.0.1:7460)");
  app.add_option("--state", flags.state, "file that keeps leases over restarts");
  app.add_option("--config", flags.config, "settings file (TOML)");
  app.add_option("--log-level", flags.log_level, "off, error, warn, info, debug or trace");
  app.add_flag("--print-address", flags.print_address,
               "print host:port on standard output once it serves");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : kUsageError;
  }
  Config config;
  if (const Status status = Collect(flags, config); !status.ok()) {
    std::fprintf(stderr, "farwarp-controller: %s\n", status.message().c_str());
    return kUsageError;
  }
  SetUpLog(config.log_level);
  QuietGrpc();
  return Serve(config, flags.print_address);
}

}  // namespace
}  // namespace farwarp::controller

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): it ends the process.
  return farwarp::controller::Main(argc, argv);
}
