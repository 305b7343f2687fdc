// The node's side of the control protocol: a real farwarp-server attached to a controller that the
// test plays itself.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "farwarp/base/bytes.h"
#include "proto/control/nodes.grpc.pb.h"
#include "tests/unit/daemon/fake_libcuda.h"
#include "tests/unit/daemon/server_process.h"

namespace farwarp::testing {
namespace {

namespace v1 = control::v1;

constexpr std::uint64_t kVgpuBytes = 256 * kMiB;

// A controller that says what the test tells it to and remembers what the node reports.
class FakeController final : public v1::Nodes::Service {
 public:
  // Port 0 for any. With a `refusal` no node is accepted.
  explicit FakeController(const std::string& address, std::string refusal = "")
      : refusal_(std::move(refusal)) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~FakeController() override { Stop(); }

  void Stop() {
    {
      const std::scoped_lock lock(mutex_);
      if (context_ != nullptr) context_->TryCancel();
    }
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  grpc::Status Attach(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::NodeCommand, v1::NodeReport>* stream) override {
    v1::NodeReport report;
    if (!stream->Read(&report) || !report.has_hello()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "hello first"};
    }
    if (!refusal_.empty()) {
      const std::scoped_lock lock(mutex_);
      ++refused_;
      return {grpc::StatusCode::ALREADY_EXISTS, refusal_};
    }
    v1::NodeCommand welcome;
    welcome.mutable_welcome()->set_heartbeat_interval_ms(100);
    welcome.mutable_welcome()->set_heartbeat_timeout_ms(5000);
    {
      const std::scoped_lock lock(mutex_);
      hello_ = report.hello();
      stream->Write(welcome);
      stream_ = stream;
      context_ = context;
    }
    while (stream->Read(&report)) {
      const std::scoped_lock lock(mutex_);
      if (report.has_status()) status_ = report.status();
      if (report.has_status()) ++statuses_;
      if (report.has_goodbye()) said_goodbye_ = true;
      if (report.has_goodbye()) break;
      if (report.has_result()) results_.push_back(report.result());
    }
    const std::scoped_lock lock(mutex_);
    stream_ = nullptr;
    context_ = nullptr;
    return grpc::Status::OK;
  }

  const std::string& address() const { return address_; }
  std::optional<v1::NodeHello> hello() const {
    const std::scoped_lock lock(mutex_);
    return hello_;
  }
  v1::NodeStatus status() const {
    const std::scoped_lock lock(mutex_);
    return status_;
  }
  int statuses() const {
    const std::scoped_lock lock(mutex_);
    return statuses_;
  }
  bool said_goodbye() const {
    const std::scoped_lock lock(mutex_);
    return said_goodbye_;
  }
  int refused() const {
    const std::scoped_lock lock(mutex_);
    return refused_;
  }
  bool WaitForHello() {
    return Eventually([this] { return hello().has_value(); });
  }

  // Sends a command and waits for its result.
  v1::CommandResult Command(v1::NodeCommand command) {
    std::uint64_t id = 0;
    {
      const std::scoped_lock lock(mutex_);
      id = ++last_command_;
      command.set_command_id(id);
      if (stream_ != nullptr) stream_->Write(command);
    }
    v1::CommandResult found;
    Eventually([&] {
      const std::scoped_lock lock(mutex_);
      for (const v1::CommandResult& result : results_) {
        if (result.command_id() == id) found = result;
      }
      return found.command_id() == id;
    });
    return found;
  }

 private:
  const std::string refusal_;
  mutable std::mutex mutex_;
  std::string address_;
  int refused_ = 0;
  bool said_goodbye_ = false;
  std::optional<v1::NodeHello> hello_;
  v1::NodeStatus status_;
  int statuses_ = 0;
  std::vector<v1::CommandResult> results_;
  std::uint64_t last_command_ = 0;
  grpc::ServerReaderWriter<v1::NodeCommand, v1::NodeReport>* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;
  std::unique_ptr<grpc::Server> server_;
};

struct Lease {
  wire::LeaseId id{};
  wire::LeaseSecret secret{};
};

Lease MakeLease(std::uint8_t number) {
  Lease lease;
  lease.id.fill(number);
  lease.secret.fill(static_cast<std::uint8_t>(number + 1));
  return lease;
}

v1::NodeCommand Prepare(const Lease& lease) {
  v1::NodeCommand command;
  v1::PrepareLease& prepare = *command.mutable_prepare();
  prepare.set_lease_id(lease.id.data(), lease.id.size());
  prepare.set_secret(lease.secret.data(), lease.secret.size());
  prepare.set_unused_timeout_ms(60'000);
  prepare.set_client("tester@here: program");
  v1::Vgpu& vgpu = *prepare.add_vgpus();
  vgpu.set_device_ordinal(1);
  vgpu.set_memory_bytes(kVgpuBytes);
  vgpu.set_compute_percent(25);
  return command;
}

v1::NodeCommand Revoke(const Lease& lease) {
  v1::NodeCommand command;
  command.mutable_revoke()->set_lease_id(lease.id.data(), lease.id.size());
  command.mutable_revoke()->set_reason("the test says so");
  return command;
}

class Agent : public ::testing::Test {
 protected:
  void StartServer() {
    ServerProcess::Options options;
    options.is_private = false;
    options.arguments = {"--listen",    "127.0.0.1:0", "--controller", controller_->address(),
                         "--node-name", "node-7",      "--label",      "zone=attic"};
    server_ = std::make_unique<ServerProcess>(options);
    ASSERT_TRUE(controller_->WaitForHello()) << server_->log();
    endpoint_ = controller_->hello()->data_endpoint();
  }
  std::unique_ptr<WireClient> Connect(const Lease& lease) {
    return std::make_unique<WireClient>(endpoint_, lease.id, lease.secret);
  }

  std::unique_ptr<FakeController> controller_ = std::make_unique<FakeController>("127.0.0.1:0");
  std::unique_ptr<ServerProcess> server_;
  std::string endpoint_;
};

TEST_F(Agent, RegistersItsDevices) {
  StartServer();
  const v1::NodeHello hello = *controller_->hello();
  EXPECT_EQ(hello.name(), "node-7");
  EXPECT_EQ(hello.labels().at("zone"), "attic");
  EXPECT_EQ(hello.driver_version(), 13000u);
  EXPECT_FALSE(hello.instance_id().empty());
  ASSERT_EQ(hello.devices_size(), kFakeDevices);
  EXPECT_EQ(hello.devices(1).ordinal(), 1u);
  EXPECT_EQ(hello.devices(1).name(), "Fake GPU 1");
  EXPECT_EQ(hello.devices(1).memory_bytes(), kFakeDeviceBytes);
  EXPECT_EQ(hello.devices(1).compute_capability(), 121u);
  EXPECT_EQ(hello.devices(1).uuid(), "GPU-11111111-1111-1111-1111-111111111111");
  EXPECT_EQ(endpoint_.rfind("127.0.0.1:", 0), 0u);
}

TEST_F(Agent, ServesPreparedLeasesAndEndsRevokedOnes) {
  StartServer();
  const Lease lease = MakeLease(1);
  EXPECT_FALSE(Connect(lease)->ok()) << "nobody prepared it";
  EXPECT_TRUE(controller_->Command(Prepare(lease)).ok());
  EXPECT_TRUE(controller_->Command(Prepare(lease)).ok()) << "idempotent";
  auto client = Connect(lease);
  ASSERT_TRUE(client->ok()) << server_->log();
  EXPECT_EQ(client->welcome().devices[0].total_memory_bytes, kVgpuBytes);
  EXPECT_EQ(client->welcome().devices[0].compute_percent, 25u);
  ASSERT_EQ(client->AcquireCredit(32 * kMiB), 0);
  const std::uint64_t used = kVgpuBytes - client->FreeBytes();
  EXPECT_TRUE(Eventually([&] {
    const v1::NodeStatus status = controller_->status();
    return status.leases_size() == 1 && status.leases(0).connections() == 1 &&
           status.leases(0).vgpus(0).memory_used_bytes() == used &&
           status.leases(0).vgpus(0).vgpu().compute_percent() == 25;
  })) << controller_->status().DebugString();

  const v1::CommandResult revoked = controller_->Command(Revoke(lease));
  EXPECT_TRUE(revoked.ok()) << revoked.message();
  EXPECT_TRUE(server_->workers().empty()) << "the answer comes when everything is back";
  EXPECT_TRUE(client->WaitForEnd());
  ASSERT_TRUE(client->farewell().has_value()) << server_->log();
  EXPECT_EQ(client->farewell()->code, wire::RefusalCode::kRevoked);
  EXPECT_NE(client->farewell()->reason.find("the test says so"), std::string::npos);
  EXPECT_FALSE(Connect(lease)->ok());
  EXPECT_TRUE(controller_->Command(Revoke(lease)).ok()) << "unknown leases are a success";
  EXPECT_TRUE(Eventually([&] { return controller_->status().leases_size() == 0; }));
}

TEST_F(Agent, RefusesImpossibleLeases) {
  StartServer();
  const Lease lease = MakeLease(2);
  v1::NodeCommand command = Prepare(lease);
  command.mutable_prepare()->mutable_vgpus(0)->set_device_ordinal(9);
  EXPECT_NE(controller_->Command(command).message().find("no device 9"), std::string::npos);
  command = Prepare(lease);
  command.mutable_prepare()->mutable_vgpus(0)->set_memory_bytes(kFakeDeviceBytes + 1);
  EXPECT_FALSE(controller_->Command(command).ok());
  command = Prepare(lease);
  command.mutable_prepare()->set_secret("short");
  EXPECT_FALSE(controller_->Command(command).ok());
  command = Prepare(lease);
  command.mutable_prepare()->clear_vgpus();
  EXPECT_FALSE(controller_->Command(command).ok());
  command = Prepare(lease);
  command.mutable_prepare()->mutable_vgpus(0)->set_ordinal(~0u);
  EXPECT_FALSE(controller_->Command(command).ok());
  v1::NodeCommand nothing;
  EXPECT_FALSE(controller_->Command(nothing).ok());
  EXPECT_TRUE(server_->running());
}

TEST_F(Agent, ProgramsDoNotNoticeARestartOfTheController) {
  StartServer();
  const Lease lease = MakeLease(3);
  ASSERT_TRUE(controller_->Command(Prepare(lease)).ok());
  auto client = Connect(lease);
  ASSERT_TRUE(client->ok());
  const std::string instance = controller_->hello()->instance_id();
  const std::string address = controller_->address();
  controller_->Stop();
  EXPECT_GT(client->FreeBytes(), 0u);
  EXPECT_TRUE(server_->WaitForLog("no connection to the controller")) << server_->log();
  EXPECT_TRUE(Connect(lease)->ok()) << "the lease holds without a controller";
  controller_ = std::make_unique<FakeController>(address);
  ASSERT_TRUE(controller_->WaitForHello()) << server_->log();
  const v1::NodeHello hello = *controller_->hello();
  EXPECT_EQ(hello.instance_id(), instance);
  ASSERT_EQ(hello.leases_size(), 1);
  EXPECT_EQ(hello.leases(0).lease_id(),
            std::string(reinterpret_cast<const char*>(lease.id.data()), lease.id.size()));
  EXPECT_GE(hello.leases(0).connections(), 1u);
  EXPECT_GT(client->FreeBytes(), 0u);
}

// The time of gRPC's own thread that looks after connections nobody waits for is 5 s.
TEST_F(Agent, IsThereSoonAfterTheControllerListens) {
  const std::string address = controller_->address();
  controller_.reset();
  ServerProcess::Options options;
  options.is_private = false;
  options.arguments = {"--listen", "127.0.0.1:0", "--controller", address};
  server_ = std::make_unique<ServerProcess>(options);
  ASSERT_TRUE(server_->WaitForLog("no connection to the controller")) << server_->log();
  for (int round = 0; round < 2; ++round) {
    controller_ = std::make_unique<FakeController>(address);
    EXPECT_TRUE(Eventually([this] { return controller_->hello().has_value(); },
                           std::chrono::milliseconds(2500)))
        << server_->log();
    controller_.reset();
  }
}

TEST_F(Agent, SaysOnceThatItIsRefused) {
  controller_ = std::make_unique<FakeController>("127.0.0.1:0", "another node is named so");
  ServerProcess::Options options;
  options.is_private = false;
  options.arguments = {"--listen", "127.0.0.1:0", "--controller", controller_->address()};
  server_ = std::make_unique<ServerProcess>(options);
  ASSERT_TRUE(Eventually([this] { return controller_->refused() >= 4; })) << server_->log();
  const std::string log = server_->log();
  EXPECT_EQ(log.find("attached to"), std::string::npos) << log;
  const std::size_t first = log.find("another node is named so");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("another node is named so", first + 1), std::string::npos) << log;
}

TEST_F(Agent, DropsUnusedLeasesOnlyWhileDetached) {
  StartServer();
  const Lease lease = MakeLease(4);
  v1::NodeCommand command = Prepare(lease);
  command.mutable_prepare()->set_unused_timeout_ms(1);
  ASSERT_TRUE(controller_->Command(command).ok());
  const int before = controller_->statuses();
  ASSERT_TRUE(Eventually([&] { return controller_->statuses() > before + 12; }))
      << "more than the interval at which the daemon looks for unused leases";
  EXPECT_EQ(controller_->status().leases_size(), 1);
  controller_->Stop();
  EXPECT_TRUE(server_->WaitForLog("unused while the controller is away")) << server_->log();
  EXPECT_FALSE(Connect(lease)->ok());
}

TEST_F(Agent, EndsCleanlyWhileAttachedAndWhileSearching) {
  StartServer();
  ASSERT_TRUE(controller_->Command(Prepare(MakeLease(5))).ok());
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->WaitForEnd().exit_code, 0) << server_->log();
  EXPECT_TRUE(controller_->said_goodbye()) << server_->log();

  controller_->Stop();
  ServerProcess::Options options;
  options.is_private = false;
  options.arguments = {"--listen", "127.0.0.1:0", "--controller", controller_->address()};
  ServerProcess searching(options);
  ASSERT_TRUE(searching.WaitForLog("no connection to the controller")) << searching.log();
  searching.Signal(SIGTERM);
  EXPECT_EQ(searching.WaitForEnd().exit_code, 0) << searching.log();
}

}  // namespace
}  // namespace farwarp::testing
