#include "controller/service/node_stream.h"

#include <spdlog/spdlog.h>

#include "controller/service/version.h"

namespace farwarp::controller {
namespace {

std::uint32_t Milliseconds(pool::Time time) {
  return static_cast<std::uint32_t>(time.count());
}

grpc::StatusCode CodeOf(pool::CloseKind kind) {
  switch (kind) {
    case pool::CloseKind::kInvalid:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case pool::CloseKind::kNameInUse:
      return grpc::StatusCode::ALREADY_EXISTS;
    case pool::CloseKind::kReplaced:
    case pool::CloseKind::kSilent:
      break;
  }
  return grpc::StatusCode::ABORTED;
}

}  // namespace

NodeStream::NodeStream(Core& core, grpc::CallbackServerContext& context)
    : core_(core), context_(context) {
  session_ = core_.AddNode(*this);
  StartRead(&report_);
}

void NodeStream::OnReadDone(bool ok) {
  if (!ok) {
    core_.NodeDetached(session_);
    FinishOnce(grpc::Status::OK, false);
    return;
  }
  if (const Status status = Handle(report_); !status.ok()) {
    spdlog::warn("node stream {} from {}: {}", session_, context_.peer(), status.message());
    core_.NodeDetached(session_);
    FinishOnce({grpc::StatusCode::INVALID_ARGUMENT, status.message()}, false);
    return;
  }
  StartRead(&report_);
}

Status NodeStream::Handle(const v1::NodeReport& report) {
  switch (report.report_case()) {
    case v1::NodeReport::kHello:
      return HandleHello(report.hello());
    case v1::NodeReport::kStatus: {
      if (!named_) return Status::Invalid("the first report must be hello");
      const auto held = FromProto(report.status().leases());
      if (!held.ok()) return held.status();
      core_.NodeReported(session_, *held);
      return Status::Ok();
    }
    case v1::NodeReport::kResult:
      return HandleResult(report.result());
    case v1::NodeReport::kGoodbye:
      spdlog::info("node stream {}: the node ends", session_);
      core_.NodeLeft(session_);
      FinishOnce(grpc::Status::OK, false);
      return Status::Ok();
    case v1::NodeReport::REPORT_NOT_SET:
      break;
  }
  return Status::Invalid("a report of an unknown kind; is the node newer than the controller?");
}

Status NodeStream::HandleHello(const v1::NodeHello& hello) {
  if (named_) return Status::Invalid("hello was said twice");
  Result<pool::NodeInfo> info = FromProto(hello);
  if (!info.ok()) return info.status();
  const Result<std::vector<pool::HeldLease>> held = FromProto(hello.leases());
  if (!held.ok()) return held.status();
  named_ = true;
  core_.NodeAttached(session_, std::move(*info), *held);
  return Status::Ok();
}

Status NodeStream::HandleResult(const v1::CommandResult& result) {
  std::optional<std::pair<pool::LeaseId, bool>> command;
  {
    MutexLock lock(mutex_);
    if (result.command_id() == 0 || result.command_id() >= next_command_) {
      return Status::Invalid("an answer to command " + std::to_string(result.command_id()) +
                             ", which was never sent");
    }
    const auto found = unanswered_.find(result.command_id());
    if (found != unanswered_.end()) {
      command = found->second;
      unanswered_.erase(found);
    }
  }
  if (command) {
    core_.NodeAnswered(
        session_, command->first, command->second,
        result.ok() ? Status::Ok() : Status::Internal(result.message().substr(0, 500)));
  }
  return Status::Ok();
}

void NodeStream::Welcome() {
  v1::NodeCommand command;
  v1::Welcome& welcome = *command.mutable_welcome();
  welcome.set_heartbeat_interval_ms(Milliseconds(core_.config().heartbeat_interval));
  welcome.set_heartbeat_timeout_ms(Milliseconds(core_.config().pool.heartbeat_timeout));
  welcome.set_controller_version(kVersion);
  Queue(std::move(command));
}

void NodeStream::Send(const pool::Action& action) {
  if (std::holds_alternative<pool::SendWelcome>(action)) return Welcome();
  v1::NodeCommand command;
  std::optional<std::pair<pool::LeaseId, bool>> owed;
  if (const auto* prepare = std::get_if<pool::SendPrepare>(&action)) {
    v1::PrepareLease& out = *command.mutable_prepare();
    out.set_lease_id(ToBytes(prepare->lease));
    out.set_secret(std::string(prepare->secret.begin(), prepare->secret.end()));
    for (const pool::Vgpu& vgpu : prepare->vgpus) *out.add_vgpus() = ToProto(vgpu);
    out.set_unused_timeout_ms(Milliseconds(core_.config().pool.node_grace));
    out.set_client(prepare->client);
    owed = {prepare->lease, false};
  } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&action)) {
    command.mutable_revoke()->set_lease_id(ToBytes(revoke->lease));
    command.mutable_revoke()->set_reason(revoke->reason);
    owed = {revoke->lease, true};
  } else if (const auto* drain = std::get_if<pool::SendDrain>(&action)) {
    command.mutable_drain()->set_draining(drain->draining);
  }
  {
    MutexLock lock(mutex_);
    command.set_command_id(next_command_++);
    if (owed) unanswered_[command.command_id()] = *owed;
  }
  Queue(std::move(command));
}

void NodeStream::Queue(v1::NodeCommand command) {
  MutexLock lock(mutex_);
  if (final_) return;
  outbox_.push_back(std::move(command));
  if (!writing_) WriteNext();
}

void NodeStream::WriteNext() {
  writing_ = true;
  StartWrite(&outbox_.front());
}

void NodeStream::OnWriteDone(bool ok) {
  MutexLock lock(mutex_);
  writing_ = false;
  outbox_.pop_front();
  if (final_ && !finished_) {
    finished_ = true;
    Finish(*final_);
  } else if (ok && !outbox_.empty()) {
    WriteNext();
  }
}

// Ends the stream once the write under way is done; `now` does not wait for a peer that may not
// read.
void NodeStream::FinishOnce(const grpc::Status& status, bool now) {
  MutexLock lock(mutex_);
  if (!final_) final_ = status;
  if (writing_) {
    if (now) context_.TryCancel();
    return;
  }
  if (finished_) return;
  finished_ = true;
  Finish(*final_);
}

void NodeStream::Close(pool::CloseKind kind, const std::string& reason) {
  // Whoever is alive shall read why; whoever is silent would never let the last write end.
  const bool dead = kind == pool::CloseKind::kSilent || kind == pool::CloseKind::kReplaced;
  FinishOnce({CodeOf(kind), reason}, dead);
}

void NodeStream::Stop() {
  FinishOnce({grpc::StatusCode::UNAVAILABLE, "the controller is shutting down"}, true);
}

void NodeStream::OnCancel() {
  FinishOnce(grpc::Status::CANCELLED, false);
}

void NodeStream::OnDone() {
  core_.NodeDetached(session_);
  core_.RemoveNode(session_);
  delete this;
}

}  // namespace farwarp::controller
