#include "client/cli/controller_client.h"

#include <utility>

#include "proto/control/health.grpc.pb.h"
#include "proto/control/trouble.h"

namespace farwarp::cli {
ControllerClient::ControllerClient(std::string address) : address_(std::move(address)) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);  // Also how long one attempt may take.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The controller is reached directly; a proxy for web pages has no part in this.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  admin_ = v1::Admin::NewStub(channel_);
}

Status ControllerClient::Explain(const grpc::Status& status) const {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return Status::Ok();
    case grpc::StatusCode::UNAVAILABLE:
      return Status::Unavailable("cannot reach the controller at " + address_ + ": " +
                                 control::WhyUnreachable(status.error_message()) +
                                 "; is farwarp-controller running there?");
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Status::Timeout("the controller at " + address_ + " does not answer");
    // What gRPC says of a stream whose controller has gone.
    case grpc::StatusCode::CANCELLED:
      return Status::Unavailable("the connection to the controller at " + address_ + " broke");
    case grpc::StatusCode::UNIMPLEMENTED:
      return Status::Invalid("what answers at " + address_ +
                             " is no farwarp controller, or one of another version");
    case grpc::StatusCode::NOT_FOUND:
      return Status::NotFound(status.error_message());
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Status::Invalid(status.error_message());
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Status::Limit(status.error_message());
    default:
      return Status::Internal("the controller at " + address_ + " says: " + status.error_message());
  }
}

Status ControllerClient::CheckHealth() {
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(v1::Clients::service_full_name());
  grpc::health::v1::HealthCheckResponse response;
  const Status status = Ask(
      [&](grpc::ClientContext& context) { return health->Check(&context, request, &response); });
  if (status.code() == StatusCode::kNotFound) {
    return Status::Invalid("what answers at " + address_ + " is no farwarp controller");
  }
  FARWARP_RETURN_IF_ERROR(status);
  if (response.status() != grpc::health::v1::HealthCheckResponse::SERVING)
    return Status::Unavailable("the controller at " + address_ + " is shutting down");
  return Status::Ok();
}

}  // namespace farwarp::cli
