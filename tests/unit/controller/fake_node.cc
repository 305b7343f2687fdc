#include "tests/unit/controller/fake_node.h"

#include <atomic>
#include <utility>

namespace farwarp::testing {
namespace {

// Every start of a daemon is another instance.
std::atomic<int> next_instance{1};

}  // namespace

bool Eventually(const std::function<bool()>& done) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  while (!done()) {
    if (std::chrono::steady_clock::now() > until) return false;
    never.wait_for(lock, std::chrono::milliseconds(2));
  }
  return true;
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

v1::AcquireRequest AskFor(std::uint64_t memory_bytes, std::uint32_t percent,
                          std::chrono::milliseconds wait, int count) {
  v1::AcquireRequest request;
  for (int i = 0; i < count; ++i) {
    v1::VgpuRequest& vgpu = *request.add_vgpus();
    vgpu.set_memory_bytes(memory_bytes);
    vgpu.set_compute_percent(percent);
  }
  request.set_wait_ms(static_cast<std::uint64_t>(wait.count()));
  request.mutable_client()->set_user("tester");
  request.mutable_client()->set_host("here");
  request.mutable_client()->set_program("program");
  return request;
}

v1::NodeHello MakeHello(const std::string& name, std::vector<std::uint64_t> device_bytes) {
  v1::NodeHello hello;
  hello.set_name(name);
  hello.set_data_endpoint("127.0.0.1:7401");
  hello.set_driver_version(13000);
  hello.set_farwarp_version("0.1.0");
  for (std::size_t i = 0; i < device_bytes.size(); ++i) {
    v1::Device& device = *hello.add_devices();
    device.set_ordinal(static_cast<std::uint32_t>(i));
    device.set_uuid("GPU-" + name + "-" + std::to_string(i));
    device.set_name("Fake GPU");
    device.set_memory_bytes(device_bytes[i]);
    device.set_compute_capability(121);
    device.set_sm_count(8);
  }
  return hello;
}

FakeNode::FakeNode(std::string controller, v1::NodeHello hello)
    : controller_(std::move(controller)), hello_(std::move(hello)), instance_(next_instance++) {
  reader_ = std::thread([this] { Run(); });
  heart_ = std::thread([this] { Beat(); });
}

FakeNode::~FakeNode() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
    changed_.notify_all();
  }
  reader_.join();
  heart_.join();
}

void FakeNode::FillLeases(google::protobuf::RepeatedPtrField<v1::HeldLease>* leases) const {
  for (const auto& [id, held] : held_) {
    v1::HeldLease& lease = *leases->Add();
    lease.set_lease_id(id);
    lease.set_connections(held.connections);
    for (const v1::Vgpu& vgpu : held.prepare.vgpus()) {
      v1::HeldVgpu& item = *lease.add_vgpus();
      *item.mutable_vgpu() = vgpu;
      item.set_memory_used_bytes(held.connections > 0 ? vgpu.memory_bytes() / 2 : 0);
    }
  }
}

void FakeNode::SendStatus() {
  if (stream_ == nullptr) return;
  v1::NodeReport report;
  FillLeases(report.mutable_status()->mutable_leases());
  stream_->Write(report);
}

void FakeNode::Run() {
  const auto channel = Connect(controller_);
  const auto stub = v1::Nodes::NewStub(channel);
  for (;;) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    std::unique_ptr<Stream> stream;
    {
      const std::scoped_lock lock(mutex_);
      if (stopping_) return;
      context_ = &context;
    }
    stream = stub->Attach(&context);
    {
      const std::scoped_lock lock(mutex_);
      v1::NodeReport report;
      hello_.set_instance_id(hello_.name() + "-" + std::to_string(instance_));
      *report.mutable_hello() = hello_;
      FillLeases(report.mutable_hello()->mutable_leases());
      stream->Write(report);
      stream_ = stream.get();
    }
    Serve(*stream);
    {
      const std::scoped_lock lock(mutex_);
      stream_ = nullptr;
      welcome_ = false;
    }
    const grpc::Status status = stream->Finish();
    std::unique_lock lock(mutex_);
    context_ = nullptr;
    last_status_ = status;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::milliseconds(50), [&] { return stopping_; });
  }
}

void FakeNode::Serve(Stream& stream) {
  v1::NodeCommand command;
  while (stream.Read(&command)) {
    const std::scoped_lock lock(mutex_);
    Handle(command, stream);
    changed_.notify_all();
  }
}

void FakeNode::Handle(const v1::NodeCommand& command, Stream& stream) {
  v1::NodeReport report;
  v1::CommandResult& result = *report.mutable_result();
  result.set_command_id(command.command_id());
  result.set_ok(true);
  if (command.has_welcome()) {
    interval_ = std::chrono::milliseconds(command.welcome().heartbeat_interval_ms());
    welcome_ = true;
    return;
  }
  if (command.has_prepare()) {
    if (!refusal_.empty()) {
      result.set_ok(false);
      result.set_message(refusal_);
    } else {
      held_[command.prepare().lease_id()].prepare = command.prepare();
    }
  } else if (command.has_revoke()) {
    held_.erase(command.revoke().lease_id());
  } else if (command.has_drain()) {
    draining_ = command.drain().draining();
  }
  if (!mute_) stream.Write(report);
}

void FakeNode::Beat() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, interval_, [&] { return stopping_; });
    if (!mute_ && welcome_) SendStatus();
  }
}

void FakeNode::SetConnections(const std::string& lease_id, std::uint32_t connections) {
  const std::scoped_lock lock(mutex_);
  const auto found = held_.find(lease_id);
  if (found == held_.end()) return;
  found->second.connections = connections;
  SendStatus();
}

void FakeNode::RefuseWith(const std::string& message) {
  const std::scoped_lock lock(mutex_);
  refusal_ = message;
}

void FakeNode::Mute() {
  const std::scoped_lock lock(mutex_);
  mute_ = true;
}

void FakeNode::Restart() {
  const std::scoped_lock lock(mutex_);
  held_.clear();
  instance_ = next_instance++;
  if (context_ != nullptr) context_->TryCancel();
}

std::vector<std::string> FakeNode::leases() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, held] : held_) ids.push_back(id);
  return ids;
}

bool FakeNode::attached() const {
  const std::scoped_lock lock(mutex_);
  return welcome_;
}

bool FakeNode::draining() const {
  const std::scoped_lock lock(mutex_);
  return draining_;
}

std::string FakeNode::secret_of(const std::string& lease_id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = held_.find(lease_id);
  return found == held_.end() ? "" : found->second.prepare.secret();
}

grpc::Status FakeNode::last_status() const {
  const std::scoped_lock lock(mutex_);
  return last_status_;
}

FakeLauncher::FakeLauncher(const std::string& controller, const v1::AcquireRequest& request)
    : channel_(Connect(controller)), stub_(v1::Clients::NewStub(channel_)) {
  context_.set_wait_for_ready(true);
  context_.set_deadline(std::chrono::system_clock::now() + 3 * kPatience);
  stream_ = stub_->Acquire(&context_, request);
  reader_ = std::thread([this] { Read(); });
}

FakeLauncher::~FakeLauncher() {
  Kill();
  reader_.join();
}

void FakeLauncher::Kill() {
  context_.TryCancel();
}

void FakeLauncher::Read() {
  v1::AcquireEvent event;
  while (stream_->Read(&event)) {
    const std::scoped_lock lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  }
  const grpc::Status status = stream_->Finish();
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  status_ = status;
  changed_.notify_all();
}

v1::Grant FakeLauncher::WaitForGrant() {
  std::unique_lock lock(mutex_);
  v1::Grant grant;
  changed_.wait_for(lock, kPatience, [&] {
    for (const v1::AcquireEvent& event : events_) {
      if (event.has_grant()) grant = event.grant();
    }
    return ended_ || grant.vgpus_size() > 0;
  });
  return grant;
}

v1::Queued FakeLauncher::WaitForQueued() {
  std::unique_lock lock(mutex_);
  v1::Queued queued;
  changed_.wait_for(lock, kPatience, [&] {
    for (const v1::AcquireEvent& event : events_) {
      if (event.has_queued()) queued = event.queued();
    }
    return ended_ || queued.position() > 0;
  });
  return queued;
}

grpc::Status FakeLauncher::WaitForEnd() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kPatience, [&] { return ended_; }))
    return {grpc::StatusCode::UNKNOWN, "the stream did not end"};
  return status_;
}

std::string FakeLauncher::ended_reason() const {
  const std::scoped_lock lock(mutex_);
  for (const v1::AcquireEvent& event : events_) {
    if (event.has_ended()) return event.ended().reason();
  }
  return "";
}

}  // namespace farwarp::testing
