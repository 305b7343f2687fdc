// A node daemon without a driver: attaches to a controller over loopback gRPC and holds leases in a
// map. Also the launcher's side of an Acquire stream. Used by the tests of controller and CLI.
//
// Thread-safe. Every wait has a deadline; a test that waits in vain fails.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proto/control/clients.grpc.pb.h"
#include "proto/control/nodes.grpc.pb.h"

namespace farwarp::testing {

namespace v1 = ::farwarp::control::v1;

inline constexpr auto kPatience = std::chrono::seconds(20);

// Waits until `done`, asking again and again; false when patience ends.
bool Eventually(const std::function<bool()>& done);

v1::NodeHello MakeHello(const std::string& name, std::vector<std::uint64_t> device_bytes);

class FakeNode {
 public:
  // Attaches again with back-off whenever the stream ends, until destroyed.
  FakeNode(std::string controller, v1::NodeHello hello);
  ~FakeNode();

  void SetConnections(const std::string& lease_id, std::uint32_t connections);
  // From now on every prepare is refused with this sentence; empty: accepted.
  void RefuseWith(const std::string& message);
  // From now on no command is answered.
  void Mute();
  // Forgets its leases, as a restarted daemon would, and attaches again as another instance.
  void Restart();

  std::vector<std::string> leases() const;
  bool attached() const;
  bool draining() const;
  std::string secret_of(const std::string& lease_id) const;
  grpc::Status last_status() const;  // How the last stream ended.

 private:
  struct Held {
    std::uint32_t connections = 0;
    v1::PrepareLease prepare;
  };
  using Stream = grpc::ClientReaderWriter<v1::NodeReport, v1::NodeCommand>;

  void Run();
  void Serve(Stream& stream);
  void Handle(const v1::NodeCommand& command, Stream& stream);
  void Beat();
  void FillLeases(google::protobuf::RepeatedPtrField<v1::HeldLease>* leases) const;
  void SendStatus();

  const std::string controller_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  v1::NodeHello hello_;
  std::map<std::string, Held> held_;
  Stream* stream_ = nullptr;  // Written to under the mutex.
  grpc::ClientContext* context_ = nullptr;
  std::string refusal_;
  bool mute_ = false;
  bool welcome_ = false;
  bool draining_ = false;
  bool stopping_ = false;
  int instance_;
  std::chrono::milliseconds interval_{1000};
  grpc::Status last_status_;
  std::thread reader_;
  std::thread heart_;
};

class FakeLauncher {
 public:
  FakeLauncher(const std::string& controller, const v1::AcquireRequest& request);
  ~FakeLauncher();  // Like kill -9: the stream just ends.

  // The grant, or an empty message when the stream ended or patience did.
  v1::Grant WaitForGrant();
  v1::Queued WaitForQueued();
  // How the stream ended.
  grpc::Status WaitForEnd();
  std::string ended_reason() const;
  void Kill();

 private:
  void Read();

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Clients::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::AcquireEvent>> stream_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::AcquireEvent> events_;
  bool ended_ = false;
  grpc::Status status_;
  std::thread reader_;
};

std::shared_ptr<grpc::Channel> Connect(const std::string& address);
v1::AcquireRequest AskFor(std::uint64_t memory_bytes, std::uint32_t percent,
                          std::chrono::milliseconds wait, int count = 1);

}  // namespace farwarp::testing
