// RawClient: a client of a server session that sends what it likes, past all the checks of the
// client library, and asks for an answer to any command.
//
// One thread; the session runs on one of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <thread>

#include "cuda/driver_api.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "server/session/quota.h"
#include "server/session/session.h"

namespace farwarp::tests {

class RawClient {
 public:
  static constexpr std::uint64_t kLimit = std::uint64_t{64} << 20;
  static constexpr std::uint64_t kWindowBytes = std::uint64_t{1} << 38;

  // The driver must be initialised. `host_bytes`: see server::HostBudget.
  explicit RawClient(const server::driver::Table& driver,
                     std::uint64_t host_bytes = server::HostBudget::kDefaultBytes);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  template <typename... Arguments>
  CUresult Call(wire::InternalCommand command, Arguments... arguments) {
    return Call(wire::IdOf(command), arguments...);
  }
  template <typename... Arguments>
  CUresult Call(std::uint32_t id, Arguments... arguments) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    (encoder.Put(arguments), ...);
    return CallWith(id, std::move(body));
  }
  CUresult CallWith(wire::InternalCommand command, wire::Buffer body) {
    return CallWith(wire::IdOf(command), std::move(body));
  }
  // CUDA_ERROR_UNKNOWN if the session ended instead of answering.
  CUresult CallWith(std::uint32_t id, wire::Buffer body);
  CUresult Retain(wire::Handle context);
  // Sends without asking; SetContext answers only when it fails.
  void Post(wire::InternalCommand command, const wire::Buffer& body);
  void SetContext(wire::Handle context);
  void SendBulk(std::uint64_t transfer, std::span<const std::byte> bytes);
  // The result that the last commands without a ticket pushed; CUDA_SUCCESS if none. Read while
  // waiting for answers.
  CUresult pushed() const noexcept { return pushed_; }
  // Host functions that the server has asked for.
  std::uint64_t callbacks() const noexcept { return callbacks_; }

  // The bytes of a transfer that have come so far. Read likewise.
  const wire::Buffer& Arrived(std::uint64_t transfer) { return arrived_[transfer]; }

  // Where the session's addresses begin.
  std::uint64_t window() const noexcept { return window_; }
  const server::Quota& quota() const { return *quota_; }
  server::Session& session() { return *session_; }
  // Ends the session and waits until it has given everything back.
  void Leave();

 private:
  static Deadline Soon() { return Deadline::After(std::chrono::seconds(10)); }
  bool Receive(wire::FrameHeader* header, wire::Buffer* payload);
  void Send(wire::FrameKind kind, std::span<const std::byte> first,
            std::span<const std::byte> second);
  void OnPush(std::span<const std::byte> payload);

  std::unique_ptr<server::QuotaBook> book_;
  std::unique_ptr<server::Quota> quota_;
  std::unique_ptr<transport::Channel> channel_;
  std::unique_ptr<server::Session> session_;
  std::thread serving_;
  std::uint64_t ticket_ = 0;
  std::uint64_t sequence_ = 0;
  CUresult pushed_ = CUDA_SUCCESS;
  std::uint64_t callbacks_ = 0;
  std::uint64_t window_ = 0;
  std::map<std::uint64_t, wire::Buffer> arrived_;
};

}  // namespace farwarp::tests
