// Grant and handshake messages: they survive, every mutilation is refused, and a proof binds
// everything that was said.
#include "farwarp/wire/handshake.h"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <sstream>

#include "farwarp/base/bytes.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::wire {
namespace {

// The one in docs/protocol.md.
Hello ExampleHello() {
  Hello hello;
  hello.table_hash = 0x1122334455667788;
  std::iota(hello.lease.begin(), hello.lease.end(), std::uint8_t{0xa0});
  hello.nonce.fill(0xc1);
  hello.process_id = 4242;
  hello.process_name = "vectorAdd";
  hello.windows = {{0x2000'0000'0000, std::uint64_t{2} << 40}};
  return hello;
}
Challenge ExampleChallenge() {
  Challenge challenge;
  challenge.table_hash = 0x0102030405060708;
  challenge.table = {{0x13, 0x0a6b0c64}, {0x10000, 0x5f5e100}, {0x10052, 7}};
  challenge.nonce.fill(0x5e);
  return challenge;
}
const std::vector<PeerEntry> kExampleTable = {{0x13, 0x0a6b0c64}, {0x10000, 0x5f5e100}};
Proof ExampleProof() {
  Proof proof;
  proof.table = kExampleTable;
  return proof;
}
LeaseSecret ExampleSecret() {
  LeaseSecret secret;
  std::iota(secret.begin(), secret.end(), std::uint8_t{0});
  return secret;
}

Welcome ExampleWelcome() {
  Welcome welcome;
  welcome.credit = {1 << 20, 3 << 20};
  welcome.table_hash = 7;
  welcome.driver_version = 13000;
  DeviceSnapshot device;
  device.name = "GPU";
  device.uuid.fill(3);
  device.pci_bus_id = "0000:01:00.0";
  device.total_memory_bytes = 1 << 30;
  device.memory_credit_bytes = 1 << 20;
  device.attributes = {{1, 1024}, {75, 12}, {76, -1}};
  welcome.devices = {device, device};
  return welcome;
}

std::string Hex(std::span<const std::byte> bytes) {
  return HexEncode(std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
}

TEST(Handshake, MessagesSurvive) {
  const Hello hello = *Hello::Decode(ExampleHello().Encode());
  EXPECT_EQ(hello.versions.newest, kProtocolVersion);
  EXPECT_EQ(hello.table_hash, ExampleHello().table_hash);
  EXPECT_EQ(hello.lease, ExampleHello().lease);
  EXPECT_EQ(hello.nonce, ExampleHello().nonce);
  EXPECT_EQ(hello.process_id, 4242u);
  EXPECT_EQ(hello.process_name, "vectorAdd");
  ASSERT_EQ(hello.windows.size(), 1u);
  EXPECT_EQ(hello.windows[0].bytes, std::uint64_t{2} << 40);
  Challenge other = ExampleChallenge();
  other.versions = {3, 9};
  const Challenge challenge = *Challenge::Decode(other.Encode());
  EXPECT_EQ(challenge.versions.oldest, 3u);
  EXPECT_EQ(challenge.versions.newest, 9u);
  EXPECT_EQ(challenge.table_hash, other.table_hash);
  EXPECT_EQ(challenge.nonce, other.nonce);
  ASSERT_EQ(challenge.table.size(), 3u);
  EXPECT_EQ(challenge.table[2].id, 0x10052u);
  EXPECT_EQ(challenge.table[2].signature, 7u);
  EXPECT_EQ(Proof::Decode(ExampleProof().Encode())->table.size(), 2u);
  const Welcome welcome = *Welcome::Decode(ExampleWelcome().Encode());
  EXPECT_EQ(welcome.credit, ExampleWelcome().credit);
  ASSERT_EQ(welcome.devices.size(), 2u);
  EXPECT_EQ(welcome.devices[1].attributes, ExampleWelcome().devices[1].attributes);
  EXPECT_EQ(welcome.devices[0].pci_bus_id, "0000:01:00.0");
  const Farewell farewell = *Farewell::Decode(Farewell{RefusalCode::kBusy, "later"}.Encode());
  EXPECT_EQ(farewell.code, RefusalCode::kBusy);
  EXPECT_EQ(farewell.reason, "later");
}

template <typename Message>
void RefusesEveryOtherLength(const Message& message) {
  Buffer payload = message.Encode();
  ASSERT_TRUE(Message::Decode(payload).ok());
  for (std::size_t bytes = 0; bytes < payload.size(); ++bytes) {
    EXPECT_FALSE(Message::Decode(std::span(payload).first(bytes)).ok()) << bytes;
  }
  payload.resize(payload.size() + 8);
  EXPECT_FALSE(Message::Decode(payload).ok());
}

TEST(Handshake, TruncatedAndPaddedMessagesAreRefused) {
  RefusesEveryOtherLength(ExampleHello());
  RefusesEveryOtherLength(ExampleChallenge());
  RefusesEveryOtherLength(ExampleProof());
  RefusesEveryOtherLength(ExampleWelcome());
  RefusesEveryOtherLength(Farewell{RefusalCode::kBusy, "later"});
}

TEST(Handshake, AHugeCountAllocatesNothing) {
  Buffer payload = ExampleHello().Encode();
  const std::uint64_t count = ~std::uint64_t{0};
  std::memcpy(payload.data() + payload.size() - 24, &count, sizeof count);
  EXPECT_FALSE(Hello::Decode(payload).ok());
}

// What a table may be is the same in both messages that carry one.
bool TableIsTaken(std::span<const PeerEntry> table, std::uint64_t count) {
  Buffer challenge = ExampleChallenge().Encode();
  challenge.resize(challenge.size() - 8 * ExampleChallenge().table.size() - 8);
  Buffer proof(Proof{}.digest.size());
  for (Buffer* payload : {&challenge, &proof}) {
    Encoder encoder(*payload);
    encoder.Put(count);
    encoder.PutRaw(table.data(), table.size_bytes());
  }
  const bool taken = Challenge::Decode(challenge).ok();
  EXPECT_EQ(taken, Proof::Decode(proof).ok());
  return taken;
}

TEST(Handshake, AHostileTableIsRefused) {
  std::vector<PeerEntry> table(kMaxTableEntries + 1);
  for (std::uint32_t i = 0; i < table.size(); ++i) table[i] = {i, ~i};
  const auto most = std::span(table).first(kMaxTableEntries);
  EXPECT_TRUE(TableIsTaken({}, 0));
  EXPECT_TRUE(TableIsTaken(most, kMaxTableEntries));
  EXPECT_FALSE(TableIsTaken(table, table.size())) << "one too many";
  for (const std::uint64_t count :
       {std::uint64_t{0}, std::uint64_t{kMaxTableEntries - 1}, std::uint64_t{kMaxTableEntries + 1},
        std::uint64_t{1} << 32, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
    EXPECT_FALSE(TableIsTaken(most, count)) << count;
  }
  EXPECT_FALSE(TableIsTaken(std::vector<PeerEntry>{{5, 1}, {5, 1}}, 2)) << "twice";
  EXPECT_FALSE(TableIsTaken(std::vector<PeerEntry>{{5, 1}, {5, 2}}, 2)) << "two meanings";
  EXPECT_FALSE(TableIsTaken(std::vector<PeerEntry>{{5, 1}, {6, 1}, {4, 1}}, 3)) << "falls";
  EXPECT_FALSE(TableIsTaken(std::vector<PeerEntry>{{~0u, 1}, {0, 1}}, 2)) << "wraps";
}

TEST(Handshake, AProofBindsEveryByteThatWasSaid) {
  const Buffer hello = ExampleHello().Encode();
  const Buffer challenge = ExampleChallenge().Encode();
  const auto proof = [&](const Buffer& first, const Buffer& second,
                         const std::vector<PeerEntry>& table = kExampleTable) {
    return ComputeProof(ExampleSecret(), first, second, table);
  };
  const Digest right = proof(hello, challenge);
  EXPECT_TRUE(DigestsEqual(right, proof(hello, challenge)));
  for (std::size_t i = 0; i < hello.size(); ++i) {
    Buffer other = hello;
    other[i] ^= std::byte{1};
    EXPECT_FALSE(DigestsEqual(right, proof(other, challenge))) << i;
  }
  // A replayed proof, a server whose versions or table someone has changed on the way.
  for (std::size_t i = 0; i < challenge.size(); ++i) {
    Buffer other = challenge;
    other[i] ^= std::byte{0x80};
    EXPECT_FALSE(DigestsEqual(right, proof(hello, other))) << i;
  }
  for (std::size_t i = 0; i < kExampleTable.size(); ++i) {
    auto table = kExampleTable;
    table[i].id ^= 1;
    EXPECT_FALSE(DigestsEqual(right, proof(hello, challenge, table))) << i;
    table = kExampleTable;
    table[i].signature ^= 0x80000000;
    EXPECT_FALSE(DigestsEqual(right, proof(hello, challenge, table))) << i;
    table = kExampleTable;
    table.erase(table.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(DigestsEqual(right, proof(hello, challenge, table))) << i;
  }
  EXPECT_FALSE(DigestsEqual(right, proof(hello, challenge, {})));
  LeaseSecret secret = ExampleSecret();
  secret[31] ^= 1;
  EXPECT_FALSE(DigestsEqual(right, ComputeProof(secret, hello, challenge, kExampleTable)));
}

TEST(Negotiation, TheHighestCommonVersion) {
  EXPECT_EQ(HighestCommon({1, 1}, {1, 1}), 1u);
  EXPECT_EQ(HighestCommon({1, 4}, {2, 3}), 3u);
  EXPECT_EQ(HighestCommon({2, 3}, {3, 9}), 3u);
  EXPECT_EQ(HighestCommon({0, ~0u}, {7, 7}), 7u);
  EXPECT_FALSE(HighestCommon({1, 2}, {3, 4}).has_value());
  EXPECT_FALSE(HighestCommon({3, 4}, {1, 2}).has_value());
  EXPECT_FALSE(HighestCommon({4, 1}, {1, 4}).has_value()) << "a range of nothing";
  const Status status = NoCommonVersion({1, 2}, {5, 5});
  EXPECT_EQ(status.code(), StatusCode::kVersion);
  EXPECT_EQ(status.message(),
            "the client speaks protocol 1 to 2, the server speaks 5; use matching versions of "
            "Farwarp");
}

constexpr TableEntry kOurs[] = {{3, 30, "three"},
                                {5, 50, "five"},
                                {7, 70, "seven"},
                                {IdOf(InternalCommand::kSetContext), 1, "SetContext"},
                                {IdOf(InternalCommand::kHostFunctionDone), 2, "HostFunctionDone"}};
constexpr ApiTable kOurTable{99, kOurs};

TEST(Negotiation, OnlyWhatMeansTheSameToBothIsCommon) {
  auto theirs = Told(kOurTable);
  theirs[1].signature = 51;
  theirs[2].id = 8;  // Seven is not theirs, eight not ours.
  auto known = Negotiate(kOurTable, true, theirs);
  ASSERT_TRUE(known.ok());
  EXPECT_FALSE(known->all());
  EXPECT_EQ(known->common(), 3u);
  EXPECT_TRUE(known->Has(3));
  for (const std::uint32_t id : {0u, 4u, 5u, 7u, 8u, 0x10001u, ~0u}) {
    EXPECT_FALSE(known->Has(id)) << id;
  }
  EXPECT_STREQ(known->NameOf(7), "seven");
  EXPECT_STREQ(known->NameOf(8), "?");
  EXPECT_TRUE(known->FirstRefusal(5));
  EXPECT_FALSE(known->FirstRefusal(5));
  EXPECT_TRUE(known->FirstRefusal(7));
  EXPECT_TRUE(known->FirstRefusal(8));
  EXPECT_FALSE(known->FirstRefusal(~0u)) << "numbers that a peer makes up fill no log";
}

TEST(Negotiation, EqualBuildsSendNothing) {
  EXPECT_FALSE(TablesTravel(99, 99));
  EXPECT_FALSE(TablesTravel(0, 99));
  EXPECT_TRUE(TablesTravel(99, 98));
  EXPECT_TRUE(TablesTravel(99, 0));
  const auto known = Negotiate(kOurTable, false, {});
  ASSERT_TRUE(known.ok());
  EXPECT_TRUE(known->all());
  EXPECT_TRUE(known->Has(~0u));
  EXPECT_EQ(Negotiate(kOurTable, false, Told(kOurTable)).status().code(), StatusCode::kInvalid);
}

TEST(Negotiation, TooLittleInCommonIsNoSession) {
  EXPECT_EQ(Negotiate(kOurTable, true, {}).status().code(), StatusCode::kVersion);
  for (const std::size_t place : {3u, 4u}) {
    auto theirs = Told(kOurTable);
    ++theirs[place].signature;
    EXPECT_EQ(Negotiate(kOurTable, true, theirs).status().code(), StatusCode::kVersion) << place;
  }
}

TEST(Grant, SurvivesAndRefusesEachMutilation) {
  const std::string secret(64, 'b');
  const std::string good = "v1;lease=" + std::string(32, 'a') + ";secret=" + secret +
                           ";gpu=node:7461/0/1073741824/50;gpu=[::1]:7461/1/1/100";
  const auto grant = ParseGrant(good);
  ASSERT_TRUE(grant.ok()) << grant.status().ToString();
  EXPECT_EQ(FormatGrant(*grant), good);
  EXPECT_EQ(grant->gpus[1].endpoint, "[::1]:7461");
  EXPECT_TRUE(ParseGrant(good + "\n").ok());
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes) {
    // A cut inside the last number leaves a shorter number; everything else is noticed.
    const auto cut = ParseGrant(std::string_view(good).substr(0, bytes));
    EXPECT_EQ(cut.status().message().find(secret.substr(0, 16)), std::string::npos);
  }
  const std::string head = good.substr(0, good.find(";gpu="));
  for (const char* gpu :
       {"", ";gpu=", ";gpu=a:1", ";gpu=a:1/0/1", ";gpu=a:1/0/0/1", ";gpu=a:1/64/1/1",
        ";gpu=a:1/0/1/0", ";gpu=a:1/0/1/101", ";gpu=a:1/-1/1/1", ";gpu=a:1/0/1/1x",
        ";gpu=a:1/0/99999999999999999999/1", ";what=1;gpu=a:1/0/1/1"}) {
    const auto bad = ParseGrant(head + gpu);
    EXPECT_FALSE(bad.ok()) << gpu;
    EXPECT_EQ(bad.status().message().find(secret.substr(0, 16)), std::string::npos);
  }
  EXPECT_FALSE(ParseGrant("v2" + good.substr(2)).ok());
}

// Tables travel: the hash is not the hello's.
Challenge DocumentedChallenge() {
  Challenge challenge;
  challenge.table_hash = 0x8877665544332211;
  challenge.nonce.fill(0x5e);
  challenge.table = {{0x10000, 0xddeeff00}, {0x10052, 0x99aabbcc}};
  return challenge;
}

// docs/protocol.md shows real bytes: a client can be checked against them.
TEST(Documentation, ShowsTheseBytes) {
  std::ifstream file(FARWARP_PROTOCOL_MD);
  ASSERT_TRUE(file.good()) << FARWARP_PROTOCOL_MD;
  std::stringstream text;
  text << file.rdbuf();
  std::string document;
  for (const char c : text.str()) {
    if (c != ' ' && c != '\n' && c != '\r') document += c;
  }
  const auto shows = [&](const char* what, std::span<const std::byte> bytes) {
    EXPECT_NE(document.find(Hex(bytes)), std::string::npos) << what << " is " << Hex(bytes);
  };
  const Buffer hello = ExampleHello().Encode();
  const FrameHeader header{FrameKind::kHello, 0, 0, static_cast<std::uint32_t>(hello.size()), 0, 0};
  shows("the header of the hello", std::as_bytes(std::span(&header, 1)));
  // The document annotates field by field, so the fields are looked for, not the whole.
  for (const auto& [at, bytes] : {std::pair<std::size_t, std::size_t>{0, 8},
                                  {8, 8},
                                  {16, 8},
                                  {24, 16},
                                  {72, 8},
                                  {80, 24},
                                  {104, 24}}) {
    shows("a field of the hello", std::span(hello).subspan(at, bytes));
  }
  EXPECT_EQ(hello.size(), 128u);
  const Buffer challenge = DocumentedChallenge().Encode();
  for (const auto& [at, bytes] : {std::pair<std::size_t, std::size_t>{0, 24}, {24, 32}, {56, 24}}) {
    shows("a field of the challenge", std::span(challenge).subspan(at, bytes));
  }
  EXPECT_EQ(challenge.size(), 80u);
  Proof proof;
  proof.table = {{0x10052, 0x99aabbcc}};
  proof.digest = ComputeProof(ExampleSecret(), hello, challenge, proof.table);
  shows("the proof's digest", proof.digest);
  const Buffer proof_payload = proof.Encode();
  EXPECT_EQ(proof_payload.size(), 48u);
  shows("the proof's table", std::span(proof_payload).subspan(32));
  Buffer commands;
  Encoder encoder(commands);
  encoder.Put(std::uint64_t{IdOf(InternalCommand::kSynchronizeStream)} | std::uint64_t{8} << 32);
  encoder.Put(std::uint64_t{1});
  encoder.Put(std::uint64_t{0});
  shows("the command", commands);
  const ReplyHeader reply{1, 700, 0};
  shows("the reply", std::as_bytes(std::span(&reply, 1)));
}

}  // namespace
}  // namespace farwarp::wire
