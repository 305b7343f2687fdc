#include "controller/service/launcher_stream.h"

namespace farwarp::controller {
namespace {

grpc::StatusCode CodeOf(pool::RefusalKind kind) {
  switch (kind) {
    case pool::RefusalKind::kInvalid:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case pool::RefusalKind::kFull:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case pool::RefusalKind::kExpired:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case pool::RefusalKind::kNotFound:
      break;
  }
  return grpc::StatusCode::NOT_FOUND;
}

}  // namespace

LauncherStream::LauncherStream(Core& core, const v1::AcquireRequest& request) : core_(core) {
  id_ = core_.AddLauncher(*this);
  Start(request);
}

void LauncherStream::Start(const v1::AcquireRequest& request) {
  if (request.has_resume()) {
    const auto lease = LeaseIdFrom(request.resume().lease_id());
    const auto secret = SecretFrom(request.resume().secret());
    if (!lease.ok() || !secret.ok()) {
      FinishAfter({grpc::StatusCode::INVALID_ARGUMENT,
                   lease.ok() ? secret.status().message() : lease.status().message()});
      return;
    }
    core_.Resumed(id_, *lease, *secret);
    return;
  }
  Result<pool::Request> asked = FromProto(request);
  if (!asked.ok()) {
    FinishAfter({grpc::StatusCode::INVALID_ARGUMENT, asked.status().message()});
    return;
  }
  core_.Requested(id_, std::move(*asked));
}

void LauncherStream::Tell(const pool::Action& action) {
  v1::AcquireEvent event;
  if (const auto* queued = std::get_if<pool::TellQueued>(&action)) {
    event.mutable_queued()->set_position(queued->position);
    event.mutable_queued()->set_waiting(queued->waiting);
    event.mutable_queued()->set_reason(queued->reason);
    Queue(std::move(event));
  } else if (const auto* granted = std::get_if<pool::TellGranted>(&action)) {
    *event.mutable_grant() = ToProto(*granted);
    Queue(std::move(event));
  } else if (const auto* refused = std::get_if<pool::TellRefused>(&action)) {
    FinishAfter({CodeOf(refused->kind), refused->reason});
  } else if (const auto* ended = std::get_if<pool::TellEnded>(&action)) {
    event.mutable_ended()->set_reason(ended->reason);
    Queue(std::move(event));
    FinishAfter({grpc::StatusCode::ABORTED, ended->reason});
  }
}

// A slow reader gets the newest news only, so that the outbox stays short.
void LauncherStream::Queue(v1::AcquireEvent event) {
  MutexLock lock(mutex_);
  if (final_) return;
  const std::size_t waiting_from = writing_ ? 1 : 0;
  if (event.has_queued() && outbox_.size() > waiting_from && outbox_.back().has_queued()) {
    outbox_.back() = std::move(event);
    return;
  }
  outbox_.push_back(std::move(event));
  if (!writing_) WriteNext();
}

void LauncherStream::WriteNext() {
  writing_ = true;
  StartWrite(&outbox_.front());
}

void LauncherStream::OnWriteDone(bool ok) {
  MutexLock lock(mutex_);
  writing_ = false;
  outbox_.pop_front();
  if (ok && !outbox_.empty()) {
    WriteNext();
  } else if (final_ && !finished_) {
    finished_ = true;
    Finish(*final_);
  }
}

void LauncherStream::FinishAfter(const grpc::Status& status) {
  MutexLock lock(mutex_);
  if (!final_) final_ = status;
  if (writing_ || finished_) return;
  finished_ = true;
  Finish(*final_);
}

void LauncherStream::Stop() {
  FinishAfter({grpc::StatusCode::UNAVAILABLE, "the controller is shutting down"});
}

void LauncherStream::OnCancel() {
  core_.HolderGone(id_);
  FinishAfter(grpc::Status::CANCELLED);
}

void LauncherStream::OnDone() {
  core_.HolderGone(id_);
  core_.RemoveLauncher(id_);
  delete this;
}

}  // namespace farwarp::controller
