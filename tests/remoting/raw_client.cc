#include "tests/remoting/raw_client.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "farwarp/wire/decoder.h"
#include "farwarp/wire/limits.h"
#include "farwarp/wire/push.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

constexpr std::uint64_t kSoftwareWindow = 0x2000'0000'0000;

}  // namespace

RawClient::RawClient(const server::driver::Table& driver, std::uint64_t host_bytes) {
  book_ = std::make_unique<server::QuotaBook>(*server::QuotaBook::Create(std::span(&kLimit, 1)));
  quota_ = std::make_unique<server::Quota>(*server::Quota::Map(book_->fd(), *book_->TakeSlot()));
  auto [client_end, server_end] = transport::MakeChannelPair();
  channel_ = std::move(client_end);
  server::Session::Options options;
  options.driver = &driver;
  options.quota = quota_.get();
  options.device_ordinals = {0};
  options.host_bytes = host_bytes;
  session_ = std::make_unique<server::Session>(std::move(server_end), options);
  wire::Hello hello;
  // The software GPU has its own idea of where addresses are.
  hello.windows = {{kTestWindow, kWindowBytes}, {kSoftwareWindow, kWindowBytes}};
  EXPECT_TRUE(session_->Start(hello).ok());
  wire::FrameHeader header;
  wire::Buffer payload;
  EXPECT_TRUE(Receive(&header, &payload));
  EXPECT_EQ(header.kind, wire::FrameKind::kWelcome);
  const auto welcome = wire::Welcome::Decode(payload);
  EXPECT_TRUE(welcome.ok());
  if (welcome.ok()) window_ = hello.windows.at(welcome->window).base;
  serving_ = std::thread([this] { static_cast<void>(session_->Run()); });
}

RawClient::~RawClient() {
  Leave();
}

void RawClient::Leave() {
  if (session_ == nullptr) return;
  session_->Shutdown();
  serving_.join();
  session_.reset();
}

bool RawClient::Receive(wire::FrameHeader* header, wire::Buffer* payload) {
  const auto received = channel_->ReceiveHeader(Soon());
  if (!received.ok()) return false;
  *header = *received;
  payload->resize(header->bytes);
  return channel_->ReceivePayload(*payload, Soon()).ok();
}

void RawClient::Send(wire::FrameKind kind, std::span<const std::byte> first,
                     std::span<const std::byte> second) {
  wire::FrameHeader frame{};
  frame.kind = kind;
  frame.bytes = static_cast<std::uint32_t>(first.size() + second.size());
  frame.sequence = ++sequence_;
  EXPECT_TRUE(channel_->Send(frame, first, second, Soon()).ok());
}

void RawClient::OnPush(std::span<const std::byte> payload) {
  wire::Decoder decoder(payload);
  switch (decoder.Get<wire::PushType>()) {
    case wire::PushType::kError:
      decoder.Get<std::uint64_t>();
      pushed_ = static_cast<CUresult>(decoder.Get<std::int32_t>());
      break;
    case wire::PushType::kHostCallback:
      ++callbacks_;
      break;
    default:
      break;
  }
}

CUresult RawClient::CallWith(std::uint32_t id, wire::Buffer body) {
  body.resize((body.size() + 7) / 8 * 8);
  const wire::CommandHeader header{id, static_cast<std::uint32_t>(body.size()), ++ticket_};
  Send(wire::FrameKind::kCommands, std::as_bytes(std::span(&header, 1)), body);
  wire::FrameHeader received;
  wire::Buffer payload;
  while (Receive(&received, &payload)) {
    if (received.kind == wire::FrameKind::kPush) OnPush(payload);
    if (received.kind == wire::FrameKind::kBulk) {
      wire::BulkHeader bulk;
      std::memcpy(&bulk, payload.data(), sizeof bulk);
      wire::Buffer& bytes = arrived_[bulk.transfer];
      bytes.insert(bytes.end(), payload.begin() + sizeof bulk, payload.end());
    }
    if (received.kind != wire::FrameKind::kReplies) continue;
    wire::ReplyHeader reply;
    std::memcpy(&reply, payload.data(), sizeof reply);
    EXPECT_EQ(reply.ticket, ticket_);
    return static_cast<CUresult>(reply.result);
  }
  return CUDA_ERROR_UNKNOWN;
}

CUresult RawClient::Retain(wire::Handle context) {
  return Call(wire::InternalCommand::kRetainPrimaryContext, context.bits(), std::uint32_t{0},
              std::uint32_t{0});
}

void RawClient::Post(wire::InternalCommand command, const wire::Buffer& body) {
  const wire::CommandHeader header{wire::IdOf(command), static_cast<std::uint32_t>(body.size()), 0};
  Send(wire::FrameKind::kCommands, std::as_bytes(std::span(&header, 1)), body);
}

void RawClient::SetContext(wire::Handle context) {
  wire::Buffer body;
  wire::Encoder(body).Put(context.bits());
  Post(wire::InternalCommand::kSetContext, body);
}

void RawClient::SendBulk(std::uint64_t transfer, std::span<const std::byte> bytes) {
  wire::BulkHeader header{transfer, 0};
  while (header.offset < bytes.size()) {
    const auto piece =
        bytes.subspan(header.offset, std::min(bytes.size() - header.offset, wire::kBulkChunkBytes));
    Send(wire::FrameKind::kBulk, std::as_bytes(std::span(&header, 1)), piece);
    header.offset += piece.size();
  }
}

}  // namespace farwarp::tests
