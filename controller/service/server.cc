#include "controller/service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <netdb.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <chrono>
#include <mutex>
#include <utility>

#include "farwarp/base/check.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::controller {
namespace {

constexpr auto kShutdownGrace = std::chrono::seconds(2);
constexpr int kMaxMessageBytes = 4 << 20;

class SystemCredentials final : public pool::CredentialSource {
 public:
  pool::Credentials Next() override {
    pool::Credentials credentials;
    Fill(credentials.id.bytes.data(), credentials.id.bytes.size());
    Fill(credentials.secret.data(), credentials.secret.size());
    return credentials;
  }

 private:
  // getrandom gives up to 256 bytes whole once the system's pool is ready.
  static void Fill(std::uint8_t* out, std::size_t bytes) {
    ssize_t got = 0;
    do {
      got = ::getrandom(out, bytes, 0);
    } while (got < 0 && errno == EINTR);
    FARWARP_CHECK(got == static_cast<ssize_t>(bytes));
  }
};

// Port 0 is allowed: any free one. gRPC itself would take larger numbers modulo 65536.
bool IsPort(const std::string& text) {
  if (text.empty() || text.size() > 5) return false;
  int number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + (c - '0');
  }
  return number <= 65535;
}

// gRPC only says that it failed; a socket of our own says why.
std::string WhyNot(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); code != 0)
    return ::gai_strerror(code);
  std::string why = "unknown";
  const UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0)
    why = Status::FromErrno("bind", errno).message();
  ::freeaddrinfo(found);
  return why;
}

}  // namespace

std::unique_ptr<pool::CredentialSource> RandomCredentials() {
  return std::make_unique<SystemCredentials>();
}

ControllerServer::ControllerServer(const Config& config, std::unique_ptr<Store> store)
    : store_(std::move(store)),
      credentials_(RandomCredentials()),
      core_(config, *store_, *credentials_),
      nodes_(core_),
      clients_(core_),
      admin_(core_) {}

ControllerServer::~ControllerServer() {
  Shutdown();
}

Result<std::unique_ptr<ControllerServer>> ControllerServer::Start(const Config& config) {
  FARWARP_RETURN_IF_ERROR(CheckConfig(config));
  Result<std::unique_ptr<Store>> store = Store::Open(config.state);
  if (!store.ok()) return store.status();
  std::unique_ptr<ControllerServer> server(new ControllerServer(config, std::move(*store)));
  FARWARP_RETURN_IF_ERROR(server->core_.Start());
  FARWARP_RETURN_IF_ERROR(server->Listen(config.listen));
  return server;
}

Status ControllerServer::Listen(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0 || !IsPort(listen.substr(colon + 1))) {
    return Status::Invalid("'" + listen + "' is not an address to listen on; write host:port");
  }
  const std::string host = listen.substr(0, colon);
  const std::string port = listen.substr(colon + 1);
  static std::once_flag plugins;
  std::call_once(plugins, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
  grpc::ServerBuilder builder;
  int chosen = 0;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &chosen);
  // Two controllers must not share a port by accident.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A peer whose machine vanished is noticed without its FIN.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.RegisterService(&nodes_);
  builder.RegisterService(&clients_);
  builder.RegisterService(&admin_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || chosen == 0) {
    server_.reset();
    return Status::Unavailable("cannot listen on " + listen + ": " + WhyNot(host, port));
  }
  address_ = host + ":" + std::to_string(chosen);
  for (const char* service : {v1::Nodes::service_full_name(), v1::Clients::service_full_name(),
                              v1::Admin::service_full_name()}) {
    server_->GetHealthCheckService()->SetServingStatus(service, true);
  }
  return Status::Ok();
}

void ControllerServer::Shutdown() {
  if (server_ == nullptr) {
    core_.Stop();
    return;
  }
  server_->GetHealthCheckService()->SetServingStatus(false);
  core_.Stop();
  server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  server_->Wait();
  server_.reset();
}

}  // namespace farwarp::controller
