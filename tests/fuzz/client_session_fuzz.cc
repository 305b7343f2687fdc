// A hostile server: a correct handshake, then arbitrary bytes into the client's session, which
// waits for a copy and must end whatever comes.
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "client/session/session.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"

using namespace farwarp;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto [client_end, server_end] = transport::MakeChannelPair();
  if (client_end == nullptr) return 0;
  const Deadline deadline = Deadline::After(std::chrono::seconds(5));
  const auto send = [&, &server = *server_end](wire::FrameKind kind, const wire::Buffer& payload) {
    if (!server
             .Send({kind, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0}, payload, {},
                   deadline)
             .ok())
      __builtin_trap();
  };
  wire::Welcome welcome;
  welcome.devices.emplace_back();
  send(wire::FrameKind::kChallenge, wire::Challenge{}.Encode());
  send(wire::FrameKind::kWelcome, welcome.Encode());
  wire::Grant grant;
  grant.gpus.push_back({"fuzz:1", 0, 1, 100});
  client::Session::Options options;
  options.map_window = false;
  auto session = client::Session::Connect(std::move(client_end), grant, std::move(options));
  if (!session.ok()) __builtin_trap();
  std::byte memory[256];
  static_cast<void>((*session)->ExpectTransfer(memory, sizeof memory));
  // May fail: the session may have ended already.
  static_cast<void>(::send(server_end->fd(), data, size, MSG_NOSIGNAL));
  ::shutdown(server_end->fd(), SHUT_WR);
  // The end of the bytes is the end of the session.
  while ((*session)->error() == CUDA_SUCCESS) {
    if (deadline.expired()) __builtin_trap();
  }
  return 0;
}
