#include "client/cli/lease_holder.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace farwarp::cli {
namespace {

constexpr auto kBetweenAttempts = std::chrono::milliseconds(200);
// A controller that answers and ends the stream is not asked without end.
constexpr auto kAfterConnecting = std::chrono::milliseconds(50);

bool IsBrokenConnection(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::CANCELLED ||
         status.error_code() == grpc::StatusCode::UNKNOWN ||
         status.error_code() == grpc::StatusCode::INTERNAL;
}

}  // namespace

LeaseHolder::LeaseHolder(ControllerClient& client, v1::AcquireRequest request)
    : client_(client),
      stub_(v1::Clients::NewStub(client.channel())),
      request_(std::move(request)),
      until_(std::chrono::steady_clock::now() + std::chrono::milliseconds(request_.wait_ms())),
      event_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

LeaseHolder::~LeaseHolder() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
    stop_.notify_all();
  }
  thread_.join();
}

void LeaseHolder::Post(HolderEvent event) {
  const std::scoped_lock lock(mutex_);
  events_.push_back(std::move(event));
  const std::uint64_t one = 1;
  // Cannot fail but for a full counter, and then the reader is awake anyway.
  static_cast<void>(!::write(event_fd_.get(), &one, sizeof one));
}

std::vector<HolderEvent> LeaseHolder::Take() {
  const std::scoped_lock lock(mutex_);
  std::uint64_t count = 0;
  static_cast<void>(!::read(event_fd_.get(), &count, sizeof count));
  return std::exchange(events_, {});
}

void LeaseHolder::Run() {
  while (Attempt()) {
    if (!Pause()) return;
  }
}

bool LeaseHolder::Pause() {
  // gRPC works on a connection only while somebody waits for it: resting here instead would leave
  // one that has come about untouched for seconds.
  client_.channel()->WaitForConnected(std::chrono::system_clock::now() + kBetweenAttempts);
  std::unique_lock lock(mutex_);
  stop_.wait_for(lock, kAfterConnecting, [this] { return stopping_; });
  return !stopping_;
}

bool LeaseHolder::Attempt() {
  grpc::ClientContext context;
  v1::AcquireRequest request;
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return false;
    context_ = &context;
    if (granted_) {
      request.mutable_resume()->set_lease_id(grant_.lease_id());
      request.mutable_resume()->set_secret(grant_.secret());
    } else {
      request = request_;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          until_ - std::chrono::steady_clock::now());
      request.set_wait_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(0, left.count())));
    }
  }
  const auto stream = stub_->Acquire(&context, request);
  v1::AcquireEvent event;
  bool answered = false;
  while (stream->Read(&event)) {
    answered = true;
    if (event.has_queued()) {
      Post({HolderEvent::Kind::kQueued, event.queued(), {}, {}});
    } else if (event.has_grant()) {
      {
        const std::scoped_lock lock(mutex_);
        troubled_ = false;
        if (granted_) continue;  // Claimed again.
        granted_ = true;
        grant_ = event.grant();
      }
      Post({HolderEvent::Kind::kGranted, {}, event.grant(), {}});
    }
  }
  const grpc::Status status = stream->Finish();
  {
    const std::scoped_lock lock(mutex_);
    context_ = nullptr;
    ever_answered_ = ever_answered_ || answered;
    if (stopping_) return false;
  }
  return AfterEnd(status, answered);
}

bool LeaseHolder::AfterEnd(const grpc::Status& status, bool answered) {
  bool granted = false;
  bool first_trouble = false;
  bool keep_trying = false;
  {
    const std::scoped_lock lock(mutex_);
    granted = granted_;
    // A controller that never answered is a wrong address, not a restart.
    keep_trying = IsBrokenConnection(status) && (granted || ever_answered_);
    if (keep_trying && !granted && std::chrono::steady_clock::now() >= until_) keep_trying = false;
    if (keep_trying) first_trouble = !std::exchange(troubled_, !answered);
  }
  if (keep_trying) {
    if (first_trouble) Post({HolderEvent::Kind::kTroubled, {}, {}, client_.Explain(status)});
    return true;
  }
  if (granted) {
    Post({HolderEvent::Kind::kEnded, {}, {}, Status::Closed(status.error_message())});
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    Post({HolderEvent::Kind::kRefused,
          {},
          {},
          Status::Timeout("waited in vain: " + status.error_message())});
  } else {
    Post({HolderEvent::Kind::kRefused, {}, {}, client_.Explain(status)});
  }
  return false;
}

Status LeaseHolder::Release() {
  v1::ReleaseRequest request;
  {
    const std::scoped_lock lock(mutex_);
    if (!granted_) return Status::Ok();
    request.set_lease_id(grant_.lease_id());
    request.set_secret(grant_.secret());
  }
  v1::ReleaseResponse response;
  return client_.Ask(
      [&](grpc::ClientContext& context) { return stub_->Release(&context, request, &response); });
}

}  // namespace farwarp::cli
