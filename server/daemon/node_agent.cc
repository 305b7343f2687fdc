#include "server/daemon/node_agent.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "farwarp/base/bytes.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/limits.h"
#include "proto/control/trouble.h"

namespace farwarp::server {
namespace {

namespace v1 = control::v1;

constexpr std::chrono::milliseconds kFirstPause{50};
constexpr std::chrono::milliseconds kLongestPause{1000};
// How long one wait for the connection is; after it the agent sees whether it shall stop, and why
// there is none.
constexpr std::chrono::milliseconds kDialTime{200};
constexpr std::chrono::milliseconds kGoodbyeTime{500};

std::string RandomId() {
  std::array<std::uint8_t, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    // Only has to differ from the daemon's earlier starts.
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    std::memcpy(bytes.data(), &now, std::min(sizeof now, bytes.size()));
  }
  return HexEncode(bytes);
}

template <std::size_t size>
bool CopyExactly(const std::string& from, std::array<std::uint8_t, size>& to) {
  if (from.size() != size) return false;
  std::memcpy(to.data(), from.data(), size);
  return true;
}

std::shared_ptr<grpc::Channel> Dial(const std::string& controller) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);  // How long one attempt may take.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(controller, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

// Shared by the loop's thread, which gives it, and the agent, which may be gone by then.
struct NodeAgent::Answer {
  Mutex mutex;
  CondVar is_given;
  bool given GUARDED_BY(mutex) = false;
  Status status GUARDED_BY(mutex);
};

NodeAgent::NodeAgent(EventLoop& loop, Daemon& daemon, Options options)
    : loop_(loop), daemon_(daemon), options_(std::move(options)), instance_id_(RandomId()) {
  reader_ = std::thread([this] { Run(); });
  heart_ = std::thread([this] { Beat(); });
}

NodeAgent::~NodeAgent() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
    // The heart says goodbye, and the controller ends the stream. One that does not is not waited
    // for.
    const auto until = std::chrono::steady_clock::now() + kGoodbyeTime;
    while (attached_ && std::chrono::steady_clock::now() < until) wake_.WaitUntil(mutex_, until);
    if (context_ != nullptr) context_->TryCancel();
  }
  reader_.join();
  heart_.join();
}

void NodeAgent::Notify() {
  const MutexLock lock(mutex_);
  changed_ = true;
  wake_.NotifyAll();
}

bool NodeAgent::WaitFor(std::chrono::milliseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  const MutexLock lock(mutex_);
  while (!stopping_ && std::chrono::steady_clock::now() < until) wake_.WaitUntil(mutex_, until);
  return !stopping_;
}

void NodeAgent::Run() {
  const auto channel = Dial(options_.controller);
  const auto stub = v1::Nodes::NewStub(channel);
  std::chrono::milliseconds pause = kFirstPause;
  do {
    // gRPC works on a connection only while somebody waits for it. Calls that fail at once do not:
    // between them a connection that has come about would lie untouched for seconds.
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + kDialTime)) {
      Attach(*stub);  // Fails, with the reason.
      pause = std::chrono::milliseconds(0);
      continue;
    }
    const auto begin = std::chrono::steady_clock::now();
    Attach(*stub);
    const bool lasted = std::chrono::steady_clock::now() - begin > kLongestPause;
    pause = lasted ? kFirstPause : std::clamp(pause * 2, kFirstPause, kLongestPause);
  } while (WaitFor(pause));
}

void NodeAgent::Attach(v1::Nodes::Stub& stub) {
  grpc::ClientContext context;
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    context_ = &context;
  }
  const std::unique_ptr<Stream> stream = stub.Attach(&context);
  {
    const MutexLock lock(write_mutex_);
    if (stream->Write(Hello())) stream_ = stream.get();
  }
  v1::NodeCommand command;
  while (stream->Read(&command)) Obey(command);
  {
    const MutexLock lock(write_mutex_);
    stream_ = nullptr;
  }
  const grpc::Status status = stream->Finish();
  bool was_attached = false;
  bool stopping = false;
  {
    const MutexLock lock(mutex_);
    context_ = nullptr;
    was_attached = std::exchange(attached_, false);
    stopping = stopping_;
    wake_.NotifyAll();
  }
  if (stopping) return;
  loop_.Post([daemon = &daemon_] { daemon->SetAttached(false); });
  Complain(status, was_attached);
}

void NodeAgent::Complain(const grpc::Status& status, bool was_attached) {
  const bool refused = status.error_code() == grpc::StatusCode::ALREADY_EXISTS ||
                       status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
  std::string complaint = "it ended the stream";
  if (refused || status.error_code() == grpc::StatusCode::ABORTED) {
    complaint = status.error_message();  // In the controller's words.
  } else if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    complaint = "what answers there is no farwarp controller, or one of another version";
  } else if (!status.ok()) {
    complaint = control::WhyUnreachable(status.error_message());
    FARWARP_LOG(kDebug, "gRPC says: %s", status.error_message().c_str());
  }
  if (was_attached || complaint != last_complaint_) {
    FARWARP_LOG(kWarn, "%s the controller at %s: %s; trying again",
                refused ? "this node is refused by" : "no connection to",
                options_.controller.c_str(), complaint.c_str());
  }
  last_complaint_ = complaint;
}

void NodeAgent::Beat() {
  for (;;) {
    bool report = false;
    bool stopping = false;
    {
      const MutexLock lock(mutex_);
      const auto until = std::chrono::steady_clock::now() + interval_;
      while (!stopping_ && !changed_ && std::chrono::steady_clock::now() < until) {
        wake_.WaitUntil(mutex_, until);
      }
      changed_ = false;
      report = attached_;
      stopping = stopping_;
    }
    if (stopping) {
      v1::NodeReport goodbye;
      goodbye.mutable_goodbye();
      if (report) Report(goodbye);
      return;
    }
    if (!report) continue;
    v1::NodeReport status;
    AddLeases(status.mutable_status()->mutable_leases());
    Report(status);
  }
}

void NodeAgent::Report(const v1::NodeReport& report) {
  const MutexLock lock(write_mutex_);
  if (stream_ != nullptr) stream_->Write(report);  // A broken stream shows in Read.
}

v1::NodeReport NodeAgent::Hello() const {
  v1::NodeReport report;
  v1::NodeHello& hello = *report.mutable_hello();
  hello.set_name(options_.node_name);
  hello.set_instance_id(instance_id_);
  hello.set_data_endpoint(options_.data_endpoint);
  hello.set_driver_version(static_cast<std::uint32_t>(options_.facts.version));
  hello.set_farwarp_version(FARWARP_VERSION);
  for (const ProbedDevice& device : options_.facts.devices) {
    v1::Device& entry = *hello.add_devices();
    entry.set_ordinal(device.ordinal);
    entry.set_uuid(device.uuid);
    entry.set_name(device.name);
    entry.set_memory_bytes(device.memory_bytes);
    entry.set_compute_capability(device.compute_capability);
    entry.set_sm_count(device.sm_count);
  }
  for (const auto& [key, value] : options_.labels) (*hello.mutable_labels())[key] = value;
  AddLeases(hello.mutable_leases());
  return report;
}

void NodeAgent::AddLeases(google::protobuf::RepeatedPtrField<v1::HeldLease>* leases) const {
  for (const LeaseState& state : daemon_.States()) {
    v1::HeldLease& lease = *leases->Add();
    lease.set_lease_id(state.id.data(), state.id.size());
    lease.set_connections(state.connections);
    for (std::uint32_t ordinal = 0; ordinal < state.vgpus.size(); ++ordinal) {
      v1::HeldVgpu& held = *lease.add_vgpus();
      held.mutable_vgpu()->set_ordinal(ordinal);
      held.mutable_vgpu()->set_device_ordinal(state.vgpus[ordinal].device);
      held.mutable_vgpu()->set_device_uuid(state.device_uuids[ordinal]);
      held.mutable_vgpu()->set_memory_bytes(state.vgpus[ordinal].memory_bytes);
      held.mutable_vgpu()->set_compute_percent(state.vgpus[ordinal].compute_percent);
      held.set_memory_used_bytes(state.quota->Used(ordinal));
    }
  }
}

void NodeAgent::Obey(const v1::NodeCommand& command) {
  if (command.has_welcome()) {
    const auto interval = std::chrono::milliseconds(command.welcome().heartbeat_interval_ms());
    {
      const MutexLock lock(mutex_);
      attached_ = true;
      interval_ =
          std::clamp(interval, std::chrono::milliseconds(10), std::chrono::milliseconds(60'000));
      wake_.NotifyAll();
    }
    last_complaint_.clear();
    loop_.Post([daemon = &daemon_] { daemon->SetAttached(true); });
    FARWARP_LOG(kInfo, "attached to the controller at %s as %s", options_.controller.c_str(),
                options_.node_name.c_str());
    return;
  }
  const Status status = Execute(command);
  if (!status.ok()) FARWARP_LOG(kWarn, "a command is refused: %s", status.message().c_str());
  v1::NodeReport report;
  report.mutable_result()->set_command_id(command.command_id());
  report.mutable_result()->set_ok(status.ok());
  report.mutable_result()->set_message(status.message());
  Report(report);
}

Status NodeAgent::Execute(const v1::NodeCommand& command) {
  if (command.has_prepare()) return Prepare(command.prepare());
  if (command.has_revoke()) return Revoke(command.revoke());
  if (command.has_drain()) {
    const bool draining = command.drain().draining();
    loop_.Post([daemon = &daemon_, draining] { daemon->SetDraining(draining); });
    return Status::Ok();
  }
  return Status::Invalid("this node does not know that command; is it older than the controller?");
}

Status NodeAgent::Prepare(const v1::PrepareLease& prepare) {
  LeaseOffer offer;
  if (!CopyExactly(prepare.lease_id(), offer.id) || !CopyExactly(prepare.secret(), offer.secret)) {
    return Status::Invalid("a lease id has 16 bytes and a secret 32");
  }
  const auto count = static_cast<std::size_t>(prepare.vgpus_size());
  if (count == 0 || count > wire::kMaxDevices) {
    return Status::Invalid("a lease has 1 to " + std::to_string(wire::kMaxDevices) + " vGPUs");
  }
  offer.vgpus.resize(count);
  offer.device_uuids.resize(count);
  std::vector<bool> seen(count, false);
  for (const v1::Vgpu& vgpu : prepare.vgpus()) {
    if (vgpu.ordinal() >= count || seen[vgpu.ordinal()]) {
      return Status::Invalid("the ordinals of a lease's vGPUs are not dense");
    }
    if (vgpu.device_ordinal() >= options_.facts.devices.size()) {
      return Status::Invalid("this node has no device " + std::to_string(vgpu.device_ordinal()));
    }
    const ProbedDevice& device = options_.facts.devices[vgpu.device_ordinal()];
    if (!vgpu.device_uuid().empty() && vgpu.device_uuid() != device.uuid) {
      return Status::Invalid("device " + std::to_string(vgpu.device_ordinal()) + " is " +
                             device.uuid + " and not " + vgpu.device_uuid());
    }
    if (vgpu.memory_bytes() == 0 || vgpu.memory_bytes() > device.memory_bytes ||
        vgpu.compute_percent() == 0 || vgpu.compute_percent() > 100) {
      return Status::Invalid("vGPU " + std::to_string(vgpu.ordinal()) +
                             " asks for more than its device has, or for nothing");
    }
    seen[vgpu.ordinal()] = true;
    offer.vgpus[vgpu.ordinal()] = {vgpu.device_ordinal(), vgpu.memory_bytes(),
                                   vgpu.compute_percent()};
    offer.device_uuids[vgpu.ordinal()] = device.uuid;
  }
  offer.unused_timeout = std::chrono::milliseconds(prepare.unused_timeout_ms());
  offer.client = prepare.client().substr(0, 256);
  return OnLoop([daemon = &daemon_, offer = std::move(offer)](const Daemon::Done& done) {
    done(daemon->PrepareLease(offer));
  });
}

Status NodeAgent::Revoke(const v1::RevokeLease& revoke) {
  wire::LeaseId id{};
  if (!CopyExactly(revoke.lease_id(), id)) return Status::Invalid("a lease id has 16 bytes");
  return OnLoop([daemon = &daemon_, id, reason = revoke.reason().substr(0, 256)](
                    Daemon::Done done) { daemon->RevokeLease(id, reason, std::move(done)); });
}

Status NodeAgent::OnLoop(std::function<void(Daemon::Done)> task) {
  const auto answer = std::make_shared<Answer>();
  loop_.Post([answer, task = std::move(task)] {
    task([answer](Status status) {
      const MutexLock lock(answer->mutex);
      answer->status = std::move(status);
      answer->given = true;
      answer->is_given.NotifyAll();
    });
  });
  constexpr std::chrono::milliseconds kLook{20};  // How often to see whether the agent stops.
  do {
    const MutexLock lock(answer->mutex);
    if (!answer->given) {
      answer->is_given.WaitUntil(answer->mutex, std::chrono::steady_clock::now() + kLook);
    }
    if (answer->given) return answer->status;
  } while (WaitFor(std::chrono::milliseconds(0)));
  return Status::Closed("the node is shutting down");
}

}  // namespace farwarp::server
