// The `farwarp` program's way to the controller: a channel, and errors in words that help.
//
// Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

#include "farwarp/base/status.h"
#include "proto/control/admin.grpc.pb.h"
#include "proto/control/clients.grpc.pb.h"

namespace farwarp::cli {

namespace v1 = ::farwarp::control::v1;

// How long a question to the controller may take.
inline constexpr auto kAnswerTime = std::chrono::seconds(2);

class ControllerClient {
 public:
  explicit ControllerClient(std::string address);

  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  v1::Admin::Stub& admin() { return *admin_; }

  // Ok when a healthy farwarp controller answers there.
  Status CheckHealth();
  // One question: `call(context)` with a deadline set.
  template <typename Call>
  Status Ask(Call call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kAnswerTime);
    return Explain(call(context));
  }
  // The status in words: who could not be reached, or what the controller said.
  Status Explain(const grpc::Status& status) const;

 private:
  const std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace farwarp::cli
