// ScriptedServer: the other end of a client session in a test: it accepts the handshake and then
// does what the test says, right or wrong. One thread at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "client/session/command.h"
#include "client/session/session.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"

namespace farwarp::tests {

inline Deadline Soon() {
  return Deadline::After(std::chrono::seconds(10));
}

struct SentCommand {
  std::uint32_t id;
  std::uint64_t ticket;
  wire::Buffer body;
};

class ScriptedServer {
 public:
  // `wrap` may put faults around the client's end.
  using Wrap =
      std::function<std::unique_ptr<transport::Channel>(std::unique_ptr<transport::Channel>)>;

  explicit ScriptedServer(std::uint32_t heartbeat_ms = 1000, const Wrap& wrap = {},
                          client::Session::Options options = {}) {
    auto [client_end, server_end] = transport::MakeChannelPair();
    channel_ = std::move(server_end);
    std::thread shake([&] { Shake(heartbeat_ms); });
    wire::Grant grant;
    grant.gpus.push_back({"scripted:1", 0, 1 << 20, 100});
    options.map_window = false;
    std::unique_ptr<transport::Channel> end = std::move(client_end);
    if (wrap) end = wrap(std::move(end));
    auto session = client::Session::Connect(std::move(end), grant, std::move(options));
    shake.join();
    EXPECT_TRUE(session.ok()) << session.status().ToString();
    client_ = std::move(*session);
  }

  client::Session& client() { return *client_; }
  transport::SocketChannel& channel() { return *channel_; }

  // The commands of the next frame of commands; answers pings; empty when the client has gone.
  std::vector<SentCommand> Receive() {
    std::vector<SentCommand> commands;
    while (commands.empty()) {
      auto header = channel_->ReceiveHeader(Soon());
      if (!header.ok()) return commands;
      wire::Buffer payload(header->bytes);
      if (!channel_->ReceivePayload(payload, Soon()).ok()) return commands;
      if (header->sequence != 0) received_ = header->sequence;
      if (header->kind == wire::FrameKind::kPing) SendFrame(wire::FrameKind::kAck, {});
      if (header->kind != wire::FrameKind::kCommands) continue;
      std::span<const std::byte> rest(payload);
      while (!rest.empty()) {
        wire::CommandHeader command;
        std::memcpy(&command, rest.data(), sizeof command);
        const auto body = rest.subspan(sizeof command, command.bytes);
        commands.push_back({command.id, command.ticket, wire::Buffer(body.begin(), body.end())});
        rest = rest.subspan(sizeof command + command.bytes);
      }
    }
    return commands;
  }
  // Like Receive, until there are `count`.
  std::vector<SentCommand> Receive(std::size_t count) {
    std::vector<SentCommand> all;
    while (all.size() < count) {
      auto some = Receive();
      if (some.empty()) break;
      for (auto& command : some) all.push_back(std::move(command));
    }
    return all;
  }

  void SendFrame(wire::FrameKind kind, std::span<const std::byte> payload) {
    const bool counted = kind >= wire::FrameKind::kCommands && kind <= wire::FrameKind::kPush;
    // Whether the client still listens is what tests find out.
    static_cast<void>(channel_->Send({kind, 0, 0, static_cast<std::uint32_t>(payload.size()),
                                      counted ? ++sequence_ : 0, received_},
                                     payload, {}, Soon()));
  }
  void Reply(std::uint64_t ticket, std::int32_t result, std::span<const std::byte> body = {}) {
    const wire::ReplyHeader header{ticket, result, static_cast<std::uint32_t>(body.size())};
    wire::Buffer payload(sizeof header);
    std::memcpy(payload.data(), &header, sizeof header);
    payload.insert(payload.end(), body.begin(), body.end());
    SendFrame(wire::FrameKind::kReplies, payload);
  }
  void PushError(std::uint64_t context, std::int32_t result) {
    wire::Buffer payload;
    wire::Encoder encoder(payload);
    encoder.Put(std::uint64_t{1});
    encoder.Put(context), encoder.Put(result), encoder.Put(std::uint32_t{5});
    SendFrame(wire::FrameKind::kPush, payload);
  }
  void Bulk(std::uint64_t transfer, std::uint64_t offset, std::span<const std::byte> data) {
    const wire::BulkHeader header{transfer, offset};
    wire::Buffer payload(sizeof header);
    std::memcpy(payload.data(), &header, sizeof header);
    payload.insert(payload.end(), data.begin(), data.end());
    SendFrame(wire::FrameKind::kBulk, payload);
  }

 private:
  void Shake(std::uint32_t heartbeat_ms) {
    const auto receive = [&] {
      auto header = channel_->ReceiveHeader(Soon());
      ASSERT_TRUE(header.ok());
      wire::Buffer payload(header->bytes);
      ASSERT_TRUE(channel_->ReceivePayload(payload, Soon()).ok());
    };
    receive();
    SendFrame(wire::FrameKind::kChallenge, wire::Challenge{}.Encode());
    receive();
    wire::Welcome welcome;
    welcome.heartbeat_ms = heartbeat_ms;
    welcome.devices.emplace_back();
    SendFrame(wire::FrameKind::kWelcome, welcome.Encode());
  }

  std::unique_ptr<transport::SocketChannel> channel_;
  std::unique_ptr<client::Session> client_;
  std::uint64_t sequence_ = 0;
  std::uint64_t received_ = 0;
};

// A call without arguments.
inline CUresult CallOnce(client::Session& session, client::Reply* reply = nullptr) {
  client::Reply own;
  client::Command command(session, 9);
  return command.Call(reply != nullptr ? *reply : own);
}
inline CUresult PostNumber(client::Session& session, std::uint64_t number) {
  client::Command command(session, 7);
  command.body().Put(number);
  return command.Post();
}

}  // namespace farwarp::tests
