// Frames that break a rule of the protocol: the server's session ends with a reason and leaves
// nothing behind.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/limits.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "tests/remoting/fake_driver.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

using wire::FrameKind;

struct Bad {
  const char* what;
  wire::FrameHeader header;
  std::vector<std::uint64_t> words;
};

class Hostile : public testing::TestWithParam<Bad> {};

TEST_P(Hostile, EndsItsOwnSessionAndNothingElse) {
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
  {
    server::Session session(std::move(server_end), options);
    wire::Hello hello;
    hello.windows = {{kTestWindow, std::uint64_t{1} << 38}};
    ASSERT_TRUE(session.Start(hello).ok());
    const auto& [what, header, words] = GetParam();
    // Past its own checks: the header as it is.
    ASSERT_TRUE(client_end
                    ->Send(header, std::as_bytes(std::span(words)), {},
                           Deadline::After(std::chrono::seconds(5)))
                    .ok());
    EXPECT_FALSE(session.Run().ok()) << what;
  }
  EXPECT_EQ(driver.physical_bytes(), 0u);
  EXPECT_EQ(quota->Used(0), 0u);
}

constexpr std::uint64_t kSynchronize = 0x10015;

INSTANTIATE_TEST_SUITE_P(
    Rules, Hostile,
    testing::Values(Bad{"a second hello", {FrameKind::kHello, 0, 0, 0, 0, 0}, {}},
                    Bad{"a server's kind", {FrameKind::kReplies, 0, 0, 0, 1, 0}, {}},
                    Bad{"an unknown kind", {static_cast<FrameKind>(99), 0, 0, 0, 0, 0}, {}},
                    Bad{"reserved bits", {FrameKind::kPing, 1, 0, 0, 0, 0}, {}},
                    Bad{"a gap in the sequence", {FrameKind::kCommands, 0, 0, 0, 2, 0}, {}},
                    Bad{"commands without a number", {FrameKind::kCommands, 0, 0, 0, 0, 0}, {}},
                    Bad{"a number on a ping", {FrameKind::kPing, 0, 0, 0, 1, 0}, {}},
                    Bad{"an acknowledgement of nothing", {FrameKind::kPing, 0, 0, 0, 0, 1}, {}},
                    Bad{"half a command", {FrameKind::kCommands, 0, 0, 8, 1, 0}, {kSynchronize}},
                    Bad{"a command longer than its frame",
                        {FrameKind::kCommands, 0, 0, 16, 1, 0},
                        {kSynchronize | std::uint64_t{8} << 32, 1}},
                    Bad{"a command of no whole words",
                        {FrameKind::kCommands, 0, 0, 24, 1, 0},
                        {kSynchronize | std::uint64_t{3} << 32, 1, 0}},
                    Bad{"bulk without a header", {FrameKind::kBulk, 0, 0, 8, 1, 0}, {1}},
                    Bad{"bulk that does not begin at its beginning",
                        {FrameKind::kBulk, 0, 0, 24, 1, 0},
                        {1, 8, 0}},
                    Bad{"a frame over the limit",
                        {FrameKind::kCommands, 0, 0,
                         static_cast<std::uint32_t>(wire::kMaxFrameBytes) + 8, 1, 0},
                        {}}));

}  // namespace
}  // namespace farwarp::tests
