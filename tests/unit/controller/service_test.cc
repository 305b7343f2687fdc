// The controller as a whole over loopback gRPC, with fake nodes and launchers.
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "controller/service/server.h"
#include "farwarp/base/bytes.h"
#include "proto/control/admin.grpc.pb.h"
#include "proto/control/health.grpc.pb.h"
#include "tests/unit/controller/fake_node.h"

namespace farwarp::controller {
namespace {

using farwarp::testing::AskFor;
using farwarp::testing::Connect;
using farwarp::testing::Eventually;
using farwarp::testing::FakeLauncher;
using farwarp::testing::FakeNode;
using farwarp::testing::MakeHello;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kNow{0};

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    char name[] = "/tmp/farwarp-service-XXXXXX";
    folder_ = ::mkdtemp(name);
    config_.listen = "127.0.0.1:0";
    config_.state = folder_ + "/controller.db";
    config_.heartbeat_interval = milliseconds(100);
    config_.pool.lease_grace = milliseconds(50);
    config_.pool.queue_news = milliseconds(20);
    config_.pool.recovery = milliseconds(300);
    config_.pool.settling = milliseconds(0);
  }
  ~ServiceTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void StartServer() {
    auto started = ControllerServer::Start(config_);
    ASSERT_TRUE(started.ok()) << started.status().message();
    server_ = std::move(*started);
    address_ = server_->address();
    config_.listen = address_;  // The same port after a restart.
    admin_ = v1::Admin::NewStub(Connect(address_));
  }
  void RestartServer() {
    server_.reset();
    StartServer();
  }
  v1::ListLeasesResponse Leases() {
    grpc::ClientContext context;
    v1::ListLeasesResponse response;
    EXPECT_TRUE(admin_->ListLeases(&context, {}, &response).ok());
    return response;
  }
  v1::ListNodesResponse Nodes() {
    grpc::ClientContext context;
    v1::ListNodesResponse response;
    EXPECT_TRUE(admin_->ListNodes(&context, {}, &response).ok());
    return response;
  }
  bool NodeIsAttached(const std::string& name) {
    return Eventually([&] {
      const v1::ListNodesResponse nodes = Nodes();
      for (const v1::Node& node : nodes.nodes()) {
        if (node.name() == name && node.state() == v1::Node::ATTACHED) return true;
      }
      return false;
    });
  }
  grpc::Status Release(const v1::Grant& grant) {
    grpc::ClientContext context;
    v1::ReleaseRequest request;
    request.set_lease_id(grant.lease_id());
    request.set_secret(grant.secret());
    v1::ReleaseResponse response;
    return v1::Clients::NewStub(Connect(address_))->Release(&context, request, &response);
  }
  v1::AcquireRequest ResumeOf(const v1::Grant& grant) {
    v1::AcquireRequest request;
    request.mutable_resume()->set_lease_id(grant.lease_id());
    request.mutable_resume()->set_secret(grant.secret());
    return request;
  }

  Config config_;
  std::string folder_;
  std::string address_;
  std::unique_ptr<ControllerServer> server_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

TEST_F(ServiceTest, GrantsWhatTheNodeConfirmedAndReleasesWhenTheLauncherDies) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB, 8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(6 * kGiB, 30, kNow, 2));
  const v1::Grant grant = launcher.WaitForGrant();
  ASSERT_EQ(grant.vgpus_size(), 2) << launcher.WaitForEnd().error_message();
  EXPECT_EQ(grant.vgpus(0).endpoint(), "127.0.0.1:7401");
  EXPECT_EQ(grant.vgpus(1).ordinal(), 1u);
  EXPECT_NE(grant.vgpus(0).device_uuid(), grant.vgpus(1).device_uuid());
  EXPECT_EQ(node.secret_of(grant.lease_id()), grant.secret());
  EXPECT_EQ(grant.secret().size(), 32u);

  const v1::ListLeasesResponse leases = Leases();
  ASSERT_EQ(leases.leases_size(), 1);
  EXPECT_EQ(leases.leases(0).client().user(), "tester");
  EXPECT_TRUE(leases.leases(0).launcher_attached());
  EXPECT_EQ(Nodes().nodes(0).devices(0).compute_allocated_percent(), 30u);

  launcher.Kill();
  EXPECT_TRUE(Eventually([&] { return node.leases().empty() && Leases().leases().empty(); }));
}

TEST_F(ServiceTest, ALeaseOutlivesItsLauncherWhileDataConnectionsRemain) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  const std::string lease = launcher.WaitForGrant().lease_id();
  node.SetConnections(lease, 2);
  ASSERT_TRUE(Eventually([&] { return Leases().leases(0).connections() == 2; }));
  EXPECT_EQ(Leases().leases(0).vgpus(0).memory_used_bytes(), kGiB / 2);
  launcher.Kill();
  ASSERT_TRUE(Eventually([&] { return !Leases().leases(0).launcher_attached(); }));
  // Several heartbeats later it is still there.
  FakeLauncher other(address_, AskFor(8 * kGiB, 100, milliseconds(400)));
  EXPECT_EQ(other.WaitForEnd().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(node.leases().size(), 1u);
  node.SetConnections(lease, 0);
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ServiceTest, AFullPoolQueuesWithAReasonAndServesInOrder) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher first(address_, AskFor(8 * kGiB, 100, kNow));
  const v1::Grant grant = first.WaitForGrant();
  FakeLauncher second(address_, AskFor(8 * kGiB, 100, seconds(60)));
  const v1::Queued queued = second.WaitForQueued();
  EXPECT_EQ(queued.position(), 1u);
  EXPECT_EQ(queued.reason(),
            "a vGPU of 8 GiB and 100 % compute does not fit now; the most free is 0 B of memory "
            "and 0 % of compute on device 0 of node a");
  FakeLauncher impatient(address_, AskFor(kGiB, 10, milliseconds(100)));
  EXPECT_EQ(impatient.WaitForEnd().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  FakeLauncher hasty(address_, AskFor(kGiB, 10, kNow));
  EXPECT_EQ(hasty.WaitForEnd().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  ASSERT_EQ(Leases().waiting_size(), 1);
  EXPECT_GT(Leases().waiting(0).left_ms(), 1000u);
  EXPECT_TRUE(Release(grant).ok());
  EXPECT_EQ(second.WaitForGrant().vgpus_size(), 1);
}

TEST_F(ServiceTest, ReleaseNeedsTheSecret) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  v1::Grant grant = launcher.WaitForGrant();
  (*grant.mutable_secret())[0] = static_cast<char>(grant.secret()[0] ^ 1);
  EXPECT_EQ(Release(grant).error_code(), grpc::StatusCode::NOT_FOUND);
  grant.set_secret("short");
  EXPECT_EQ(Release(grant).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(node.leases().size(), 1u);
  FakeLauncher thief(address_, ResumeOf(grant));
  EXPECT_EQ(thief.WaitForEnd().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, ARestartLosesNoLeaseAndExpiresWhatNobodyHolds) {
  config_.pool.recovery = seconds(2);
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher resuming(address_, AskFor(kGiB, 10, kNow));
  FakeLauncher connected(address_, AskFor(kGiB, 10, kNow));
  FakeLauncher vanishing(address_, AskFor(kGiB, 10, kNow));
  const v1::Grant resumed = resuming.WaitForGrant();
  const v1::Grant kept = connected.WaitForGrant();
  ASSERT_EQ(vanishing.WaitForGrant().vgpus_size(), 1);
  node.SetConnections(kept.lease_id(), 1);
  ASSERT_TRUE(Eventually([&] {
    const v1::ListLeasesResponse leases = Leases();
    for (const v1::Lease& lease : leases.leases()) {
      if (lease.connections() == 1) return true;
    }
    return false;
  }));

  RestartServer();
  EXPECT_EQ(resuming.WaitForEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Leases().leases_size(), 3);
  FakeLauncher again(address_, ResumeOf(resumed));
  EXPECT_EQ(again.WaitForGrant().lease_id(), resumed.lease_id());
  ASSERT_TRUE(NodeIsAttached("a"));
  EXPECT_TRUE(Eventually([&] { return Leases().leases_size() == 2; }));
  EXPECT_EQ(node.leases().size(), 2u);
  EXPECT_EQ(Nodes().nodes(0).devices(0).vgpus(), 2u);
  node.SetConnections(kept.lease_id(), 0);
  EXPECT_TRUE(Eventually([&] { return Leases().leases_size() == 1; }));
}

// The disk as a crash leaves it: copied while the controller runs.
TEST_F(ServiceTest, ACrashLosesNoLease) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  const v1::Grant grant = launcher.WaitForGrant();
  ASSERT_EQ(grant.vgpus_size(), 1);
  const std::string copy = folder_ + "/copy.db";
  for (const char* suffix : {"", "-wal"}) {
    std::error_code error;
    std::filesystem::copy(config_.state + suffix, copy + suffix, error);
  }
  auto store = Store::Open(copy);
  ASSERT_TRUE(store.ok()) << store.status().message();
  const auto stored = (*store)->Load();
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  ASSERT_EQ(stored->leases.size(), 1u);
  const pool::Lease& lease = stored->leases[0];
  EXPECT_EQ(std::string(lease.secret.begin(), lease.secret.end()), grant.secret());
  EXPECT_EQ(lease.node, "a");
  EXPECT_EQ(lease.client.program, "program");
  ASSERT_EQ(lease.vgpus.size(), 1u);
  EXPECT_EQ(lease.vgpus[0].memory_bytes, kGiB);
}

TEST_F(ServiceTest, ARestartedNodeGetsItsLeasesAgain) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  const v1::Grant grant = launcher.WaitForGrant();
  node.Restart();
  EXPECT_TRUE(Eventually([&] { return node.secret_of(grant.lease_id()) == grant.secret(); }));
  EXPECT_EQ(launcher.ended_reason(), "");
}

TEST_F(ServiceTest, ASilentNodeIsLostAndItsLeasesEndWithAReason) {
  config_.pool.heartbeat_timeout = milliseconds(400);
  config_.pool.node_grace = milliseconds(200);
  StartServer();
  FakeLauncher launcher(address_, AskFor(kGiB, 10, seconds(20)));
  {
    FakeNode node(address_, MakeHello("a", {8 * kGiB}));
    ASSERT_EQ(launcher.WaitForGrant().vgpus_size(), 1);
    node.Mute();
    ASSERT_TRUE(
        Eventually([&] { return node.last_status().error_code() == grpc::StatusCode::ABORTED; }));
  }
  EXPECT_EQ(launcher.WaitForEnd().error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(launcher.ended_reason(), "node a was lost and did not come back");
}

TEST_F(ServiceTest, ARefusingNodeIsNamed) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  node.RefuseWith("no worker can be started");
  ASSERT_TRUE(NodeIsAttached("a"));
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  const grpc::Status status = launcher.WaitForEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "node a refused: no worker can be started");
}

TEST_F(ServiceTest, DrainingIsKnownToTheNodeAndSurvivesARestart) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  grpc::ClientContext context;
  v1::DrainNodeRequest request;
  request.set_name("a");
  v1::DrainNodeResponse response;
  ASSERT_TRUE(admin_->DrainNode(&context, request, &response).ok());
  EXPECT_TRUE(Eventually([&] { return node.draining(); }));
  RestartServer();
  ASSERT_TRUE(NodeIsAttached("a"));
  EXPECT_TRUE(Nodes().nodes(0).draining());
  FakeLauncher launcher(address_, AskFor(kGiB, 10, kNow));
  EXPECT_EQ(launcher.WaitForEnd().error_message(), "the nodes that are large enough are draining");
  grpc::ClientContext other;
  request.set_name("nobody");
  const grpc::Status unknown = admin_->DrainNode(&other, request, &response);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(unknown.error_message().find("nobody"), std::string::npos);
}

TEST_F(ServiceTest, RefusesStreamsThatBreakTheRules) {
  config_.hello_timeout = milliseconds(200);
  StartServer();
  const auto stub = v1::Nodes::NewStub(Connect(address_));
  const auto outcome = [&](const std::vector<v1::NodeReport>& reports) {
    grpc::ClientContext context;
    const auto stream = stub->Attach(&context);
    for (const v1::NodeReport& report : reports) stream->Write(report);
    v1::NodeCommand command;
    while (stream->Read(&command)) {
    }
    return stream->Finish();
  };
  v1::NodeReport hello;
  *hello.mutable_hello() = MakeHello("a", {kGiB});
  hello.mutable_hello()->set_instance_id("i");
  v1::NodeReport status;
  status.mutable_status();
  v1::NodeReport bad_lease = status;
  bad_lease.mutable_status()->add_leases()->set_lease_id("short");
  v1::NodeReport bad_answer;
  bad_answer.mutable_result()->set_command_id(77);
  v1::NodeReport many = hello;
  for (int i = 0; i < 5000; ++i)
    many.mutable_hello()->add_leases()->set_lease_id(std::string(16, 'x'));

  EXPECT_EQ(outcome({status}).error_message(), "the first report must be hello");
  EXPECT_EQ(outcome({hello, hello}).error_message(), "hello was said twice");
  EXPECT_EQ(outcome({hello, bad_lease}).error_message(), "a lease id has 16 bytes");
  EXPECT_NE(outcome({hello, bad_answer}).error_message().find("never sent"), std::string::npos);
  EXPECT_NE(outcome({many}).error_message().find("at most"), std::string::npos);
  EXPECT_EQ(outcome({v1::NodeReport{}}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(outcome({}).error_message(), "the stream did not say hello in time");
  v1::AcquireRequest nothing;
  FakeLauncher launcher(address_, nothing);
  EXPECT_EQ(launcher.WaitForEnd().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, ASecondNodeOfTheSameNameIsRefused) {
  StartServer();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(NodeIsAttached("a"));
  v1::NodeHello hello = MakeHello("a", {kGiB});
  hello.set_data_endpoint("10.0.0.9:1");
  FakeNode impostor(address_, hello);
  EXPECT_TRUE(Eventually([&] {
    return impostor.last_status().error_code() == grpc::StatusCode::ALREADY_EXISTS;
  })) << impostor.last_status().error_message();
  EXPECT_TRUE(node.attached());
}

TEST_F(ServiceTest, AnswersHealthChecks) {
  StartServer();
  const auto health = grpc::health::v1::Health::NewStub(Connect(address_));
  for (const char* service : {"", "farwarp.control.v1.Clients", "farwarp.control.v1.Nodes"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(health->Check(&context, request, &response).ok()) << service;
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  }
}

// Without generated code for the reflection service: field 7 of its request asks for the list of
// services, whose names come back as text.
TEST_F(ServiceTest, OffersReflection) {
  StartServer();
  grpc::GenericStub stub(Connect(address_));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto stream = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto wait = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + seconds(20)) ==
               grpc::CompletionQueue::GOT_EVENT &&
           ok;
  };
  stream->StartCall(nullptr);
  ASSERT_TRUE(wait());
  const grpc::Slice request(std::string("\x3a\x01*", 3));
  stream->WriteLast(grpc::ByteBuffer(&request, 1), {}, nullptr);
  ASSERT_TRUE(wait());
  grpc::ByteBuffer answer;
  stream->Read(&answer, nullptr);
  ASSERT_TRUE(wait());
  grpc::Slice whole;
  ASSERT_TRUE(answer.DumpToSingleSlice(&whole).ok());
  const std::string text(reinterpret_cast<const char*>(whole.begin()), whole.size());
  for (const char* service : {"farwarp.control.v1.Nodes", "farwarp.control.v1.Clients",
                              "farwarp.control.v1.Admin", "grpc.health.v1.Health"}) {
    EXPECT_NE(text.find(service), std::string::npos) << service;
  }
  grpc::Status status;
  stream->Finish(&status, nullptr);
  EXPECT_TRUE(wait());
  queue.Shutdown();
}

TEST_F(ServiceTest, OneStateFileAndOnePortBelongToOneController) {
  StartServer();
  Config other = config_;
  other.listen = "127.0.0.1:0";
  const auto same_state = ControllerServer::Start(other);
  ASSERT_FALSE(same_state.ok());
  EXPECT_EQ(same_state.status().message(),
            "state file " + config_.state + " is in use by another controller");
  other.listen = address_;
  other.state = folder_ + "/other.db";
  const auto same_port = ControllerServer::Start(other);
  ASSERT_FALSE(same_port.ok());
  EXPECT_NE(same_port.status().message().find("Address already in use"), std::string::npos)
      << same_port.status().message();
}

TEST_F(ServiceTest, RefusesForeignAndNewerStateFiles) {
  std::ofstream(config_.state) << std::string(4096, 'x');
  const auto foreign = ControllerServer::Start(config_);
  ASSERT_FALSE(foreign.ok());
  EXPECT_NE(foreign.status().message().find("is not a controller's state"), std::string::npos)
      << foreign.status().message();
  std::filesystem::remove(config_.state);
  sqlite3* database = nullptr;
  sqlite3_open(config_.state.c_str(), &database);
  sqlite3_exec(database, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  const auto newer = ControllerServer::Start(config_);
  ASSERT_FALSE(newer.ok());
  EXPECT_NE(newer.status().message().find("newer controller"), std::string::npos);
}

TEST_F(ServiceTest, TheStateFileIsPrivate) {
  StartServer();
  const auto permissions = std::filesystem::status(config_.state).permissions();
  EXPECT_EQ(permissions & (std::filesystem::perms::group_all | std::filesystem::perms::others_all),
            std::filesystem::perms::none);
}

TEST_F(ServiceTest, RefusesBadAddresses) {
  for (const char* listen :
       {"", "nowhere", "127.0.0.1:99999", "127.0.0.1:", ":7400", "127.0.0.1:x"}) {
    config_.listen = listen;
    const auto started = ControllerServer::Start(config_);
    ASSERT_FALSE(started.ok()) << listen;
    EXPECT_EQ(started.status().code(), StatusCode::kInvalid) << listen;
  }
}

}  // namespace
}  // namespace farwarp::controller
