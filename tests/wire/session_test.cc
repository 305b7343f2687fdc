// The client's session against a server that follows a script: exact counts, order, errors, and
// every way in which a server can go wrong. Nothing hangs: a call that did would end in the
// test's time limit.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <new>

#include "farwarp/base/thread_annotations.h"
#include "farwarp/transport/faulty_channel.h"
#include "farwarp/wire/push.h"
#include "tests/wire/scripted_server.h"

namespace farwarp::tests {
namespace {

using wire::FrameKind;

std::uint64_t NumberOf(const SentCommand& command) {
  wire::Decoder decoder(command.body);
  return decoder.Get<std::uint64_t>();
}

// Answers calls with success until the client goes.
void Serve(ScriptedServer& server) {
  for (auto commands = server.Receive(); !commands.empty(); commands = server.Receive()) {
    for (const SentCommand& command : commands) {
      if (command.ticket != 0) server.Reply(command.ticket, CUDA_SUCCESS);
    }
  }
}

// A call that the server answers after `before`.
CUresult CallAfter(ScriptedServer& server, const std::function<void()>& before) {
  auto call = std::async(std::launch::async, [&] { return CallOnce(server.client()); });
  const auto commands = server.Receive();
  before();
  if (!commands.empty()) server.Reply(commands.back().ticket, CUDA_SUCCESS);
  return call.get();
}

TEST(Session, PostsArriveInOrderAndCostNoRoundTrip) {
  ScriptedServer server;
  constexpr std::uint64_t kPosts = 20000;
  auto post = std::async(std::launch::async, [&] {
    for (std::uint64_t i = 0; i < kPosts; ++i) {
      if (PostNumber(server.client(), i) != CUDA_SUCCESS) return false;
    }
    return true;
  });
  const auto commands = server.Receive(kPosts);
  EXPECT_TRUE(post.get());
  ASSERT_EQ(commands.size(), kPosts);
  for (std::uint64_t i = 0; i < kPosts; ++i) ASSERT_EQ(NumberOf(commands[i]), i);
  const auto statistics = server.client().statistics();
  EXPECT_EQ(statistics.calls, kPosts);
  EXPECT_EQ(statistics.round_trips, 2u);  // The handshake's.
  EXPECT_LE(statistics.send_calls, kPosts / 2) << "posts must leave in batches";
}

TEST(Session, ACallIsOneRoundTripAndOneSend) {
  ScriptedServer server;
  const auto before = server.client().statistics();
  EXPECT_EQ(CallAfter(server, [] {}), CUDA_SUCCESS);
  const auto after = server.client().statistics();
  EXPECT_EQ(after.round_trips - before.round_trips, 1u);
  EXPECT_EQ(after.send_calls - before.send_calls, 1u);
  EXPECT_EQ(after.bytes_sent - before.bytes_sent, 24u + 16u);
}

TEST(Session, WorkHandedOnThroughALockArrivesInThatOrder) {
  ScriptedServer server;
  constexpr int kThreads = 4;
  constexpr std::uint64_t kEach = 2000;
  Mutex mutex;
  std::uint64_t next = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        const MutexLock lock(mutex);
        EXPECT_EQ(PostNumber(server.client(), next++), CUDA_SUCCESS);
      }
    });
  }
  const auto commands = server.Receive(kThreads * kEach);
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(commands.size(), kThreads * kEach);
  for (std::uint64_t i = 0; i < commands.size(); ++i) ASSERT_EQ(NumberOf(commands[i]), i);
}

TEST(Session, AnAsynchronousErrorIsReportedOnceByTheNextWaitThatWentWell) {
  ScriptedServer server;
  // A call has its own result, or its caller would not know whether it was done.
  EXPECT_EQ(CallAfter(server, [&] { server.PushError(0, CUDA_ERROR_INVALID_VALUE); }),
            CUDA_SUCCESS);
  EXPECT_EQ(server.client().AfterWait(CUDA_ERROR_NOT_READY), CUDA_ERROR_NOT_READY);
  EXPECT_EQ(server.client().AfterWait(CUDA_SUCCESS), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(server.client().AfterWait(CUDA_SUCCESS), CUDA_SUCCESS);
}

TEST(Session, AFailedContextFailsEveryCallInItAndNoOther) {
  ScriptedServer server;
  EXPECT_EQ(CallAfter(server,
                      [&] {
                        server.PushError(0, CUDA_ERROR_ILLEGAL_ADDRESS);
                        server.PushError(77, CUDA_ERROR_LAUNCH_FAILED);
                      }),
            CUDA_SUCCESS);  // It had been sent before the error came.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_EQ(PostNumber(server.client(), 1), CUDA_ERROR_ILLEGAL_ADDRESS);
  }
  client::SetCallingThreadContext(77);
  EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_LAUNCH_FAILED);
  client::SetCallingThreadContext(78);
  EXPECT_EQ(PostNumber(server.client(), 1), CUDA_SUCCESS);
  client::SetCallingThreadContext(0);
}

TEST(Session, CopiesLandInPlaceAndCancelledOnesAreDropped) {
  ScriptedServer server;
  std::vector<std::byte> wanted(4096), cancelled(4096);
  const std::vector<std::byte> data(4096, std::byte{0x5a});
  const auto first = server.client().ExpectTransfer(wanted.data(), wanted.size());
  const auto second = server.client().ExpectTransfer(cancelled.data(), cancelled.size());
  server.client().CancelTransfer(second);
  EXPECT_EQ(CallAfter(server,
                      [&] {
                        server.Bulk(second, 0, data);
                        server.Bulk(first, 0, std::span(data).first(1000));
                        server.Bulk(first, 1000, std::span(data).subspan(1000));
                        server.Bulk(12345, 0, data);
                      }),
            CUDA_SUCCESS);
  EXPECT_EQ(wanted, data);
  EXPECT_EQ(cancelled, std::vector<std::byte>(4096));
  EXPECT_FALSE(server.client().TransferPending(first));
}

TEST(Session, AttachedMemoryLeavesBeforeTheCommandThatNamesIt) {
  ScriptedServer server;
  const std::vector<std::byte> data(3 * wire::kBulkChunkBytes / 2, std::byte{7});
  auto post = std::async(std::launch::async, [&] {
    client::Command command(server.client(), 7);
    const auto transfer = server.client().NewTransfer();
    command.body().Put(transfer);
    command.AttachBulk(transfer, data.data(), data.size());
    return command.Post();
  });
  std::size_t bytes = 0;
  for (;;) {
    auto header = server.channel().ReceiveHeader(Soon());
    ASSERT_TRUE(header.ok());
    std::vector<std::byte> payload(header->bytes);
    ASSERT_TRUE(server.channel().ReceivePayload(payload, Soon()).ok());
    if (header->kind == FrameKind::kCommands) break;
    ASSERT_EQ(header->kind, FrameKind::kBulk);
    bytes += header->bytes - sizeof(wire::BulkHeader);
  }
  EXPECT_EQ(bytes, data.size());
  EXPECT_EQ(post.get(), CUDA_SUCCESS);
}

TEST(Session, ACutLinkFreesAllThatWait) {
  ScriptedServer server;
  std::vector<std::future<CUresult>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::async(std::launch::async, [&] { return CallOnce(server.client()); }));
  }
  EXPECT_EQ(server.Receive(8).size(), 8u);
  server.channel().Shutdown();
  for (auto& call : calls) {
    ASSERT_EQ(call.wait_for(std::chrono::seconds(1)), std::future_status::ready);
    EXPECT_EQ(call.get(), CUDA_ERROR_DEVICE_UNAVAILABLE);
  }
  EXPECT_EQ(PostNumber(server.client(), 1), CUDA_ERROR_DEVICE_UNAVAILABLE);
  EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST(Session, ASilentServerIsFoundDead) {
  ScriptedServer server(20);
  EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST(Session, AnIdleServerThatAnswersPingsIsAlive) {
  ScriptedServer server(20);
  int pings = 0;
  while (pings < 6) {
    auto header = server.channel().ReceiveHeader(Soon());
    ASSERT_TRUE(header.ok());
    ASSERT_EQ(header->kind, FrameKind::kPing);
    server.SendFrame(FrameKind::kAck, {});
    ++pings;
  }
  EXPECT_EQ(server.client().error(), CUDA_SUCCESS);
}

// A channel whose sends wait for a gate, and which counts what leaves of attached memory.
class GatedChannel : public transport::Channel {
 public:
  struct Gate {
    Mutex mutex;
    CondVar changed;
    bool closed = false;
    bool waiting = false;
    int attached = 0;
  };
  GatedChannel(std::unique_ptr<Channel> inner, Gate& gate)
      : inner_(std::move(inner)), gate_(gate) {}
  Status Send(const wire::FrameHeader& header, std::span<const std::byte> first,
              std::span<const std::byte> second, Deadline deadline) override {
    {
      const MutexLock lock(gate_.mutex);
      if (!second.empty()) ++gate_.attached;
      gate_.waiting = true;
      gate_.changed.NotifyAll();
      while (gate_.closed) gate_.changed.Wait(gate_.mutex);
    }
    return inner_->Send(header, first, second, deadline);
  }
  Result<wire::FrameHeader> ReceiveHeader(Deadline deadline) override {
    return inner_->ReceiveHeader(deadline);
  }
  Status ReceivePayload(std::span<std::byte> to, Deadline deadline) override {
    return inner_->ReceivePayload(to, deadline);
  }
  void Shutdown() noexcept override { inner_->Shutdown(); }
  transport::ChannelCounts counts() const noexcept override { return inner_->counts(); }

 private:
  const std::unique_ptr<Channel> inner_;
  Gate& gate_;
};

// A channel that runs out of memory when it is to send.
class ExhaustedChannel : public transport::Channel {
 public:
  ExhaustedChannel(std::unique_ptr<Channel> inner, const std::atomic<bool>& exhausted)
      : inner_(std::move(inner)), exhausted_(exhausted) {}
  Status Send(const wire::FrameHeader& header, std::span<const std::byte> first,
              std::span<const std::byte> second, Deadline deadline) override {
    if (exhausted_.load()) throw std::bad_alloc();
    return inner_->Send(header, first, second, deadline);
  }
  Result<wire::FrameHeader> ReceiveHeader(Deadline deadline) override {
    return inner_->ReceiveHeader(deadline);
  }
  Status ReceivePayload(std::span<std::byte> to, Deadline deadline) override {
    return inner_->ReceivePayload(to, deadline);
  }
  void Shutdown() noexcept override { inner_->Shutdown(); }
  transport::ChannelCounts counts() const noexcept override { return inner_->counts(); }

 private:
  const std::unique_ptr<Channel> inner_;
  const std::atomic<bool>& exhausted_;
};

TEST(Session, WantOfMemoryWhileSendingIsAnErrorAndNotTheEndOfTheProcess) {
  std::atomic<bool> exhausted{false};
  ScriptedServer server(1000, [&](auto inner) {
    return std::make_unique<ExhaustedChannel>(std::move(inner), exhausted);
  });
  exhausted.store(true);
  EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(PostNumber(server.client(), 1), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST(Session, AttachedMemoryIsNotTouchedAfterTheEnd) {
  GatedChannel::Gate gate;
  ScriptedServer server(
      1000, [&](auto inner) { return std::make_unique<GatedChannel>(std::move(inner), gate); });
  {
    const MutexLock lock(gate.mutex);
    gate.closed = true;
    gate.waiting = false;
  }
  auto sender = std::async(std::launch::async, [&] { return CallOnce(server.client()); });
  {
    const MutexLock lock(gate.mutex);
    while (!gate.waiting) gate.changed.Wait(gate.mutex);
  }
  // Gathers behind the sender, who stands at the gate.
  const auto before = server.client().statistics().calls;
  auto bulk = std::async(std::launch::async, [&] {
    const std::vector<std::byte> data(100000);
    client::Command command(server.client(), 7);
    command.AttachBulk(1, data.data(), data.size());
    return command.Post();
  });
  while (server.client().statistics().calls == before) std::this_thread::yield();
  server.channel().Shutdown();
  while (server.client().death() == CUDA_SUCCESS) std::this_thread::yield();
  {
    const MutexLock lock(gate.mutex);
    gate.closed = false;
    gate.changed.NotifyAll();
  }
  EXPECT_NE(sender.get(), CUDA_SUCCESS);
  EXPECT_NE(bulk.get(), CUDA_SUCCESS);
  server.client().Stop();
  const MutexLock lock(gate.mutex);
  EXPECT_EQ(gate.attached, 0);
}

TEST(Session, MemoryThatRunsOutInTheReceiverEndsTheSessionOnly) {
  client::Session::Options options;
  options.on_host_callback = [](std::uint64_t) { throw std::bad_alloc(); };
  ScriptedServer server(1000, {}, std::move(options));
  auto call = std::async(std::launch::async, [&] { return CallOnce(server.client()); });
  ASSERT_FALSE(server.Receive().empty());
  wire::Buffer payload;
  wire::Encoder encoder(payload);
  encoder.Put(wire::PushType::kHostCallback);
  encoder.Put(std::uint64_t{1});
  server.SendFrame(FrameKind::kPush, payload);
  EXPECT_EQ(call.get(), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(CallOnce(server.client()), CUDA_ERROR_OUT_OF_MEMORY);
}

// The time of an idle session is counted in heartbeats.
TEST(Session, NothingWakesUpWhenNothingIsToDo) {
  ScriptedServer server(400);
  EXPECT_EQ(CallAfter(server, [] {}), CUDA_SUCCESS);
  const auto before = server.client().statistics().flusher_wakes;
  constexpr std::uint64_t kPings = 2;
  for (std::uint64_t pings = 0; pings < kPings;) {
    const auto header = server.channel().ReceiveHeader(Soon());
    ASSERT_TRUE(header.ok());
    ASSERT_EQ(header->kind, FrameKind::kPing);
    ++pings;
    server.SendFrame(FrameKind::kAck, {});
  }
  EXPECT_LE(server.client().statistics().flusher_wakes - before, 2 * kPings);
}

TEST(Session, AFullStandardOutputStallsOnlyWhoWritesIt) {
  ScriptedServer server(1000);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::fflush(stdout);
  const int before = ::dup(STDOUT_FILENO);
  ASSERT_EQ(::dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
  ::close(ends[1]);
  const std::size_t kText = std::size_t{1} << 20;  // More than a pipe holds.
  wire::Buffer payload;
  wire::Encoder encoder(payload);
  encoder.Put(wire::PushType::kOutput);
  encoder.PutString(std::string(kText, 'x'));
  server.SendFrame(FrameKind::kPush, payload);
  server.SendFrame(FrameKind::kPing, {});
  const auto answer = server.channel().ReceiveHeader(Deadline::After(std::chrono::seconds(3)));
  const bool answered = answer.ok() && answer->kind == FrameKind::kAck;
  // Who has waited for the GPU has the text out when the call returns.
  auto read = std::async(std::launch::async, [&] {
    std::string text;
    char part[4096];
    while (text.size() < kText) {
      const ssize_t got = ::read(ends[0], part, sizeof part);
      if (got <= 0) break;
      text.append(part, static_cast<std::size_t>(got));
    }
    return text;
  });
  const CUresult result = CallAfter(server, [] {});
  ::dup2(before, STDOUT_FILENO);
  ::close(before);
  const std::string text = read.get();
  ::close(ends[0]);
  EXPECT_TRUE(answered);
  EXPECT_EQ(result, CUDA_SUCCESS);
  EXPECT_EQ(text, std::string(kText, 'x'));
}

TEST(Session, AFarewellSaysWhatTheErrorIs) {
  const std::pair<wire::RefusalCode, CUresult> cases[] = {
      {wire::RefusalCode::kWorkerDied, CUDA_ERROR_LAUNCH_FAILED},
      {wire::RefusalCode::kRevoked, CUDA_ERROR_DEVICE_UNAVAILABLE},
      {wire::RefusalCode::kMalformed, CUDA_ERROR_UNKNOWN}};
  for (const auto& [code, result] : cases) {
    ScriptedServer server;
    EXPECT_EQ(CallAfter(server,
                        [&, refusal = code] {
                          server.SendFrame(FrameKind::kGoodbye,
                                           wire::Farewell{refusal, "test"}.Encode());
                        }),
              result);
  }
}

TEST(Session, EveryBrokenRuleEndsIt) {
  std::byte memory[64];
  const wire::Buffer words(64);
  const std::function<void(ScriptedServer&)> rules[] = {
      [](auto& s) { s.Reply(4711, 0); },                                              // Not asked.
      [&](auto& s) { s.SendFrame(FrameKind::kReplies, std::span(words).first(8)); },  // Half.
      [&](auto& s) { s.SendFrame(FrameKind::kPush, words); },                         // No type 0.
      [&](auto& s) { s.SendFrame(FrameKind::kBulk, std::span(words).first(15)); },
      [&](auto& s) { s.SendFrame(FrameKind::kCommands, {}); },  // A client's kind.
      [&](auto& s) { s.SendFrame(FrameKind::kGoodbye, words); },
      [&](auto& s) { s.Bulk(s.client().ExpectTransfer(memory, 63), 0, words); },  // Too long.
      [&](auto& s) { s.Bulk(s.client().ExpectTransfer(memory, 64), 8, words); },  // A gap.
      [](auto& s) {  // A number is left out.
        EXPECT_TRUE(s.channel().Send({FrameKind::kPush, 0, 0, 0, 2, 0}, {}, {}, Soon()).ok());
      },
      [](auto& s) {  // A counted frame without a number.
        EXPECT_TRUE(s.channel().Send({FrameKind::kReplies, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok());
      },
      [](auto& s) {  // Acknowledges what was never sent.
        EXPECT_TRUE(s.channel().Send({FrameKind::kAck, 0, 0, 0, 0, 99}, {}, {}, Soon()).ok());
      },
      [](auto& s) {  // Takes an acknowledgement back.
        s.SendFrame(FrameKind::kAck, {});
        EXPECT_TRUE(s.channel().Send({FrameKind::kAck, 0, 0, 0, 0, 0}, {}, {}, Soon()).ok());
      },
      [](auto& s) {  // Reserved bits.
        EXPECT_TRUE(s.channel().Send({FrameKind::kAck, 4, 0, 0, 0, 0}, {}, {}, Soon()).ok());
      },
      [](auto& s) {  // Too large to be true; nothing is allocated for it.
        EXPECT_TRUE(
            s.channel().Send({FrameKind::kReplies, 0, 0, 0xfffffff8, 1, 0}, {}, {}, Soon()).ok());
      }};
  for (std::size_t i = 0; i < std::size(rules); ++i) {
    ScriptedServer server;
    auto call = std::async(std::launch::async, [&] { return CallOnce(server.client()); });
    ASSERT_EQ(server.Receive().size(), 1u);
    rules[i](server);
    EXPECT_EQ(call.get(), CUDA_ERROR_UNKNOWN) << "rule " << i;
    EXPECT_NE(server.client().error(), CUDA_SUCCESS) << "rule " << i;
  }
}

TEST(Session, WhateverTheLinkDoesCallsEndAndADeadSessionStaysDead) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    transport::FaultPlan plan;
    plan.seed = seed;
    plan.jitter = std::chrono::microseconds(random() % 200);
    const std::uint64_t when = 2 + random() % 20;  // After the handshake.
    (seed % 2 == 0 ? plan.cut_after_frames : plan.swallow_after_frames) = when;
    ScriptedServer server(20, [&](std::unique_ptr<transport::Channel> inner) {
      return std::make_unique<transport::FaultyChannel>(std::move(inner), plan);
    });
    std::thread serve([&] { Serve(server); });
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        bool dead = false;
        for (int i = 0; i < 60; ++i) {
          const CUresult result =
              i % 3 == t ? PostNumber(server.client(), 1) : CallOnce(server.client());
          EXPECT_FALSE(dead && result == CUDA_SUCCESS);
          dead = result != CUDA_SUCCESS;
        }
        EXPECT_TRUE(dead);
      });
    }
    for (std::thread& thread : threads) thread.join();
    server.client().Stop();
    serve.join();
  }
}

TEST(Connect, RefusalsAndSilenceAreSentencesInTime) {
  wire::Grant grant;
  grant.gpus.push_back({"nowhere:1", 0, 1, 100});
  client::Session::Options options;
  options.map_window = false;
  options.connect_timeout = std::chrono::milliseconds(100);
  {
    auto [client_end, server_end] = transport::MakeChannelPair();
    const auto session = client::Session::Connect(std::move(client_end), grant, options);
    EXPECT_EQ(session.status().code(), StatusCode::kTimeout);
  }
  {
    auto [client_end, server_end] = transport::MakeChannelPair();
    const auto refusal =
        wire::Farewell{wire::RefusalCode::kUnauthenticated, "no such lease"}.Encode();
    ASSERT_TRUE(
        server_end
            ->Send({FrameKind::kRefused, 0, 0, static_cast<std::uint32_t>(refusal.size()), 0, 0},
                   refusal, {}, Soon())
            .ok());
    const auto session = client::Session::Connect(std::move(client_end), grant, options);
    EXPECT_EQ(session.status().code(), StatusCode::kUnauthenticated);
    EXPECT_EQ(session.status().message(), "no such lease");
  }
  grant.gpus.push_back({"elsewhere:1", 0, 1, 100});
  EXPECT_NE(client::Session::Connect(grant, options).status().message().find("several servers"),
            std::string::npos);
}

}  // namespace
}  // namespace farwarp::tests
