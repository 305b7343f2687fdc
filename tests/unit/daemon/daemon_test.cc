// farwarp-server and farwarp-worker as real processes over loopback: starting, stopping, hostile
// peers, and everybody who can die.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <tuple>

#include "farwarp/wire/decoder.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/negotiation.h"
#include "tests/unit/daemon/fake_libcuda.h"
#include "tests/unit/daemon/server_process.h"

namespace farwarp::testing {
namespace {

using std::chrono::milliseconds;
using wire::RefusalCode;

constexpr std::uint64_t kVgpuBytes = 268435456;  // Of vGPU 0; see ServerProcess::Options.
// Design: 100 ms. The rest is for busy test machines.
constexpr milliseconds kQuick{1000};
constexpr std::int32_t kOutOfMemory = 2;

std::unique_ptr<WireClient> Connect(const ServerProcess& server) {
  auto client = std::make_unique<WireClient>(server.endpoint(), server.lease(), server.secret());
  EXPECT_TRUE(client->ok()) << server.log();
  return client;
}

ServerProcess::Options WithArguments(std::vector<std::string> arguments) {
  ServerProcess::Options options;
  options.arguments = std::move(arguments);
  return options;
}

// ------------------------------------------------------------------------- starting and stopping

TEST(Server, PrivateModeLivesAsLongAsItsLauncher) {
  ServerProcess server;
  ASSERT_NE(server.endpoint(), "") << server.log();
  EXPECT_EQ(server.endpoint().rfind("127.0.0.1:", 0), 0u);
  auto client = Connect(server);
  ASSERT_TRUE(client->ok());
  server.EndLauncher();
  EXPECT_TRUE(client->WaitForEnd());
  ASSERT_TRUE(client->farewell().has_value());
  EXPECT_EQ(client->farewell()->code, RefusalCode::kRevoked);
  EXPECT_NE(client->farewell()->reason.find("launcher has ended"), std::string::npos);
  EXPECT_EQ(server.WaitForEnd().exit_code, 0);
  EXPECT_TRUE(server.workers().empty());
}

TEST(Server, EndsOnSigterm) {
  ServerProcess server;
  ASSERT_NE(server.endpoint(), "") << server.log();
  auto client = Connect(server);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.WaitForEnd().exit_code, 0);
  EXPECT_TRUE(client->WaitForEnd());
}

TEST(Server, WorkersDieWithTheServer) {
  ServerProcess server;
  auto client = Connect(server);
  const std::vector<pid_t> workers = server.workers();
  ASSERT_EQ(workers.size(), 1u);
  server.Signal(SIGKILL);
  server.WaitForEnd();
  EXPECT_TRUE(Eventually([&] { return ::kill(workers[0], 0) != 0; }, milliseconds(5000)));
  EXPECT_TRUE(client->WaitForEnd(milliseconds(2000)));
}

struct BadStart {
  const char* name;
  const char* driver;  // nullptr: the fake one.
  const char* mode;
  const char* vgpus;
  const char* says;
  int exit_code;
};

class ServerRefusesToStart : public ::testing::TestWithParam<BadStart> {};

TEST_P(ServerRefusesToStart, AndSaysWhy) {
  const BadStart& bad = GetParam();
  ServerProcess::Options options;
  if (bad.driver != nullptr) options.driver = bad.driver;
  options.fake_mode = bad.mode;
  if (bad.vgpus != nullptr) options.vgpus = bad.vgpus;
  ServerProcess server(options);
  EXPECT_EQ(server.endpoint(), "");
  const Finished finished = server.WaitForEnd();
  EXPECT_EQ(finished.exit_code, bad.exit_code) << finished.output;
  EXPECT_NE(finished.output.find(bad.says), std::string::npos) << finished.output;
  EXPECT_EQ(std::count(finished.output.begin(), finished.output.end(), '\n'), 1) << finished.output;
}

INSTANTIATE_TEST_SUITE_P(
    All, ServerRefusesToStart,
    ::testing::Values(
        BadStart{"NoFile", "/nonexistent/libcuda.so.1", "", nullptr, "/nonexistent/libcuda.so.1",
                 3},
        BadStart{"NoLibrary", "/bin/sh", "", nullptr, "/bin/sh", 3},
        BadStart{"NoDriver", "libm.so.6", "", nullptr, "no cuInit", 3},
        BadStart{"TooOld", nullptr, "old", nullptr, "CUDA 11.4; Farwarp needs CUDA 12.0", 3},
        BadStart{"NoDevice", nullptr, "no-device", nullptr, "has no device", 3},
        BadStart{"InitFails", nullptr, "init-fails", nullptr, "CUDA error 802", 3},
        BadStart{"InitCrashes", nullptr, "init-crashes", nullptr, "Segmentation fault", 3},
        BadStart{"NoSuchDevice", nullptr, "", ";gpu=2/1048576/50", "there are 2 devices", 1},
        BadStart{"TooMuchMemory", nullptr, "", ";gpu=1/99999999999999/50", "left", 1},
        BadStart{"BadPercent", nullptr, "", ";gpu=0/1048576/101", "is not device/memory", 1},
        BadStart{"NoVgpu", nullptr, "", "", "at least one gpu", 1}),
    [](const ::testing::TestParamInfo<BadStart>& info) { return info.param.name; });

TEST(Server, NamesUnknownOptionsAndSettings) {
  ServerProcess::Options options = WithArguments({"--no-such-option"});
  options.is_private = false;
  ServerProcess unknown(options);
  Finished finished = unknown.WaitForEnd();
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_NE(finished.output.find("--no-such-option"), std::string::npos) << finished.output;

  options.arguments = {"--listen", "127.0.0.1:0"};
  ServerProcess alone(options);
  finished = alone.WaitForEnd();
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_NE(finished.output.find("no controller is named"), std::string::npos) << finished.output;

  options.arguments = {"--listen", "127.0.0.1:0", "--grace", "soon"};
  ServerProcess bad_value(options);
  finished = bad_value.WaitForEnd();
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_NE(finished.output.find("--grace"), std::string::npos) << finished.output;
}

// ------------------------------------------------------------------------------------- handshake

TEST(Handshake, ShowsTheVgpusAndNotTheCards) {
  ServerProcess server;
  auto first = Connect(server);
  auto second = Connect(server);
  ASSERT_TRUE(first->ok() && second->ok());
  const auto& devices = first->welcome().devices;
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].total_memory_bytes, kVgpuBytes);
  EXPECT_EQ(devices[1].total_memory_bytes, 2 * kVgpuBytes);
  EXPECT_EQ(devices[0].compute_percent, 50u);
  EXPECT_EQ(devices[1].name, "Fake GPU 1");
  EXPECT_EQ(first->welcome().driver_version, 13000);
  EXPECT_NE(devices[0].uuid, devices[1].uuid);
  EXPECT_EQ(devices[0].uuid, second->welcome().devices[0].uuid) << "stable within the lease";
  ServerProcess other;
  auto third = Connect(other);
  EXPECT_NE(devices[0].uuid, third->welcome().devices[0].uuid) << "differs between leases";
}

TEST(Handshake, WrongProofAndUnknownLeaseGetTheSameAnswer) {
  ServerProcess server;
  wire::LeaseSecret wrong = server.secret();
  wrong[0] ^= 1;
  WireClient wrong_proof(server.endpoint(), server.lease(), wrong);
  wire::LeaseId unknown = server.lease();
  unknown[0] ^= 1;
  WireClient unknown_lease(server.endpoint(), unknown, server.secret());
  for (const WireClient* client : {&wrong_proof, &unknown_lease}) {
    EXPECT_FALSE(client->ok());
    ASSERT_TRUE(client->farewell().has_value()) << server.log();
    EXPECT_EQ(client->farewell()->code, RefusalCode::kUnauthenticated);
  }
  EXPECT_EQ(wrong_proof.farewell()->reason, unknown_lease.farewell()->reason);
  EXPECT_TRUE(Connect(server)->ok());
}

// A connection that sends prepared bytes and reads what comes, without any protocol.
class RawConnection {
 public:
  explicit RawConnection(const std::string& endpoint) {
    auto socket = transport::ConnectTcp(endpoint, Deadline::After(kPatience));
    if (socket.ok()) channel_ = std::make_unique<transport::SocketChannel>(std::move(*socket));
  }
  void SendBytes(std::span<const std::byte> bytes) {
    // The server may have hung up in the middle; that is its right.
    [[maybe_unused]] const ssize_t sent =
        ::send(channel_->fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  bool SendFrame(wire::FrameKind kind, const wire::Buffer& payload) {
    return channel_->Send(MakeHeader(kind, payload.size()), payload, {}, Deadline::After(kPatience))
        .ok();
  }
  // The first frame that is counted.
  bool SendCounted(wire::FrameKind kind, const wire::Buffer& payload) {
    wire::FrameHeader header = MakeHeader(kind, payload.size());
    header.sequence = 1;
    return channel_->Send(header, payload, {}, Deadline::After(kPatience)).ok();
  }
  // Kind and payload of the next frame; kind 0 when the connection has ended.
  std::pair<wire::FrameKind, wire::Buffer> Receive() {
    auto header = channel_->ReceiveHeader(Deadline::After(kPatience));
    if (!header.ok()) return {};
    wire::Buffer payload(header->bytes);
    if (!channel_->ReceivePayload(payload, Deadline::After(kPatience)).ok()) return {};
    return {header->kind, payload};
  }
  bool WaitForEnd() {
    const Deadline deadline = Deadline::After(kPatience);
    std::array<std::byte, 256> bytes;
    while (!deadline.expired()) {
      const Status status = channel_->ReceivePayload(std::span(bytes).first(1), deadline);
      if (!status.ok()) return status.code() == StatusCode::kClosed;
    }
    return false;
  }
  bool connected() const { return channel_ != nullptr; }

 private:
  std::unique_ptr<transport::SocketChannel> channel_;
};

TEST(Handshake, ReplayedProofIsWorthless) {
  ServerProcess server;
  const wire::Buffer hello = MakeHello(server.lease()).Encode();
  wire::Buffer recorded;
  {
    RawConnection honest(server.endpoint());
    ASSERT_TRUE(honest.SendFrame(wire::FrameKind::kHello, hello));
    const auto [kind, challenge] = honest.Receive();
    ASSERT_EQ(kind, wire::FrameKind::kChallenge);
    wire::Proof proof;
    proof.digest = wire::ComputeProof(server.secret(), hello, challenge, proof.table);
    recorded = proof.Encode();
    ASSERT_TRUE(honest.SendFrame(wire::FrameKind::kProof, recorded));
    EXPECT_EQ(honest.Receive().first, wire::FrameKind::kWelcome);
  }
  RawConnection replay(server.endpoint());
  ASSERT_TRUE(replay.SendFrame(wire::FrameKind::kHello, hello));
  ASSERT_EQ(replay.Receive().first, wire::FrameKind::kChallenge);
  ASSERT_TRUE(replay.SendFrame(wire::FrameKind::kProof, recorded));
  const auto [kind, payload] = replay.Receive();
  ASSERT_EQ(kind, wire::FrameKind::kRefused);
  EXPECT_EQ(wire::Farewell::Decode(payload)->code, RefusalCode::kUnauthenticated);
}

TEST(Handshake, NoCommonProtocolIsSaid) {
  ServerProcess server;
  wire::Hello hello = MakeHello(server.lease());
  hello.versions = {98, 99};
  RawConnection client(server.endpoint());
  ASSERT_TRUE(client.SendFrame(wire::FrameKind::kHello, hello.Encode()));
  const auto [kind, payload] = client.Receive();
  ASSERT_EQ(kind, wire::FrameKind::kRefused);
  const auto farewell = wire::Farewell::Decode(payload);
  EXPECT_EQ(farewell->code, RefusalCode::kVersion);
  EXPECT_EQ(farewell->reason,
            "the client speaks protocol 98 to 99, the server speaks 1; use matching versions of "
            "Farwarp");
}

// A client of another build, up to the challenge.
struct Stranger {
  explicit Stranger(const ServerProcess& server, std::uint64_t table_hash = 1)
      : connection(server.endpoint()), secret(server.secret()) {
    wire::Hello said = MakeHello(server.lease());
    said.table_hash = table_hash;
    hello = said.Encode();
    EXPECT_TRUE(connection.SendFrame(wire::FrameKind::kHello, hello));
    wire::FrameKind kind;
    std::tie(kind, challenge_payload) = connection.Receive();
    EXPECT_EQ(kind, wire::FrameKind::kChallenge);
    auto decoded = wire::Challenge::Decode(challenge_payload);
    EXPECT_TRUE(decoded.ok());
    if (decoded.ok()) challenge = std::move(*decoded);
  }
  Digest DigestOf(const std::vector<wire::PeerEntry>& table) const {
    return wire::ComputeProof(secret, hello, challenge_payload, table);
  }
  // The server's answer to a proof.
  std::pair<wire::FrameKind, wire::Buffer> Prove(const wire::Buffer& proof) {
    EXPECT_TRUE(connection.SendFrame(wire::FrameKind::kProof, proof));
    return connection.Receive();
  }
  std::pair<wire::FrameKind, wire::Buffer> Prove(const std::vector<wire::PeerEntry>& table) {
    return Prove(wire::Proof{DigestOf(table), table}.Encode());
  }

  RawConnection connection;
  wire::LeaseSecret secret;
  wire::Buffer hello;
  wire::Buffer challenge_payload;
  wire::Challenge challenge;
};

RefusalCode RefusalOf(const std::pair<wire::FrameKind, wire::Buffer>& answer) {
  EXPECT_EQ(answer.first, wire::FrameKind::kRefused);
  const auto farewell = wire::Farewell::Decode(answer.second);
  return farewell.ok() ? farewell->code : RefusalCode::kFinished;
}

TEST(Negotiation, EqualOrUnknownBuildsGetNoTable) {
  ServerProcess server;
  const Stranger stranger(server);
  EXPECT_GT(stranger.challenge.table.size(), 50u);
  EXPECT_EQ(stranger.challenge.versions.newest, wire::kProtocolVersion);
  EXPECT_TRUE(Stranger(server, 0).challenge.table.empty());
  Stranger sibling(server, stranger.challenge.table_hash);
  EXPECT_TRUE(sibling.challenge.table.empty());
  EXPECT_EQ(sibling.Prove(std::vector<wire::PeerEntry>{}).first, wire::FrameKind::kWelcome);
}

TEST(Negotiation, ATamperedTranscriptIsRefused) {
  ServerProcess server;
  {
    Stranger honest(server);
    EXPECT_EQ(honest.Prove(honest.challenge.table).first, wire::FrameKind::kWelcome);
  }
  {
    // Somebody wants the client to believe in other commands: it proves what it has heard.
    Stranger client(server);
    wire::Challenge heard = client.challenge;
    heard.table.pop_back();
    const auto table = client.challenge.table;
    const Digest digest = wire::ComputeProof(server.secret(), client.hello, heard.Encode(), table);
    EXPECT_EQ(RefusalOf(client.Prove(wire::Proof{digest, table}.Encode())),
              RefusalCode::kUnauthenticated);
  }
  {
    // In an older version.
    Stranger client(server);
    wire::Challenge heard = client.challenge;
    heard.versions = {0, 0};
    const auto table = client.challenge.table;
    const Digest digest = wire::ComputeProof(server.secret(), client.hello, heard.Encode(), table);
    EXPECT_EQ(RefusalOf(client.Prove(wire::Proof{digest, table}.Encode())),
              RefusalCode::kUnauthenticated);
  }
  {
    // The server is to believe that the client knows less than it does, or something else.
    for (const bool shorter : {true, false}) {
      Stranger client(server);
      auto table = client.challenge.table;
      const Digest digest = client.DigestOf(table);
      shorter ? table.pop_back() : static_cast<void>(++table.front().signature);
      EXPECT_EQ(RefusalOf(client.Prove(wire::Proof{digest, table}.Encode())),
                RefusalCode::kUnauthenticated);
    }
  }
}

TEST(Negotiation, HostileTablesAreRefused) {
  ServerProcess server;
  const auto prove = [&](const std::vector<wire::PeerEntry>& table, std::uint64_t count) {
    Stranger client(server);
    wire::Buffer proof;
    wire::Encoder encoder(proof);
    const Digest digest = client.DigestOf(table);
    encoder.PutRaw(digest.data(), digest.size());
    encoder.Put(count);
    encoder.PutRaw(table.data(), table.size() * sizeof(wire::PeerEntry));
    return RefusalOf(client.Prove(proof));
  };
  std::vector<wire::PeerEntry> table = Stranger(server).challenge.table;
  const std::uint64_t count = table.size();
  EXPECT_EQ(prove(table, count - 1), RefusalCode::kMalformed);
  EXPECT_EQ(prove(table, count + 1), RefusalCode::kMalformed);
  EXPECT_EQ(prove(table, ~std::uint64_t{0}), RefusalCode::kMalformed);
  EXPECT_EQ(prove(table, std::uint64_t{1} << 61), RefusalCode::kMalformed);
  std::swap(table[3], table[4]);
  EXPECT_EQ(prove(table, count), RefusalCode::kMalformed);
  table[3] = table[4];
  EXPECT_EQ(prove(table, count), RefusalCode::kMalformed);
  std::vector<wire::PeerEntry> endless(wire::kMaxTableEntries + 1);
  for (std::uint32_t i = 0; i < endless.size(); ++i) endless[i].id = i;
  EXPECT_EQ(prove(endless, endless.size()), RefusalCode::kMalformed);
  // The longest that there may be has nothing in common with the server.
  endless.pop_back();
  EXPECT_EQ(prove(endless, endless.size()), RefusalCode::kVersion);
  EXPECT_EQ(prove({}, 0), RefusalCode::kVersion);
  // One that nobody has asked for.
  Stranger simple(server, 0);
  EXPECT_EQ(RefusalOf(simple.Prove(std::vector<wire::PeerEntry>{{1, 1}})), RefusalCode::kMalformed);
}

TEST(Negotiation, AWorkerExecutesOnlyWhatIsCommon) {
  ServerProcess server;
  Stranger client(server);
  auto table = client.challenge.table;
  constexpr auto kMissing = wire::IdOf(wire::InternalCommand::kMemoryInfo);
  constexpr auto kCommon = wire::IdOf(wire::InternalCommand::kAcquireCredit);
  EXPECT_EQ(std::erase_if(table, [](const auto& entry) { return entry.id == kMissing; }), 1u);
  ASSERT_EQ(client.Prove(table).first, wire::FrameKind::kWelcome);
  wire::Buffer commands;
  wire::Encoder encoder(commands);
  encoder.PutStruct(wire::CommandHeader{kMissing, 8, 1});
  encoder.Put(std::uint32_t{0});
  encoder.PutStruct(wire::CommandHeader{kCommon, 16, 2});
  encoder.Put(std::uint32_t{0});
  encoder.Put(std::uint64_t{2} << 20);
  ASSERT_TRUE(client.connection.SendCounted(wire::FrameKind::kCommands, commands));
  for (const std::int32_t wanted : {801, 0}) {
    std::pair<wire::FrameKind, wire::Buffer> answer;
    do answer = client.connection.Receive();
    while (answer.first == wire::FrameKind::kAck || answer.first == wire::FrameKind::kPing);
    ASSERT_EQ(answer.first, wire::FrameKind::kReplies);
    wire::ReplyHeader reply;
    ASSERT_GE(answer.second.size(), sizeof reply);
    std::memcpy(&reply, answer.second.data(), sizeof reply);
    EXPECT_EQ(reply.ticket, wanted == 801 ? 1u : 2u);
    EXPECT_EQ(reply.result, wanted);
  }
}

// Garbage of several shapes: noise, a good header with too many bytes, a good hello cut short or
// with some bytes changed, the wrong frame first.
wire::Buffer Garbage(unsigned seed, const wire::LeaseId& lease) {
  std::mt19937 random(seed);
  const auto noise = [&random](std::size_t bytes) {
    wire::Buffer buffer(bytes);
    for (std::byte& byte : buffer) byte = static_cast<std::byte>(random());
    return buffer;
  };
  const wire::Buffer hello = MakeHello(lease).Encode();
  wire::FrameHeader header = MakeHeader(wire::FrameKind::kHello, hello.size());
  wire::Buffer bytes;
  const auto append = [&bytes](const void* data, std::size_t count) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + count);
  };
  switch (seed % 6) {
    case 0:
      return noise(1 + random() % 5000);
    case 1:
      header.bytes = static_cast<std::uint32_t>(random());
      break;
    case 2:
      header.kind = static_cast<wire::FrameKind>(random() % 14);
      break;
    case 3:
      header.bytes = static_cast<std::uint32_t>(wire::kMaxHandshakeBytes + 8);
      break;
    case 4:
      header.flags = 1;
      break;
    default:
      break;
  }
  append(&header, sizeof header);
  append(hello.data(), hello.size());
  for (int i = 0; i < 3; ++i) {
    if (seed % 6 == 5) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
  }
  if (random() % 2 == 0) bytes.resize(random() % bytes.size());
  return bytes;
}

TEST(Handshake, GarbageDisturbsNobody) {
  ServerProcess server(WithArguments({"--handshake-timeout", "200ms"}));
  auto good = Connect(server);
  std::vector<std::unique_ptr<RawConnection>> bad;
  for (unsigned seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    bad.push_back(std::make_unique<RawConnection>(server.endpoint()));
    ASSERT_TRUE(bad.back()->connected());
    bad.back()->SendBytes(Garbage(seed, server.lease()));
    ASSERT_GT(good->FreeBytes(), 0u) << server.log();
  }
  // Each is turned away, by rule or by deadline.
  for (const auto& connection : bad) EXPECT_TRUE(connection->WaitForEnd());
  EXPECT_TRUE(Connect(server)->ok());
  EXPECT_TRUE(server.running());
  EXPECT_EQ(server.log().find("error"), std::string::npos) << server.log();
}

TEST(Handshake, GarbageAfterTheProofEndsOnlyItsSender) {
  ServerProcess server;
  auto good = Connect(server);
  for (unsigned seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto bad = Connect(server);
    wire::Buffer noise(512);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    bad->Send(static_cast<wire::InternalCommand>(random()), noise, 0);
    bad->Send(wire::InternalCommand::kMapRange, noise, 0);
    bad->SendRaw(noise);
    EXPECT_TRUE(bad->WaitForEnd()) << server.log();
    EXPECT_GT(good->FreeBytes(), 0u);
  }
  EXPECT_TRUE(server.WaitForWorkers(1)) << server.log();
}

TEST(Handshake, FloodOfSilentConnectionsLetsHonestOnesIn) {
  ServerProcess server(WithArguments({"--max-handshakes", "16", "--handshake-timeout", "10s"}));
  std::vector<std::unique_ptr<RawConnection>> flood;
  for (int i = 0; i < 200; ++i) {
    flood.push_back(std::make_unique<RawConnection>(server.endpoint()));
    ASSERT_TRUE(flood.back()->connected());
  }
  EXPECT_TRUE(Connect(server)->ok());
  EXPECT_TRUE(flood.front()->WaitForEnd()) << "the oldest made room";
}

TEST(Handshake, TooManyProgramsAreRefused) {
  ServerProcess server(WithArguments({"--max-connections", "1"}));
  auto first = Connect(server);
  WireClient second(server.endpoint(), server.lease(), server.secret());
  EXPECT_FALSE(second.ok());
  ASSERT_TRUE(second.farewell().has_value());
  EXPECT_EQ(second.farewell()->code, RefusalCode::kBusy);
  first->Disconnect();
  EXPECT_TRUE(server.WaitForWorkers(0));
  // The daemon counts down only after it has reaped the worker.
  const auto served = [&] {
    return WireClient(server.endpoint(), server.lease(), server.secret()).ok();
  };
  EXPECT_TRUE(Eventually(served, kQuick)) << server.log();
}

// --------------------------------------------------------------------------------- life and death

TEST(Workers, TwoProcessesShareOneQuota) {
  ServerProcess server;
  auto first = Connect(server);
  auto second = Connect(server);
  EXPECT_TRUE(server.WaitForWorkers(2));
  const std::uint64_t free = first->FreeBytes();
  EXPECT_EQ(free, kVgpuBytes - first->welcome().devices[0].memory_credit_bytes -
                      second->welcome().devices[0].memory_credit_bytes);
  EXPECT_EQ(first->AcquireCredit(free), 0);
  EXPECT_EQ(second->AcquireCredit(1), kOutOfMemory);
  EXPECT_EQ(second->FreeBytes(), 0u);
  EXPECT_EQ(second->AcquireCredit(2 * kVgpuBytes, 1), kOutOfMemory) << "the other vGPU has its own";
  first->Disconnect();
  EXPECT_TRUE(Eventually([&] { return second->FreeBytes() >= free; }, kQuick)) << server.log();
}

TEST(Workers, KilledClientGivesEverythingBack) {
  ServerProcess server;
  auto survivor = Connect(server);
  const std::uint64_t before = survivor->FreeBytes();
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    WireClient client(server.endpoint(), server.lease(), server.secret());
    const char good = client.ok() && client.AcquireCredit(64 << 20) == 0 ? 'y' : 'n';
    if (::write(ready[1], &good, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char good = 0;
  ASSERT_EQ(::read(ready[0], &good, 1), 1);
  EXPECT_EQ(good, 'y');
  EXPECT_LT(survivor->FreeBytes(), before - (64 << 20) + 1);
  ::kill(child, SIGKILL);
  const auto killed = std::chrono::steady_clock::now();
  EXPECT_TRUE(Eventually([&] { return survivor->FreeBytes() == before; }, kQuick)) << server.log();
  const auto took =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - killed);
  RecordProperty("milliseconds_until_all_is_back", static_cast<int>(took.count()));
  std::printf("everything is back after %d ms\n", static_cast<int>(took.count()));
  EXPECT_TRUE(server.WaitForWorkers(1, kQuick));
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(Workers, DriverThatNeverReturnsDoesNotKeepADeadClientsMemory) {
  ServerProcess server;
  auto survivor = Connect(server);
  const std::uint64_t before = survivor->FreeBytes();
  auto client = Connect(server);
  ASSERT_EQ(client->AcquireCredit(kHangBytes), 0);
  wire::Buffer body;
  wire::Encoder encoder(body);
  encoder.Put(std::uint32_t{0});
  encoder.Put(client->window_base());
  encoder.Put(std::uint64_t{kHangBytes});
  ASSERT_TRUE(client->Send(wire::InternalCommand::kMapRange, body, 0));
  client->Disconnect();
  EXPECT_TRUE(Eventually([&] { return survivor->FreeBytes() == before; }, kQuick)) << server.log();
  EXPECT_TRUE(server.WaitForWorkers(1, kQuick));
}

TEST(Workers, StoppedWorkerIsKilledAfterTheGrace) {
  ServerProcess server(WithArguments({"--grace", "100ms"}));
  auto client = Connect(server);
  const std::vector<pid_t> workers = server.workers();
  ASSERT_EQ(workers.size(), 1u);
  ::kill(workers[0], SIGSTOP);
  client->Disconnect();
  EXPECT_TRUE(server.WaitForWorkers(0, milliseconds(3000)));
  EXPECT_TRUE(server.WaitForLog("is killed")) << server.log();
}

TEST(Workers, CrashIsSaidToItsClientAndNobodyElse) {
  ServerProcess server;
  auto other = Connect(server);
  auto victim = Connect(server);
  const std::vector<pid_t> workers = server.workers();
  ASSERT_EQ(workers.size(), 2u);
  ::kill(std::max(workers[0], workers[1]), SIGSEGV);  // The younger one.
  EXPECT_TRUE(victim->WaitForEnd(milliseconds(1000))) << server.log();
  ASSERT_TRUE(victim->farewell().has_value()) << server.log();
  EXPECT_EQ(victim->farewell()->code, RefusalCode::kWorkerDied);
  EXPECT_NE(victim->farewell()->reason.find("signal 11"), std::string::npos);
  EXPECT_GT(other->FreeBytes(), 0u);
  EXPECT_TRUE(server.WaitForLog("signal 11 (Segmentation fault)")) << server.log();
  EXPECT_TRUE(Connect(server)->ok());
}

TEST(Workers, CrashInsideTheDriverIsSaidToItsClient) {
  ServerProcess server;
  auto victim = Connect(server);
  ASSERT_EQ(victim->AcquireCredit(kCrashBytes), 0);
  EXPECT_EQ(victim->MapRange(0, kCrashBytes), -1);
  ASSERT_TRUE(victim->farewell().has_value()) << server.log();
  EXPECT_EQ(victim->farewell()->code, RefusalCode::kWorkerDied);
}

TEST(Workers, ClientThatStopsReadingDisturbsNobody) {
  ServerProcess server;
  auto deaf = Connect(server);
  auto good = Connect(server);
  wire::Buffer body;
  wire::Encoder(body).Put(std::uint32_t{0});
  // Until neither direction takes any more: the server holds a bounded number of unread answers.
  constexpr std::uint64_t kFrames = 10'000;
  constexpr std::uint64_t kCommandsPerFrame = 1000;
  std::uint64_t frames = 0;
  while (frames < kFrames &&
         deaf->SendMany(wire::InternalCommand::kMemoryInfo, body, kCommandsPerFrame)) {
    ++frames;
    if (frames % 100 == 0) ASSERT_GT(good->FreeBytes(), 0u) << server.log();
  }
  EXPECT_LT(frames, kFrames) << "the server must not take commands without end";
  for (int i = 0; i < 20; ++i) EXPECT_GT(good->FreeBytes(), 0u);
  deaf->Disconnect();
  EXPECT_TRUE(server.WaitForWorkers(1, milliseconds(3000))) << server.log();
}

TEST(Workers, WhatKernelsPrintArrivesBeforeTheReply) {
  ServerProcess server;
  auto client = Connect(server);
  ASSERT_TRUE(client->UseContext());
  ASSERT_EQ(client->AcquireCredit(kPrintBytes), 0);
  ASSERT_EQ(client->MapRange(0, kPrintBytes), 0) << server.log();
  EXPECT_EQ(client->output(), "hello from a kernel\n");
}

}  // namespace
}  // namespace farwarp::testing
