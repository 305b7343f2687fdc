#include "client/cli/admin.h"

#include <cstdio>
#include <optional>

#include "client/cli/controller_client.h"
#include "client/cli/exit_code.h"
#include "client/cli/views.h"

namespace farwarp::cli {
namespace {

int Fail(const Status& status) {
  std::fprintf(stderr, "farwarp: %s\n", status.message().c_str());
  return kFailed;
}

// Runs `ask(client)`, which returns a Status, or says that there is nobody to ask.
template <typename Ask>
int WithController(const Settings& settings, Ask ask) {
  if (!settings.controller) {
    return Fail(Status::Invalid(
        "no controller is configured; set FARWARP_CONTROLLER=host:port or use --controller"));
  }
  ControllerClient client(settings.controller->value);
  const Status status = ask(client);
  return status.ok() ? kSuccess : Fail(status);
}

Status GetNodes(ControllerClient& client, v1::ListNodesResponse* nodes) {
  return client.Ask(
      [&](grpc::ClientContext& context) { return client.admin().ListNodes(&context, {}, nodes); });
}

Status GetLeases(ControllerClient& client, v1::ListLeasesResponse* leases) {
  return client.Ask([&](grpc::ClientContext& context) {
    return client.admin().ListLeases(&context, {}, leases);
  });
}

void Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace

int ShowPool(const Settings& settings, Output output) {
  return WithController(settings, [&](ControllerClient& client) -> Status {
    v1::PoolStatusResponse status;
    v1::ListNodesResponse nodes;
    v1::ListLeasesResponse leases;
    FARWARP_RETURN_IF_ERROR(client.Ask([&](grpc::ClientContext& context) {
      return client.admin().PoolStatus(&context, {}, &status);
    }));
    FARWARP_RETURN_IF_ERROR(GetNodes(client, &nodes));
    FARWARP_RETURN_IF_ERROR(GetLeases(client, &leases));
    Print(output == Output::kJson ? PoolJson(status, nodes, leases)
                                  : PoolText(status, nodes, leases));
    return Status::Ok();
  });
}

int ShowLeases(const Settings& settings, Output output) {
  return WithController(settings, [&](ControllerClient& client) -> Status {
    v1::ListLeasesResponse leases;
    FARWARP_RETURN_IF_ERROR(GetLeases(client, &leases));
    Print(output == Output::kJson ? LeasesJson(leases) : LeasesText(leases));
    return Status::Ok();
  });
}

int ShowNodes(const Settings& settings, Output output) {
  return WithController(settings, [&](ControllerClient& client) -> Status {
    v1::ListNodesResponse nodes;
    FARWARP_RETURN_IF_ERROR(GetNodes(client, &nodes));
    Print(output == Output::kJson ? NodesJson(nodes) : NodesText(nodes));
    return Status::Ok();
  });
}

int ForgetNode(const Settings& settings, const std::string& node) {
  return WithController(settings, [&](ControllerClient& client) -> Status {
    v1::ForgetNodeRequest request;
    request.set_name(node);
    v1::ForgetNodeResponse response;
    FARWARP_RETURN_IF_ERROR(client.Ask([&](grpc::ClientContext& context) {
      return client.admin().ForgetNode(&context, request, &response);
    }));
    std::printf("node %s is forgotten; %u %s ended\n", node.c_str(), response.leases_ended(),
                response.leases_ended() == 1 ? "lease" : "leases");
    return Status::Ok();
  });
}

int SetDraining(const Settings& settings, const std::string& node, bool draining) {
  return WithController(settings, [&](ControllerClient& client) -> Status {
    if (!draining) {
      v1::UndrainNodeRequest request;
      request.set_name(node);
      v1::UndrainNodeResponse response;
      FARWARP_RETURN_IF_ERROR(client.Ask([&](grpc::ClientContext& context) {
        return client.admin().UndrainNode(&context, request, &response);
      }));
      std::printf("node %s takes leases again\n", node.c_str());
      return Status::Ok();
    }
    v1::DrainNodeRequest request;
    request.set_name(node);
    v1::DrainNodeResponse response;
    FARWARP_RETURN_IF_ERROR(client.Ask([&](grpc::ClientContext& context) {
      return client.admin().DrainNode(&context, request, &response);
    }));
    std::printf("node %s takes no new leases; %u left on it\n", node.c_str(),
                response.leases_left());
    return Status::Ok();
  });
}

}  // namespace farwarp::cli
