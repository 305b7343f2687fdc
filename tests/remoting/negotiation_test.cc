// Client and server of different builds: what both know works, everything else is refused before it
// is sent; and a server that negotiates wrongly gets no session.
#include "farwarp/wire/negotiation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "client/custom.h"
#include "client/plain.h"
#include "client/session/command.h"
#include "cuda/wire_table.h"
#include "farwarp/base/log.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/internal_command.h"
#include "tests/remoting/loop.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;
namespace plain = client::plain;
using wire::InternalCommand;

constexpr std::uint32_t kPlain = wire_id::cuStreamWriteValue32_v2;
constexpr std::uint32_t kEventQuery = wire::IdOf(InternalCommand::kQueryEvent);

// The table of this build with changes.
class OtherBuild {
 public:
  explicit OtherBuild(std::uint64_t hash)
      : hash_(hash), entries_(std::begin(wire::kTableEntries), std::end(wire::kTableEntries)) {}
  OtherBuild& Without(std::uint32_t id) {
    EXPECT_EQ(std::erase_if(entries_, [id](const auto& entry) { return entry.id == id; }), 1u);
    return *this;
  }
  OtherBuild& WithAnother(std::uint32_t id) {
    for (auto& entry : entries_) entry.signature += entry.id == id;
    return *this;
  }
  // Commands that only this build has: before, between and behind those of the other.
  OtherBuild& WithMore() {
    entries_.insert(entries_.begin(), {1, 1, "cuFirst"});
    const auto internal = std::find_if(entries_.begin(), entries_.end(), [](const auto& entry) {
      return entry.id >= wire::kFirstInternalId;
    });
    entries_.insert(internal, {wire::kFirstInternalId - 1, 1, "cuMiddle"});
    entries_.push_back({~0u, 1, "Last"});
    return *this;
  }
  wire::ApiTable table() const { return {hash_, entries_}; }

 private:
  std::uint64_t hash_;
  std::vector<wire::TableEntry> entries_;
};

std::mutex lines_mutex;
std::vector<std::string> lines;
std::atomic<int> written{0};

// The lines of the log, from before the loop's threads until after them.
class Negotiation : public testing::Test {
 protected:
  Negotiation() {
    lines.clear();
    written = 0;
    SetLogLevel(LogLevel::kWarn);
    SetLogSink([](LogLevel, const char* line) {
      const std::lock_guard lock(lines_mutex);
      lines.emplace_back(line);
    });
  }
  ~Negotiation() override {
    SetLogSink(nullptr);
    SetLogLevel(LogLevel::kOff);
  }
  static std::ptrdiff_t LinesWith(const std::string& text) {
    const std::lock_guard lock(lines_mutex);
    return std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    });
  }
};

class Mixed {
 public:
  explicit Mixed(const Builds& builds) : loop_({std::uint64_t{1} << 30}, nullptr, builds) {
    // The table is the fake driver's own, not constant; nothing calls it before the commands below.
    auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
    table.cuStreamWriteValue32_v2 = [](CUstream, CUdeviceptr, cuuint32_t, unsigned) {
      ++written;
      return CUDA_SUCCESS;
    };
    EXPECT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemAlloc_v2(&memory_, sizeof(cuuint32_t)), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuEventCreate(&event_, 0), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuEventRecord(event_, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    loop_.TakeRoundTrips();
  }
  ~Mixed() { cu::cuCtxSetCurrent(nullptr); }

  CUresult WriteValue() { return plain::cuStreamWriteValue32_v2(nullptr, memory_, 1, 0, false); }
  CUresult QueryEvent() { return cu::cuEventQuery(event_); }
  // What the two builds have in common goes on working.
  void ExpectTheRestToWork() {
    CUdeviceptr memory = 0;
    const int in[2] = {17, 4};
    int out[2] = {};
    EXPECT_EQ(cu::cuMemAlloc_v2(&memory, sizeof in), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemcpyHtoD_v2(memory, in, sizeof in), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemcpyDtoH_v2(out, memory, sizeof out), CUDA_SUCCESS);
    EXPECT_EQ(out[0], 17);
    EXPECT_EQ(out[1], 4);
    EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
  Loop& loop() { return loop_; }

 private:
  Loop loop_;
  CUcontext context_ = nullptr;
  CUevent event_ = nullptr;
  CUdeviceptr memory_ = 0;
};

TEST_F(Negotiation, EqualBuildsRefuseNothing) {
  Mixed mixed({});
  EXPECT_EQ(mixed.WriteValue(), CUDA_SUCCESS);
  EXPECT_EQ(mixed.QueryEvent(), CUDA_SUCCESS);
  mixed.ExpectTheRestToWork();
  EXPECT_EQ(written.load(), 1);
  EXPECT_EQ(LinesWith(""), 0);
}

void ExpectBothRefusedHere(Mixed& mixed) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(mixed.WriteValue(), CUDA_ERROR_NOT_SUPPORTED);
    EXPECT_EQ(mixed.QueryEvent(), CUDA_ERROR_NOT_SUPPORTED);
  }
  EXPECT_EQ(mixed.loop().TakeRoundTrips(), 0u) << "refused without asking";
  mixed.ExpectTheRestToWork();
  EXPECT_EQ(written.load(), 0);
}

TEST_F(Negotiation, AClientThatKnowsMoreIsToldHere) {
  Builds builds;
  const auto older = OtherBuild(5).Without(kPlain).Without(kEventQuery);
  builds.server = older.table();
  Mixed mixed(builds);
  ExpectBothRefusedHere(mixed);
  EXPECT_EQ(LinesWith("does not know cuStreamWriteValue32_v2 "), 1);
  EXPECT_EQ(LinesWith("does not know QueryEvent "), 1);
  EXPECT_EQ(LinesWith(""), 2) << "and nothing reached the server";
}

TEST_F(Negotiation, ACommandThatMeansSomethingElseIsNoCommonOne) {
  for (const bool newer_client : {false, true}) {
    lines.clear();
    const auto other = OtherBuild(5).WithAnother(kPlain).WithAnother(kEventQuery).WithMore();
    Builds builds;
    (newer_client ? builds.client : builds.server) = other.table();
    Mixed mixed(builds);
    ExpectBothRefusedHere(mixed);
    EXPECT_EQ(LinesWith("does not know cuStreamWriteValue32_v2 "), 1);
    EXPECT_EQ(LinesWith("does not know QueryEvent "), 1);
    EXPECT_EQ(LinesWith(""), 2);
  }
}

TEST_F(Negotiation, AServerThatKnowsMoreDisturbsNobody) {
  const auto newer = OtherBuild(5).WithMore();
  Builds builds;
  builds.server = newer.table();
  Mixed mixed(builds);
  EXPECT_EQ(mixed.WriteValue(), CUDA_SUCCESS);
  EXPECT_EQ(mixed.QueryEvent(), CUDA_SUCCESS);
  mixed.ExpectTheRestToWork();
  EXPECT_EQ(written.load(), 1);
  EXPECT_EQ(LinesWith(""), 0);
}

TEST_F(Negotiation, AClientSendsNothingThatItsOwnTableLacks) {
  const auto older = OtherBuild(5).Without(kPlain).Without(kEventQuery);
  Builds builds;
  builds.client = older.table();
  Mixed mixed(builds);
  ExpectBothRefusedHere(mixed);
  // It has no names for them, and one line for all that it has no names for.
  EXPECT_EQ(LinesWith("does not know ? "), 1);
  EXPECT_EQ(LinesWith(""), 1);
}

TEST_F(Negotiation, TheHighestCommonVersionIsTaken) {
  Builds builds;
  builds.client_versions = {1, 6};
  builds.server_versions = {3, 9};
  Mixed mixed(builds);
  EXPECT_EQ(mixed.loop().client().welcome().protocol, 6u);
  mixed.ExpectTheRestToWork();
}

// ------------------------------------------------------------------ a client that breaks its word

TEST_F(Negotiation, AServerExecutesNothingThatTheClientDidNotTell) {
  FakeDriver driver;
  const std::uint64_t limit = 64 << 20;
  auto book = server::QuotaBook::Create(std::span(&limit, 1));
  ASSERT_TRUE(book.ok());
  auto quota = server::Quota::Map(book->fd(), *book->TakeSlot());
  ASSERT_TRUE(quota.ok());
  auto [client_end, server_end] = transport::MakeChannelPair();
  server::Session::Options options;
  options.driver = &driver.table();
  options.quota = &*quota;
  options.device_ordinals = {0};
  options.table = wire::kApiTable;
  server::Session session(std::move(server_end), options);
  wire::Hello hello;
  hello.table_hash = 5;
  hello.windows = {{kTestWindow, std::uint64_t{1} << 38}};
  constexpr auto kMemoryInfo = wire::IdOf(InternalCommand::kMemoryInfo);
  ASSERT_TRUE(session.Start(hello, wire::Told(OtherBuild(5).Without(kMemoryInfo).table())).ok());
  std::thread serving([&] { EXPECT_TRUE(session.Run().ok()); });
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  wire::Buffer commands;
  wire::Encoder encoder(commands);
  for (const std::uint64_t ticket : {1u, 2u}) {
    encoder.PutStruct(wire::CommandHeader{kMemoryInfo, 8, ticket});
    encoder.Put(std::uint32_t{0});
  }
  EXPECT_TRUE(client_end
                  ->Send({wire::FrameKind::kCommands, 0, 0,
                          static_cast<std::uint32_t>(commands.size()), 1, 0},
                         commands, {}, deadline)
                  .ok());
  // Whatever comes, the serving thread is joined.
  std::vector<std::int32_t> results;
  while (results.size() < 2) {
    const auto header = client_end->ReceiveHeader(deadline);
    if (!header.ok()) break;
    wire::Buffer payload(header->bytes);
    if (!client_end->ReceivePayload(payload, deadline).ok()) break;
    if (header->kind != wire::FrameKind::kReplies || payload.size() < sizeof(wire::ReplyHeader)) {
      continue;
    }
    wire::ReplyHeader reply;
    std::memcpy(&reply, payload.data(), sizeof reply);
    results.push_back(reply.result);
  }
  client_end->Shutdown();
  serving.join();
  EXPECT_EQ(results, std::vector<std::int32_t>(2, CUDA_ERROR_NOT_SUPPORTED));
  EXPECT_EQ(LinesWith("sent MemoryInfo "), 1);
}

TEST_F(Negotiation, AServerRefusesVersionsAndTablesThatDoNotFit) {
  struct Case {
    wire::VersionRange versions;
    std::uint64_t hash;
    std::vector<wire::PeerEntry> table;
    wire::RefusalCode code;
    const char* reason;
  };
  const auto all = wire::Told(wire::kApiTable);
  const Case cases[] = {
      {{2, 3}, 0, {}, wire::RefusalCode::kVersion, "the client speaks protocol 2 to 3, the server"},
      {{}, 5, {}, wire::RefusalCode::kVersion, "too little in common"},
      {{},
       5,
       wire::Told(OtherBuild(5).WithAnother(wire::IdOf(InternalCommand::kSetContext)).table()),
       wire::RefusalCode::kVersion,
       "too little in common"},
      {{}, wire::kTableHash, all, wire::RefusalCode::kMalformed, "that nobody needs"},
      {{}, 0, all, wire::RefusalCode::kMalformed, "that nobody needs"},
  };
  for (const Case& bad : cases) {
    FakeDriver driver;
    const std::uint64_t limit = 64 << 20;
    auto book = server::QuotaBook::Create(std::span(&limit, 1));
    auto quota = server::Quota::Map(book->fd(), *book->TakeSlot());
    auto [client_end, server_end] = transport::MakeChannelPair();
    server::Session::Options options;
    options.driver = &driver.table();
    options.quota = &*quota;
    options.device_ordinals = {0};
    options.table = wire::kApiTable;
    server::Session session(std::move(server_end), options);
    wire::Hello hello;
    hello.versions = bad.versions;
    hello.table_hash = bad.hash;
    hello.windows = {{kTestWindow, std::uint64_t{1} << 38}};
    EXPECT_FALSE(session.Start(hello, bad.table).ok());
    const Deadline deadline = Deadline::After(std::chrono::seconds(10));
    const auto header = client_end->ReceiveHeader(deadline);
    ASSERT_TRUE(header.ok());
    ASSERT_EQ(header->kind, wire::FrameKind::kRefused);
    wire::Buffer payload(header->bytes);
    ASSERT_TRUE(client_end->ReceivePayload(payload, deadline).ok());
    const auto farewell = wire::Farewell::Decode(payload);
    ASSERT_TRUE(farewell.ok());
    EXPECT_EQ(farewell->code, bad.code) << bad.reason;
    EXPECT_NE(farewell->reason.find(bad.reason), std::string::npos) << farewell->reason;
  }
}

// ------------------------------------------------------------------ a server that breaks its word

// What a client of this build makes of a server's challenge and welcome.
Status Meet(const wire::Buffer& challenge, const wire::Welcome& welcome) {
  auto [client_end, server_end] = transport::MakeChannelPair();
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  const auto send = [&, &server = *server_end](wire::FrameKind kind, const wire::Buffer& payload) {
    EXPECT_TRUE(server
                    .Send({kind, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0}, payload,
                          {}, deadline)
                    .ok());
  };
  send(wire::FrameKind::kChallenge, challenge);
  send(wire::FrameKind::kWelcome, welcome.Encode());
  wire::Grant grant;
  grant.gpus.push_back({"strange:1", 0, 1 << 20, 100});
  client::Session::Options options;
  options.map_window = false;
  options.table = wire::kApiTable;
  return client::Session::Connect(std::move(client_end), grant, std::move(options)).status();
}

wire::Challenge FittingChallenge() {
  wire::Challenge challenge;
  challenge.table_hash = 5;
  challenge.table = wire::Told(wire::kApiTable);
  return challenge;
}
wire::Welcome FittingWelcome() {
  wire::Welcome welcome;
  welcome.table_hash = 5;
  welcome.devices.emplace_back();
  return welcome;
}

TEST_F(Negotiation, AClientTakesNoWelcomeThatContradicts) {
  EXPECT_TRUE(Meet(FittingChallenge().Encode(), FittingWelcome()).ok());
  wire::Welcome welcome = FittingWelcome();
  welcome.protocol = 2;
  EXPECT_EQ(Meet(FittingChallenge().Encode(), welcome).message(),
            "the server's welcome is not what was agreed on");
  welcome = FittingWelcome();
  welcome.table_hash = wire::kTableHash;
  EXPECT_EQ(Meet(FittingChallenge().Encode(), welcome).message(),
            "the server's welcome is not what was agreed on");
}

TEST_F(Negotiation, AClientTakesNoHostileTable) {
  const auto meet = [](std::vector<wire::PeerEntry> table, std::uint64_t hash = 5) {
    wire::Challenge challenge = FittingChallenge();
    challenge.table_hash = hash;
    challenge.table = std::move(table);
    return Meet(challenge.Encode(), FittingWelcome()).code();
  };
  auto table = wire::Told(wire::kApiTable);
  EXPECT_EQ(meet(table, wire::kTableHash), StatusCode::kInvalid) << "nobody needs it";
  EXPECT_EQ(meet({}), StatusCode::kVersion) << "it knows no command";
  std::swap(table[0], table[1]);
  EXPECT_EQ(meet(table), StatusCode::kInvalid) << "falls";
  table[0] = table[1];
  EXPECT_EQ(meet(table), StatusCode::kInvalid) << "twice";
  table.assign(wire::kMaxTableEntries + 1, {});
  for (std::uint32_t i = 0; i < table.size(); ++i) table[i].id = i;
  EXPECT_EQ(meet(table), StatusCode::kInvalid) << "too long";
  wire::Buffer lying = FittingChallenge().Encode();
  const std::uint64_t count = ~std::uint64_t{0};
  std::memcpy(lying.data() + 56, &count, sizeof count);
  EXPECT_EQ(Meet(lying, FittingWelcome()).code(), StatusCode::kInvalid) << "a huge count";
}

TEST_F(Negotiation, NoCommonVersionIsASentence) {
  wire::Challenge challenge = FittingChallenge();
  challenge.versions = {2, 4};
  const Status status = Meet(challenge.Encode(), FittingWelcome());
  EXPECT_EQ(status.code(), StatusCode::kVersion);
  EXPECT_EQ(status.message(),
            "the client speaks protocol 1, the server speaks 2 to 4; use matching versions of "
            "Farwarp");
}

TEST_F(Negotiation, WithoutTheIndispensableThereIsNoSession) {
  for (const auto command : {InternalCommand::kSetContext, InternalCommand::kHostFunctionDone}) {
    wire::Challenge challenge = FittingChallenge();
    challenge.table = wire::Told(OtherBuild(5).WithAnother(wire::IdOf(command)).table());
    EXPECT_EQ(Meet(challenge.Encode(), FittingWelcome()).code(), StatusCode::kVersion);
  }
}

}  // namespace
}  // namespace farwarp::tests
