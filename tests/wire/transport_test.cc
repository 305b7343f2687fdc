// Channels: frames arrive whole and in order whatever the pieces, and every wait ends.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <random>
#include <thread>

#include "farwarp/transport/faulty_channel.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/limits.h"

namespace farwarp::transport {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

Deadline Soon() {
  return Deadline::After(std::chrono::seconds(10));
}
Deadline Shortly() {
  return Deadline::After(std::chrono::milliseconds(50));
}

FrameHeader Header(FrameKind kind, std::size_t bytes, std::uint64_t sequence = 0) {
  return {kind, 0, 0, static_cast<std::uint32_t>(bytes), sequence, 0};
}

std::vector<std::byte> Pattern(std::size_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> data(bytes);
  for (std::byte& b : data) b = static_cast<std::byte>(random());
  return data;
}

using Pair = std::pair<std::unique_ptr<SocketChannel>, std::unique_ptr<SocketChannel>>;

Pair MakeTcpPair() {
  auto listener = ListenTcp("127.0.0.1:0");
  EXPECT_TRUE(listener.ok()) << listener.status().ToString();
  auto client = ConnectTcp(listener->second, Soon());
  EXPECT_TRUE(client.ok()) << client.status().ToString();
  UniqueFd server(::accept4(listener->first.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(server.valid());
  return {std::make_unique<SocketChannel>(std::move(*client)),
          std::make_unique<SocketChannel>(std::move(server))};
}

class Channels : public testing::TestWithParam<Pair (*)()> {
 protected:
  Pair pair_ = GetParam()();
  Channel& left() { return *pair_.first; }
  Channel& right() { return *pair_.second; }
};

TEST_P(Channels, CarryFramesOfAllSizesInOrder) {
  const std::size_t sizes[] = {0, 8, 24, 65536, 65544, wire::kBulkChunkBytes, wire::kMaxFrameBytes};
  std::thread sender([&] {
    std::uint64_t sequence = 0;
    for (const std::size_t size : sizes) {
      const auto data = Pattern(size, size);
      const std::span<const std::byte> all(data);
      const std::size_t half = size / 16 * 8;
      ++sequence;
      EXPECT_TRUE(left()
                      .Send(Header(FrameKind::kBulk, size, sequence), all.first(half),
                            all.subspan(half), Soon())
                      .ok());
    }
  });
  std::mt19937_64 random(5);
  std::uint64_t sequence = 0;
  for (const std::size_t size : sizes) {
    auto header = right().ReceiveHeader(Soon());
    ASSERT_TRUE(header.ok()) << header.status().ToString();
    EXPECT_EQ(header->bytes, size);
    EXPECT_EQ(header->sequence, ++sequence);
    // In as many steps as the reader likes.
    std::vector<std::byte> data(size);
    for (std::size_t at = 0; at < size;) {
      const std::size_t step = std::min<std::size_t>(size - at, 1 + random() % 100000);
      ASSERT_TRUE(right().ReceivePayload({data.data() + at, step}, Soon()).ok());
      at += step;
    }
    EXPECT_EQ(data, Pattern(size, size));
  }
  sender.join();
}

TEST_P(Channels, AQuietPeerIsATimeoutAfterWhichReceivingGoesOn) {
  EXPECT_EQ(right().ReceiveHeader(Shortly()).status().code(), StatusCode::kTimeout);
  ASSERT_TRUE(left().Send(Header(FrameKind::kPing, 0), {}, {}, Soon()).ok());
  const auto header = right().ReceiveHeader(Soon());
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->kind, FrameKind::kPing);
}

// A slow link may cut a header anywhere: what has come is kept for the next attempt.
TEST_P(Channels, AQuietPeerMayGoOnInTheMiddleOfAHeader) {
  const FrameHeader ping = Header(FrameKind::kPing, 0);
  std::array<std::byte, 2 * sizeof ping> both;
  std::memcpy(both.data(), &ping, sizeof ping);
  std::memcpy(both.data() + sizeof ping, &ping, sizeof ping);
  const int fd = pair_.first->fd();
  // All of the first and seven bytes of the second.
  constexpr std::size_t kFirst = sizeof ping + 7;
  ASSERT_EQ(::send(fd, both.data(), kFirst, 0), static_cast<ssize_t>(kFirst));
  EXPECT_TRUE(right().ReceiveHeader(Soon()).ok());
  EXPECT_EQ(right().ReceiveHeader(Shortly()).status().code(), StatusCode::kTimeout);
  ASSERT_EQ(::send(fd, both.data() + kFirst, 5, 0), 5);
  EXPECT_EQ(right().ReceiveHeader(Shortly()).status().code(), StatusCode::kTimeout);
  constexpr std::size_t kRest = sizeof both - kFirst - 5;
  ASSERT_EQ(::send(fd, both.data() + kFirst + 5, kRest, 0), static_cast<ssize_t>(kRest));
  const auto header = right().ReceiveHeader(Soon());
  ASSERT_TRUE(header.ok()) << header.status().ToString();
  EXPECT_EQ(header->kind, FrameKind::kPing);
}

TEST_P(Channels, AReaderThatStopsEndsTheSendersPatience) {
  const auto data = Pattern(wire::kBulkChunkBytes, 1);
  Status status;
  const Deadline deadline = Deadline::After(std::chrono::milliseconds(200));
  for (int i = 0; i < 10000 && status.ok(); ++i) {
    status = left().Send(Header(FrameKind::kBulk, data.size()), data, {}, deadline);
  }
  EXPECT_EQ(status.code(), StatusCode::kTimeout);
}

TEST_P(Channels, ShutdownEndsAWaitInAnotherThread) {
  std::thread closer([&] { right().Shutdown(); });
  EXPECT_EQ(right().ReceiveHeader(Soon()).status().code(), StatusCode::kClosed);
  closer.join();
  EXPECT_EQ(left().ReceiveHeader(Soon()).status().code(), StatusCode::kClosed);
}

TEST_P(Channels, CountBytesAndSystemCalls) {
  const auto data = Pattern(64, 1);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(left().Send(Header(FrameKind::kCommands, 64), data, {}, Soon()).ok());
  }
  EXPECT_EQ(left().counts().bytes_sent, 3u * (24 + 64));
  EXPECT_EQ(left().counts().send_calls, 3u);
  std::vector<std::byte> got(64);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(right().ReceiveHeader(Soon()).ok());
    ASSERT_TRUE(right().ReceivePayload(got, Soon()).ok());
  }
  EXPECT_EQ(right().counts().bytes_received, 3u * (24 + 64));
  // Read ahead: not one call for each header and each payload.
  EXPECT_LE(right().counts().receive_calls, 6u);
}

INSTANTIATE_TEST_SUITE_P(Sockets, Channels, testing::Values(&MakeChannelPair, &MakeTcpPair));

TEST(Channel, HeadersThatBreakARuleAreRefused) {
  const auto limit = static_cast<std::uint32_t>(wire::kMaxFrameBytes);
  const FrameHeader bad[] = {
      {static_cast<FrameKind>(0), 0, 0, 0, 0, 0},
      {static_cast<FrameKind>(13), 0, 0, 0, 0, 0},
      {FrameKind::kPing, 1, 0, 0, 0, 0},
      {FrameKind::kPing, 0, 1, 0, 0, 0},
      {FrameKind::kCommands, 0, 0, 12, 1, 0},
      {FrameKind::kCommands, 0, 0, limit + 8, 1, 0},
      {FrameKind::kBulk, 0, 0, ~std::uint32_t{0}, 1, 0},
      {FrameKind::kHello, 0, 0, static_cast<std::uint32_t>(wire::kMaxHandshakeBytes) + 8, 0, 0},
  };
  for (const FrameHeader& header : bad) {
    EXPECT_EQ(CheckHeader(header).code(), StatusCode::kInvalid)
        << static_cast<int>(header.kind) << " " << header.bytes;
    auto [left, right] = MakeChannelPair();
    ASSERT_EQ(::send(left->fd(), &header, sizeof header, 0), 24);
    EXPECT_EQ(right->ReceiveHeader(Soon()).status().code(), StatusCode::kInvalid);
  }
  EXPECT_TRUE(CheckHeader({FrameKind::kBulk, 0, 0, 17, 1, 0}).ok());
}

TEST(Channel, ExactReadingLeavesTheNextFrameInTheSocket) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  SocketChannel sender{UniqueFd(ends[0])};
  SocketChannel gate(UniqueFd(ends[1]), SocketChannel::Reading::kExact);
  const auto data = Pattern(8, 1);
  ASSERT_TRUE(sender.Send(Header(FrameKind::kProof, 8), data, {}, Soon()).ok());
  ASSERT_TRUE(sender.Send(Header(FrameKind::kCommands, 8, 1), data, {}, Soon()).ok());
  std::vector<std::byte> got(8);
  ASSERT_TRUE(gate.ReceiveHeader(Soon()).ok());
  ASSERT_TRUE(gate.ReceivePayload(got, Soon()).ok());
  SocketChannel worker(gate.Release());
  const auto header = worker.ReceiveHeader(Soon());
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->kind, FrameKind::kCommands);
}

TEST(Tcp, EndpointsThatCannotWorkAreSentences) {
  for (const char* endpoint : {"", "host", "host:", "127.0.0.1:notaport"}) {
    const auto result = ConnectTcp(endpoint, Soon());
    EXPECT_FALSE(result.ok());
    EXPECT_FALSE(result.status().message().empty());
  }
  // A port that was free a moment ago.
  std::string endpoint;
  {
    auto listener = ListenTcp("127.0.0.1:0");
    ASSERT_TRUE(listener.ok());
    endpoint = listener->second;
  }
  const auto refused = ConnectTcp(endpoint, Soon());
  EXPECT_EQ(refused.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.status().message().find(endpoint), std::string::npos);
}

TEST(Faults, FollowThePlanAndItsSeed) {
  const auto run = [](std::uint64_t seed) {
    auto [left, right] = MakeChannelPair();
    FaultPlan plan;
    plan.seed = seed;
    plan.corrupt_frame = 1;
    plan.cut_after_frames = 3;
    FaultyChannel faulty(std::move(left), plan);
    const std::vector<std::byte> zeros(64);
    std::vector<std::vector<std::byte>> arrived;
    for (std::uint64_t i = 0; i < 5; ++i) {
      const Status status = faulty.Send(Header(FrameKind::kCommands, 64, i), zeros, {}, Soon());
      EXPECT_EQ(status.ok(), i < 3);
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(right->ReceiveHeader(Soon()).ok());
      arrived.emplace_back(64);
      EXPECT_TRUE(right->ReceivePayload(arrived.back(), Soon()).ok());
    }
    EXPECT_EQ(right->ReceiveHeader(Soon()).status().code(), StatusCode::kClosed);
    EXPECT_EQ(arrived[0], zeros);
    EXPECT_NE(arrived[1], zeros);
    EXPECT_EQ(arrived[2], zeros);
    return arrived;
  };
  EXPECT_EQ(run(3), run(3));
  EXPECT_NE(run(3), run(4));
}

TEST(Faults, SwallowedFramesVanishWithoutAWord) {
  auto [left, right] = MakeChannelPair();
  FaultPlan plan;
  plan.swallow_after_frames = 1;
  FaultyChannel faulty(std::move(left), plan);
  EXPECT_TRUE(faulty.Send(Header(FrameKind::kPing, 0), {}, {}, Soon()).ok());
  EXPECT_TRUE(faulty.Send(Header(FrameKind::kPing, 0), {}, {}, Soon()).ok());
  EXPECT_TRUE(right->ReceiveHeader(Soon()).ok());
  EXPECT_EQ(right->ReceiveHeader(Shortly()).status().code(), StatusCode::kTimeout);
}

TEST(Order, OnlyGoodbyeMayTakeAnAcknowledgementBack) {
  // The daemon says goodbye in a dead worker's place and knows of no frame.
  EXPECT_TRUE(CheckOrder({wire::FrameKind::kGoodbye, 0, 0, 16, 0, 0}, {7, 3, 9}).ok());
  EXPECT_FALSE(CheckOrder({wire::FrameKind::kAck, 0, 0, 0, 0, 0}, {7, 3, 9}).ok());
  EXPECT_FALSE(CheckOrder({wire::FrameKind::kGoodbye, 0, 0, 16, 8, 0}, {7, 3, 9}).ok());
}

}  // namespace
}  // namespace farwarp::transport
