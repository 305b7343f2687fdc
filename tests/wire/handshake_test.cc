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
  challenge.nonce.fill(0x5e);
  return challenge;
}
LeaseSecret ExampleSecret() {
  LeaseSecret secret;
  std::iota(secret.begin(), secret.end(), std::uint8_t{0});
  return secret;
}

Welcome ExampleWelcome() {
  Welcome welcome;
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
  EXPECT_EQ(hello.table_hash, ExampleHello().table_hash);
  EXPECT_EQ(hello.lease, ExampleHello().lease);
  EXPECT_EQ(hello.nonce, ExampleHello().nonce);
  EXPECT_EQ(hello.process_id, 4242u);
  EXPECT_EQ(hello.process_name, "vectorAdd");
  ASSERT_EQ(hello.windows.size(), 1u);
  EXPECT_EQ(hello.windows[0].bytes, std::uint64_t{2} << 40);
  const Welcome welcome = *Welcome::Decode(ExampleWelcome().Encode());
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
  RefusesEveryOtherLength(Proof{});
  RefusesEveryOtherLength(ExampleWelcome());
  RefusesEveryOtherLength(Farewell{RefusalCode::kBusy, "later"});
}

TEST(Handshake, AHugeCountAllocatesNothing) {
  Buffer payload = ExampleHello().Encode();
  const std::uint64_t count = ~std::uint64_t{0};
  std::memcpy(payload.data() + payload.size() - 24, &count, sizeof count);
  EXPECT_FALSE(Hello::Decode(payload).ok());
}

TEST(Handshake, AProofBindsEveryByteThatWasSaid) {
  const Buffer hello = ExampleHello().Encode();
  const Buffer challenge = ExampleChallenge().Encode();
  const Digest right = ComputeProof(ExampleSecret(), hello, challenge);
  EXPECT_TRUE(DigestsEqual(right, ComputeProof(ExampleSecret(), hello, challenge)));
  for (std::size_t i = 0; i < hello.size(); ++i) {
    Buffer other = hello;
    other[i] ^= std::byte{1};
    EXPECT_FALSE(DigestsEqual(right, ComputeProof(ExampleSecret(), other, challenge))) << i;
  }
  // A replayed proof: the server's nonce is another one.
  for (std::size_t i = 0; i < challenge.size(); ++i) {
    Buffer other = challenge;
    other[i] ^= std::byte{0x80};
    EXPECT_FALSE(DigestsEqual(right, ComputeProof(ExampleSecret(), hello, other))) << i;
  }
  LeaseSecret secret = ExampleSecret();
  secret[31] ^= 1;
  EXPECT_FALSE(DigestsEqual(right, ComputeProof(secret, hello, challenge)));
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
  const Digest proof = ComputeProof(ExampleSecret(), hello, ExampleChallenge().Encode());
  shows("the proof", proof);
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
