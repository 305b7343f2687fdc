// NodeAgent: keeps the node attached to the controller (proto/control/nodes.proto) and turns its
// commands into calls on the Daemon.
//
// While detached it dials again, at most a quarter of a second apart; leases and data connections
// are not touched meanwhile. Owns two threads: one reads commands and answers them in order, one
// sends heartbeats. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "farwarp/base/thread_annotations.h"
#include "proto/control/nodes.grpc.pb.h"
#include "server/daemon/daemon.h"
#include "server/daemon/probe.h"

namespace farwarp::server {

class NodeAgent {
 public:
  struct Options {
    std::string controller;  // host:port
    std::string node_name;
    std::string data_endpoint;
    std::map<std::string, std::string> labels;
    DriverFacts facts;
  };

  // `loop` and `daemon` outlive the agent.
  NodeAgent(EventLoop& loop, Daemon& daemon, Options options);
  // Says goodbye to the controller.
  ~NodeAgent();
  NodeAgent(const NodeAgent&) = delete;
  NodeAgent& operator=(const NodeAgent&) = delete;

  // Reports soon: something about a lease has changed.
  void Notify() EXCLUDES(mutex_);

 private:
  using Stream = grpc::ClientReaderWriter<control::v1::NodeReport, control::v1::NodeCommand>;
  struct Answer;

  void Run();
  void Beat();
  bool WaitFor(std::chrono::milliseconds time) EXCLUDES(mutex_);  // False when stopping.
  void Attach(control::v1::Nodes::Stub& stub);
  // Says once why there is no connection.
  void Complain(const grpc::Status& status, bool was_attached);
  void Obey(const control::v1::NodeCommand& command);
  Status Execute(const control::v1::NodeCommand& command);
  Status Prepare(const control::v1::PrepareLease& prepare);
  Status Revoke(const control::v1::RevokeLease& revoke);
  // Runs on the loop's thread and waits for its answer, or for the agent's end.
  Status OnLoop(std::function<void(Daemon::Done)> task);
  control::v1::NodeReport Hello() const;
  void AddLeases(google::protobuf::RepeatedPtrField<control::v1::HeldLease>* leases) const;
  void Report(const control::v1::NodeReport& report) EXCLUDES(write_mutex_);

  EventLoop& loop_;
  Daemon& daemon_;
  const Options options_;
  const std::string instance_id_;

  Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool changed_ GUARDED_BY(mutex_) = false;
  bool attached_ GUARDED_BY(mutex_) = false;
  std::chrono::milliseconds interval_ GUARDED_BY(mutex_){1000};
  grpc::ClientContext* context_ GUARDED_BY(mutex_) = nullptr;

  Mutex write_mutex_;  // gRPC takes one writer at a time.
  Stream* stream_ GUARDED_BY(write_mutex_) = nullptr;
  std::string last_complaint_;  // Run's thread only: each trouble is logged once.

  std::thread reader_;
  std::thread heart_;
};

}  // namespace farwarp::server
