// A program that is stopped is not dead: what channels make of silence, on either side of it.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "farwarp/transport/faulty_channel.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/limits.h"
#include "proto/transport/patience.h"

namespace farwarp::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::FrameHeader;
using wire::FrameKind;

constexpr milliseconds kShort{100};
constexpr milliseconds kLong{600};  // Several times kShort.

Deadline Soon() {
  return Deadline::After(seconds(20));
}

FrameHeader BulkOf(std::size_t bytes) {
  return {FrameKind::kBulk, 0, 0, static_cast<std::uint32_t>(bytes), 1, 0};
}

struct Ends {
  std::unique_ptr<SocketChannel> client;
  std::unique_ptr<SocketChannel> server;
};

Ends MakeTcpEnds(milliseconds tolerated) {
  auto listener = ListenTcp("127.0.0.1:0");
  EXPECT_TRUE(listener.ok()) << listener.status().ToString();
  auto client = ConnectTcp(listener->second, Soon());
  EXPECT_TRUE(client.ok()) << client.status().ToString();
  UniqueFd server(::accept4(listener->first.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(server.valid());
  Ends ends{std::make_unique<SocketChannel>(std::move(*client)),
            std::make_unique<SocketChannel>(std::move(server))};
  if (tolerated != tolerated.zero()) ends.server->TolerateSilence(tolerated);
  return ends;
}

// Receives the payload of a frame that stops after its first half; what `meanwhile` does to the
// sender comes after the receiver's deadline is over.
Status ReceiveHalted(Ends& ends, const std::function<void()>& meanwhile) {
  const std::vector<std::byte> half(std::size_t{1} << 20, std::byte{3});
  std::vector<std::byte> all(2 * half.size());
  const FrameHeader header = BulkOf(all.size());
  EXPECT_EQ(::send(ends.client->fd(), &header, sizeof header, 0), 24);
  EXPECT_TRUE(ends.server->ReceiveHeader(Soon()).ok());
  auto received = std::async(std::launch::async, [&] {
    return ends.server->ReceivePayload(all, Deadline::After(kShort));
  });
  const auto send = [&] {
    return ::send(ends.client->fd(), half.data(), half.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(half.size());
  };
  EXPECT_TRUE(send());
  if (received.wait_for(kLong) == std::future_status::timeout) {
    meanwhile();
    send();
  }
  return received.get();
}

TEST(Pause, AFrameThatHaltsInTheMiddleIsWaitedForWhileTheHostAnswers) {
  Ends ends = MakeTcpEnds(seconds(60));
  const Status status = ReceiveHalted(ends, [] {});
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(Pause, WithoutToleranceOrEvidenceTheDeadlineIsAll) {
  Ends tcp = MakeTcpEnds(milliseconds(0));
  EXPECT_FALSE(ReceiveHalted(tcp, [] {}).ok());
  auto [left, right] = MakeChannelPair();
  right->TolerateSilence(seconds(60));
  EXPECT_FALSE(right->HostAnswers(seconds(60)));
  Ends local{std::move(left), std::move(right)};
  EXPECT_FALSE(ReceiveHalted(local, [] {}).ok());
}

TEST(Pause, ToleranceEnds) {
  Ends ends = MakeTcpEnds(kShort);
  EXPECT_FALSE(ReceiveHalted(ends, [] {}).ok());
}

TEST(Pause, APeerThatDiesWhileItIsWaitedForIsFoundAtOnce) {
  Ends ends = MakeTcpEnds(seconds(60));
  const auto begin = Deadline::Clock::now();
  EXPECT_EQ(ReceiveHalted(ends, [&] { ends.client->Shutdown(); }).code(), StatusCode::kClosed);
  EXPECT_LT(Deadline::Clock::now() - begin, seconds(5));
}

TEST(Pause, APeerThatTakesNothingIsWaitedForWhileItsHostAnswers) {
  Ends ends = MakeTcpEnds(seconds(60));
  const std::vector<std::byte> data(wire::kBulkChunkBytes);
  constexpr int kFrames = 64;
  auto sent = std::async(std::launch::async, [&] {
    Status status;
    for (int i = 0; i < kFrames && status.ok(); ++i) {
      status = ends.server->Send(BulkOf(data.size()), data, {}, Deadline::After(kShort));
    }
    return status;
  });
  ASSERT_EQ(sent.wait_for(kLong), std::future_status::timeout);
  std::vector<std::byte> got(data.size());
  for (int i = 0; i < kFrames; ++i) {
    ASSERT_TRUE(ends.client->ReceiveHeader(Soon()).ok());
    ASSERT_TRUE(ends.client->ReceivePayload(got, Soon()).ok());
  }
  const Status status = sent.get();
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(Pause, APeerThatTalksButTakesNothingIsNotStopped) {
  Ends ends = MakeTcpEnds(seconds(60));
  auto sent = std::async(std::launch::async, [&] {
    const std::vector<std::byte> data(wire::kBulkChunkBytes);
    Status status;
    while (status.ok()) {
      status = ends.server->Send(BulkOf(data.size()), data, {}, Deadline::After(kLong));
    }
    return status;
  });
  const Deadline deadline = Soon();
  while (sent.wait_for(milliseconds(20)) == std::future_status::timeout && !deadline.expired()) {
    ASSERT_TRUE(ends.client->Send({FrameKind::kPing, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok());
  }
  EXPECT_EQ(sent.get().code(), StatusCode::kTimeout);
  EXPECT_FALSE(deadline.expired());
}

TEST(Pause, AHostAnswersForAProgramThatReadsNothing) {
  Ends ends = MakeTcpEnds(seconds(60));
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(ends.server->Send({FrameKind::kPing, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok());
    EXPECT_EQ(ends.server->ReceiveHeader(Deadline::After(milliseconds(20))).status().code(),
              StatusCode::kTimeout);
    EXPECT_TRUE(ends.server->HostAnswers(seconds(1)));
  }
  // What hides the link hides what the kernel knows of it.
  const FaultyChannel faulty(std::move(ends.server), {});
  EXPECT_FALSE(faulty.HostAnswers(seconds(60)));
}

bool SetLoopback(bool up) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  if (::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return false;
  request.ifr_flags =
      static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

constexpr int kNoNetworkOfItsOwn = 77;

// Asks the client's host for signs of life through a link that is taken away; returns 0 if they end
// in time. In a process and a network of its own.
int CutLink(bool window_closed) {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 || !SetLoopback(true)) return kNoNetworkOfItsOwn;
  Ends ends = MakeTcpEnds(seconds(60));
  const auto ask = [&] {
    return ends.server->Send({FrameKind::kPing, 0, 0, 0, 0, 0}, {}, {}, Deadline::After(kShort))
        .ok();
  };
  if (window_closed) {
    const std::vector<std::byte> some(std::size_t{1} << 20);
    while (::send(ends.server->fd(), some.data(), some.size(), MSG_DONTWAIT) > 0 ||
           ends.server->ReceiveHeader(Deadline::After(kShort)).ok() ||
           ::send(ends.server->fd(), some.data(), some.size(), MSG_DONTWAIT) > 0) {
    }
  }
  for (int i = 0; i < 10; ++i) {
    if (!window_closed && !ask()) return 1;
    static_cast<void>(ends.server->ReceiveHeader(Deadline::After(kShort)));
    if (!ends.server->HostAnswers(milliseconds(500))) return 2;
  }
  if (!SetLoopback(false)) return kNoNetworkOfItsOwn;
  const Deadline deadline = Deadline::After(seconds(10));
  while (ends.server->HostAnswers(milliseconds(500))) {
    if (deadline.expired()) return 3;
    if (!window_closed) static_cast<void>(ask());
    static_cast<void>(ends.server->ReceiveHeader(Deadline::After(kShort)));
  }
  return 0;
}

class Link : public testing::TestWithParam<bool> {};

TEST_P(Link, ThatIsCutIsNoStoppedProgram) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(CutLink(GetParam()));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoNetworkOfItsOwn) GTEST_SKIP() << "no network namespace here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

INSTANTIATE_TEST_SUITE_P(Windows, Link, testing::Bool());

// As in the table of processes; '?' if there is none.
char StateOf(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(") ");
  return name_end == std::string::npos ? '?' : line[name_end + 2];
}

// A process that is stopped beyond its deadline, and goes on before its peer does.
TEST(Pause, WhoWasStoppedItselfReadsBeforeItJudges) {
  auto [left, right] = MakeChannelPair();
  const pid_t reader = ::fork();
  ASSERT_GE(reader, 0);
  if (reader == 0) {
    const bool ready = right->Send({FrameKind::kPing, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok();
    const auto header = right->ReceiveHeader(Deadline::After(seconds(2)));
    if (!ready) ::_exit(2);
    ::_exit(header.ok() ? 0 : 1);
  }
  const auto wait_until = [&](auto done, milliseconds time) {
    std::promise<void> never;
    auto tick = never.get_future();
    for (const Deadline deadline = Deadline::After(time); !deadline.expired();) {
      if (done()) return true;
      static_cast<void>(tick.wait_for(milliseconds(5)));
    }
    return false;
  };
  ASSERT_TRUE(left->ReceiveHeader(Soon()).ok());
  ASSERT_TRUE(wait_until([&] { return StateOf(reader) == 'S'; }, seconds(10))) << "not waiting";
  ASSERT_EQ(::kill(reader, SIGSTOP), 0);
  int status = 0;
  ASSERT_TRUE(wait_until([&] { return ::waitpid(reader, &status, WNOHANG | WUNTRACED) == reader; },
                         seconds(10)));
  ASSERT_TRUE(WIFSTOPPED(status));
  // It stays stopped, and has nothing to read when it goes on.
  EXPECT_FALSE(wait_until([&] { return ::waitpid(reader, &status, WNOHANG) != 0; }, seconds(3)));
  ASSERT_EQ(::kill(reader, SIGCONT), 0);
  EXPECT_FALSE(
      wait_until([&] { return ::waitpid(reader, &status, WNOHANG) != 0; }, milliseconds(200)))
      << "it judged by time that it had slept through";
  EXPECT_TRUE(left->Send({FrameKind::kPing, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok());
  ASSERT_EQ(::waitpid(reader, &status, 0), reader);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Patience, CountsOnlyTimeInWhichTheThreadCouldRun) {
  Patience patience(Deadline::After(seconds(3)));
  auto now = Patience::Clock::now();
  for (int i = 0; i < 4; ++i) patience.LookAt(now += Patience::kSlice);
  EXPECT_EQ(patience.next_wait_ms(), 500);
  patience.LookAt(now += seconds(100));
  EXPECT_GT(patience.next_wait_ms(), 0);
  for (int i = 0; i < 2; ++i) patience.LookAt(now += Patience::kSlice);
  EXPECT_EQ(patience.next_wait_ms(), 0);
}

TEST(Patience, GivesAPeerThatComesBackItsTimeAgain) {
  Patience patience(Deadline::After(seconds(10)), true);
  auto now = Patience::Clock::now();
  const auto pass = [&](seconds time) {
    for (const auto end = now + time; now < end;) patience.LookAt(now += Patience::kSlice);
  };
  pass(seconds(10));
  ASSERT_TRUE(patience.Prolong(seconds(8), seconds(600)));  // Stopped.
  pass(seconds(100));
  ASSERT_TRUE(patience.Prolong(seconds(0), seconds(600)));  // Here again,
  pass(seconds(9));
  EXPECT_GT(patience.next_wait_ms(), 0);
  pass(seconds(2));
  EXPECT_EQ(patience.next_wait_ms(), 0);
  EXPECT_FALSE(patience.Prolong(seconds(0), seconds(600)));  // and idle.
  EXPECT_FALSE(patience.Prolong(seconds(600), seconds(600)));
}

}  // namespace
}  // namespace farwarp::transport
