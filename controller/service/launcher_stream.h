// One Acquire stream on the controller's side. Deletes itself when gRPC is done with it.
//
// Thread-safety: gRPC's callbacks and the core's calls may come from any thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <optional>

#include "controller/service/convert.h"
#include "controller/service/core.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::controller {

class LauncherStream final : public grpc::ServerWriteReactor<v1::AcquireEvent>,
                             public LauncherSink {
 public:
  // `core` outlives the stream.
  LauncherStream(Core& core, const v1::AcquireRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Tell(const pool::Action& event) override;
  void Stop() override;

 private:
  void Start(const v1::AcquireRequest& request);
  void Queue(v1::AcquireEvent event);
  void WriteNext() REQUIRES(mutex_);
  // Ends the stream after what is in the outbox.
  void FinishAfter(const grpc::Status& status);

  Core& core_;
  Mutex mutex_;
  std::deque<v1::AcquireEvent> outbox_ GUARDED_BY(mutex_);
  bool writing_ GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> final_ GUARDED_BY(mutex_);
  bool finished_ GUARDED_BY(mutex_) = false;
  pool::RequestId id_;  // Set once in the constructor.
};

}  // namespace farwarp::controller
