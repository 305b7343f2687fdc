// One Attach stream on the controller's side. Deletes itself when gRPC is done with it.
//
// Thread-safety: gRPC's callbacks and the core's calls may come from any thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "controller/service/convert.h"
#include "controller/service/core.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::controller {

class NodeStream final : public grpc::ServerBidiReactor<v1::NodeReport, v1::NodeCommand>,
                         public NodeSink {
 public:
  // `core` and `context` outlive the stream.
  NodeStream(Core& core, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Send(const pool::Action& command) override;
  void Close(pool::CloseKind kind, const std::string& reason) override;
  void Stop() override;

 private:
  Status Handle(const v1::NodeReport& report);
  Status HandleHello(const v1::NodeHello& hello);
  Status HandleResult(const v1::CommandResult& result);
  void Welcome();
  void Queue(v1::NodeCommand command);
  void WriteNext() REQUIRES(mutex_);
  void FinishOnce(const grpc::Status& status, bool now);

  Core& core_;
  grpc::CallbackServerContext& context_;
  v1::NodeReport report_;  // Being read; the reading callback's alone.
  bool named_ = false;     // Likewise.

  Mutex mutex_;
  std::deque<v1::NodeCommand> outbox_ GUARDED_BY(mutex_);
  bool writing_ GUARDED_BY(mutex_) = false;
  std::uint64_t next_command_ GUARDED_BY(mutex_) = 1;
  // Commands sent and not answered: which lease, and whether it is revoked. No entry for drain.
  std::map<std::uint64_t, std::pair<pool::LeaseId, bool>> unanswered_ GUARDED_BY(mutex_);
  std::optional<grpc::Status> final_ GUARDED_BY(mutex_);
  bool finished_ GUARDED_BY(mutex_) = false;
  pool::SessionId session_;  // Set once in the constructor.
};

}  // namespace farwarp::controller
