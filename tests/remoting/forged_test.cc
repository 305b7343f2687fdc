// Commands that no client library sends: handles of another kind, of another life, or of somebody
// else's object. Each is refused, and the driver never sees a stale object.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "server/session/quota.h"
#include "server/session/session.h"
#include "tests/remoting/fake_driver.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr Handle kPrimary(HandleKind::kContext, 1, 0);
constexpr Handle kSecond(HandleKind::kContext, 1, 1);
constexpr Handle kStream(HandleKind::kStream, 1, 0);
constexpr Handle kEvent(HandleKind::kEvent, 1, 0);

class Forged : public testing::Test {
 protected:
  Forged() {
    const std::uint64_t limit = 64 << 20;
    book_ = std::make_unique<server::QuotaBook>(*server::QuotaBook::Create(std::span(&limit, 1)));
    quota_ = std::make_unique<server::Quota>(*server::Quota::Map(book_->fd(), *book_->TakeSlot()));
    auto [client_end, server_end] = transport::MakeChannelPair();
    client_ = std::move(client_end);
    server::Session::Options options;
    options.driver = &driver_.table();
    options.quota = quota_.get();
    options.device_ordinals = {0};
    session_ = std::make_unique<server::Session>(std::move(server_end), options);
    wire::Hello hello;
    hello.windows = {{kTestWindow, std::uint64_t{1} << 38}};
    EXPECT_TRUE(session_->Start(hello).ok());
    EXPECT_EQ(Receive(nullptr).kind, wire::FrameKind::kWelcome);
    serving_ = std::thread([this] { static_cast<void>(session_->Run()); });
  }
  ~Forged() override {
    session_->Shutdown();
    serving_.join();
  }

  static Deadline Soon() { return Deadline::After(std::chrono::seconds(10)); }

  wire::FrameHeader Receive(wire::Buffer* payload) {
    const auto header = client_->ReceiveHeader(Soon());
    EXPECT_TRUE(header.ok());
    if (!header.ok()) return {};
    wire::Buffer bytes(header->bytes);
    EXPECT_TRUE(client_->ReceivePayload(bytes, Soon()).ok());
    if (payload != nullptr) *payload = std::move(bytes);
    return *header;
  }

  // Asks for an answer to any command, also to one that an honest client only posts.
  template <typename... Arguments>
  CUresult Call(InternalCommand command, Arguments... arguments) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    (encoder.Put(arguments), ...);
    body.resize((body.size() + 7) / 8 * 8);
    const wire::CommandHeader header{wire::IdOf(command), static_cast<std::uint32_t>(body.size()),
                                     ++ticket_};
    wire::FrameHeader frame{};
    frame.kind = wire::FrameKind::kCommands;
    frame.bytes = static_cast<std::uint32_t>(sizeof header + body.size());
    frame.sequence = ++sequence_;
    EXPECT_TRUE(client_->Send(frame, std::as_bytes(std::span(&header, 1)), body, Soon()).ok());
    for (;;) {
      wire::Buffer payload;
      const wire::FrameHeader received = Receive(&payload);
      if (received.kind == wire::FrameKind{}) return CUDA_ERROR_UNKNOWN;
      if (received.kind != wire::FrameKind::kReplies) continue;
      wire::ReplyHeader reply;
      std::memcpy(&reply, payload.data(), sizeof reply);
      EXPECT_EQ(reply.ticket, ticket_);
      return static_cast<CUresult>(reply.result);
    }
  }
  CUresult Retain(Handle context) {
    return Call(InternalCommand::kRetainPrimaryContext, context.bits(), std::uint32_t{0},
                std::uint32_t{0});
  }
  CUresult Release(Handle context) {
    return Call(InternalCommand::kReleasePrimaryContext, context.bits(), std::uint32_t{0});
  }
  CUresult Create(Handle context) {
    return Call(InternalCommand::kCreateContext, context.bits(), std::uint32_t{0},
                std::uint32_t{0});
  }
  CUresult Destroy(Handle context) {
    return Call(InternalCommand::kDestroyContext, context.bits());
  }
  // SetContext answers only when it fails.
  void SetContext(Handle context) {
    const std::uint64_t bits = context.bits();
    const wire::CommandHeader header{wire::IdOf(InternalCommand::kSetContext), sizeof bits, 0};
    wire::FrameHeader frame{};
    frame.kind = wire::FrameKind::kCommands;
    frame.bytes = sizeof header + sizeof bits;
    frame.sequence = ++sequence_;
    EXPECT_TRUE(client_
                    ->Send(frame, std::as_bytes(std::span(&header, 1)),
                           std::as_bytes(std::span(&bits, 1)), Soon())
                    .ok());
  }

  FakeDriver driver_;
  std::unique_ptr<server::QuotaBook> book_;
  std::unique_ptr<server::Quota> quota_;
  std::unique_ptr<transport::Channel> client_;
  std::unique_ptr<server::Session> session_;
  std::thread serving_;
  std::uint64_t ticket_ = 0;
  std::uint64_t sequence_ = 0;
};

TEST_F(Forged, AContextEndsOnlyInTheWayItBegan) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  ASSERT_EQ(Create(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Release(kSecond), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Destroy(kPrimary), CUDA_ERROR_INVALID_HANDLE);
  // Neither attempt has taken a handle away.
  EXPECT_EQ(Call(InternalCommand::kSynchronizeContext, kPrimary.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kSynchronizeContext, kSecond.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Release(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(Release(kPrimary), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver_.objects(), 0u);
}

TEST_F(Forged, APrimaryContextHasOneHandle) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(Retain(kSecond), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Release(kPrimary), CUDA_SUCCESS);
  EXPECT_EQ(driver_.objects(), 0u);
  EXPECT_EQ(Retain(kSecond), CUDA_SUCCESS);
}

TEST_F(Forged, WhatEndedWithItsContextIsFoundNoMore) {
  ASSERT_EQ(Retain(kPrimary), CUDA_SUCCESS);
  ASSERT_EQ(Create(kSecond), CUDA_SUCCESS);
  SetContext(kSecond);
  ASSERT_EQ(Call(InternalCommand::kCreateStream, kStream.bits(), std::uint32_t{0}, std::int32_t{0}),
            CUDA_SUCCESS);
  ASSERT_EQ(Call(InternalCommand::kCreateEvent, kEvent.bits(), std::uint32_t{0}), CUDA_SUCCESS);
  SetContext(kPrimary);
  ASSERT_EQ(Destroy(kSecond), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kQueryStream, kStream.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kQueryEvent, kEvent.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kDestroyStream, kStream.bits()), CUDA_ERROR_INVALID_HANDLE);
}

}  // namespace
}  // namespace farwarp::tests
