#include "tests/remoting/loop.h"

#include <gtest/gtest.h>

#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"

namespace farwarp::tests {
namespace {

Deadline Soon() {
  return Deadline::After(std::chrono::seconds(10));
}

wire::Buffer Receive(transport::Channel& channel, wire::FrameKind kind) {
  auto header = channel.ReceiveHeader(Soon());
  EXPECT_TRUE(header.ok() && header->kind == kind);
  wire::Buffer payload(header.ok() ? header->bytes : 0);
  EXPECT_TRUE(channel.ReceivePayload(payload, Soon()).ok());
  return payload;
}

}  // namespace

Loop::Loop(std::vector<std::uint64_t> limits, const server::driver::Table* table,
           const Builds& builds)
    : builds_(builds),
      driver_(static_cast<int>(limits.size())),
      table_(table != nullptr ? table : &driver_.table()),
      book_(*server::QuotaBook::Create(limits)),
      vgpus_(limits.size()) {
  quota_ = std::make_unique<server::Quota>(*server::Quota::Map(book_.fd(), *book_.TakeSlot()));
  grant_.secret.fill(7);
  for (std::uint32_t i = 0; i < limits.size(); ++i) {
    grant_.gpus.push_back({"loop:1", i, limits[i], 100});
  }
  auto [client_end, server_end] = transport::MakeChannelPair();
  serving_ =
      std::thread([this, channel = std::move(server_end)]() mutable { Serve(std::move(channel)); });
  client::Session::Options options;
  options.map_window = false;
  options.table = builds_.client;
  options.versions = builds_.client_versions;
  options.on_host_callback = [this](std::uint64_t number) {
    process_->HostFunctionReached(number);
  };
  auto session = client::Session::Connect(std::move(client_end), grant_, std::move(options));
  EXPECT_TRUE(session.ok()) << session.status().ToString();
  process_ = client::Process::Adopt(std::move(*session));
  round_trips_ = client().statistics().round_trips;
}

Loop::~Loop() {
  Cut();
  client::Process::Release(process_);
}

void Loop::Serve(std::unique_ptr<transport::Channel> channel) {
  const auto hello_payload = Receive(*channel, wire::FrameKind::kHello);
  const auto hello = wire::Hello::Decode(hello_payload);
  ASSERT_TRUE(hello.ok());
  wire::Challenge challenge;
  challenge.versions = builds_.server_versions;
  challenge.table_hash = builds_.server.hash;
  challenge.nonce.fill(9);
  if (wire::TablesTravel(hello->table_hash, challenge.table_hash)) {
    challenge.table = wire::Told(builds_.server);
  }
  const auto challenge_payload = challenge.Encode();
  EXPECT_TRUE(channel
                  ->Send({wire::FrameKind::kChallenge, 0, 0,
                          static_cast<std::uint32_t>(challenge_payload.size()), 0, 0},
                         challenge_payload, {}, Soon())
                  .ok());
  const auto proof = wire::Proof::Decode(Receive(*channel, wire::FrameKind::kProof));
  ASSERT_TRUE(proof.ok());
  EXPECT_TRUE(DigestsEqual(proof->digest, wire::ComputeProof(grant_.secret, hello_payload,
                                                             challenge_payload, proof->table)));
  server::Session::Options options;
  options.driver = table_;
  options.quota = quota_.get();
  options.table = builds_.server;
  options.versions = builds_.server_versions;
  options.credit = builds_.credit;
  for (std::size_t i = 0; i < vgpus_; ++i) options.device_ordinals.push_back(static_cast<int>(i));
  server_ = std::make_unique<server::Session>(std::move(channel), options);
  ASSERT_TRUE(server_->Start(*hello, proof->table).ok());
  EXPECT_TRUE(server_->Run().ok());
}

void Loop::Cut() {
  if (!serving_.joinable()) return;
  driver_.OpenGate();
  server_->Shutdown();
  serving_.join();
  server_.reset();
}

std::uint64_t Loop::TakeRoundTrips() {
  const std::uint64_t now = client().statistics().round_trips;
  const std::uint64_t since = now - round_trips_;
  round_trips_ = now;
  return since;
}

}  // namespace farwarp::tests
