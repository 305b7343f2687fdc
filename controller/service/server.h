// ControllerServer: the whole controller in one object; the program and the tests start it the same
// way.
//
// Owns store, core, services and the gRPC server. External lock.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "controller/service/config.h"
#include "controller/service/core.h"
#include "controller/service/services.h"
#include "controller/service/store.h"
#include "farwarp/base/status.h"

namespace farwarp::controller {

class ControllerServer {
 public:
  // Opens the state (config.state must be set), listens and serves.
  static Result<std::unique_ptr<ControllerServer>> Start(const Config& config);
  ~ControllerServer();
  ControllerServer(const ControllerServer&) = delete;
  ControllerServer& operator=(const ControllerServer&) = delete;

  // host:port with the port that was really taken.
  const std::string& address() const { return address_; }
  // Ends streams so that nodes and launchers come back to the next controller; no lease is touched.
  void Shutdown();

 private:
  ControllerServer(const Config& config, std::unique_ptr<Store> store);
  Status Listen(const std::string& listen);

  std::unique_ptr<Store> store_;
  std::unique_ptr<pool::CredentialSource> credentials_;
  Core core_;
  NodesService nodes_;
  ClientsService clients_;
  AdminService admin_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

// Lease ids and secrets from the operating system's generator.
std::unique_ptr<pool::CredentialSource> RandomCredentials();

}  // namespace farwarp::controller
