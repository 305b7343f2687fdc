// The three gRPC services: they turn messages into events of the core and the pool into lists.
//
// Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include "controller/service/core.h"
#include "proto/control/admin.grpc.pb.h"
#include "proto/control/clients.grpc.pb.h"
#include "proto/control/nodes.grpc.pb.h"

namespace farwarp::controller {

namespace v1 = ::farwarp::control::v1;

class NodesService final : public v1::Nodes::CallbackService {
 public:
  // `core` outlives the service; likewise below.
  explicit NodesService(Core& core) : core_(core) {}
  grpc::ServerBidiReactor<v1::NodeReport, v1::NodeCommand>* Attach(
      grpc::CallbackServerContext* context) override;

 private:
  Core& core_;
};

class ClientsService final : public v1::Clients::CallbackService {
 public:
  explicit ClientsService(Core& core) : core_(core) {}
  grpc::ServerWriteReactor<v1::AcquireEvent>* Acquire(grpc::CallbackServerContext* context,
                                                      const v1::AcquireRequest* request) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const v1::ReleaseRequest* request,
                                    v1::ReleaseResponse* response) override;

 private:
  Core& core_;
};

class AdminService final : public v1::Admin::CallbackService {
 public:
  explicit AdminService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const v1::ListNodesRequest* request,
                                      v1::ListNodesResponse* response) override;
  grpc::ServerUnaryReactor* ListLeases(grpc::CallbackServerContext* context,
                                       const v1::ListLeasesRequest* request,
                                       v1::ListLeasesResponse* response) override;
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const v1::DrainNodeRequest* request,
                                      v1::DrainNodeResponse* response) override;
  grpc::ServerUnaryReactor* UndrainNode(grpc::CallbackServerContext* context,
                                        const v1::UndrainNodeRequest* request,
                                        v1::UndrainNodeResponse* response) override;
  grpc::ServerUnaryReactor* ForgetNode(grpc::CallbackServerContext* context,
                                       const v1::ForgetNodeRequest* request,
                                       v1::ForgetNodeResponse* response) override;
  grpc::ServerUnaryReactor* PoolStatus(grpc::CallbackServerContext* context,
                                       const v1::PoolStatusRequest* request,
                                       v1::PoolStatusResponse* response) override;

 private:
  Core& core_;
};

}  // namespace farwarp::controller
