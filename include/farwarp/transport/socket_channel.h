// SocketChannel: frames over a connected stream socket, and the ways to get one.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/base/unique_fd.h"
#include "farwarp/transport/channel.h"

namespace farwarp::transport {

class Patience;

class SocketChannel : public Channel {
 public:
  // kExact never reads beyond what was asked for, so that the socket can be handed to another
  // process between two frames.
  enum class Reading { kBuffered, kExact };

  explicit SocketChannel(UniqueFd socket, Reading reading = Reading::kBuffered);

  Status Send(const wire::FrameHeader& header, std::span<const std::byte> first,
              std::span<const std::byte> second, Deadline deadline) override;
  Result<wire::FrameHeader> ReceiveHeader(Deadline deadline) override;
  Status ReceivePayload(std::span<std::byte> to, Deadline deadline) override;
  // For TCP; see Channel.
  bool HostAnswers(std::chrono::milliseconds within) const noexcept override;
  void TolerateSilence(std::chrono::milliseconds limit) noexcept override;
  void Shutdown() noexcept override;
  ChannelCounts counts() const noexcept override;

  int fd() const noexcept { return socket_.get(); }
  // Gives the socket away. Only for kExact channels.
  UniqueFd Release() noexcept { return std::move(socket_); }

 private:
  // Receives at least `least` and at most `most` bytes.
  Result<std::size_t> ReceiveSome(std::byte* to, std::size_t least, std::size_t most,
                                  Patience& patience);
  Status Receive(std::span<std::byte> to, Patience& patience);
  Status WaitFor(short events, Patience& patience) const;
  // The time is over: true if the peer is merely stopped, and the wait goes on.
  bool IsStopped(Patience& patience) const noexcept;

  UniqueFd socket_;
  const Reading reading_;
  std::vector<std::byte> buffer_;  // Read ahead: [begin_, end_). Receiving thread only.
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::chrono::milliseconds tolerated_silence_{0};
  std::atomic<bool> shut_{false};
  // Relaxed counters: each is written by one thread.
  std::atomic<std::uint64_t> bytes_sent_{0}, bytes_received_{0}, send_calls_{0}, receive_calls_{0};
};

// Sets what we want of a TCP socket instead of what the system happens to default to: no delay,
// cubic where the kernel has it, keepalive. Unix sockets pass unchanged.
void SetSocketOptions(int fd) noexcept;

// Resolves and connects to "host:port" ("[v6]:port" too). Tries each address until the deadline.
Result<UniqueFd> ConnectTcp(const std::string& endpoint, Deadline deadline);
// Listens on "host:port"; port 0 lets the system choose. Returns the socket and the endpoint it
// got.
Result<std::pair<UniqueFd, std::string>> ListenTcp(const std::string& endpoint);

// Two connected channels inside this process.
std::pair<std::unique_ptr<SocketChannel>, std::unique_ptr<SocketChannel>> MakeChannelPair();

}  // namespace farwarp::transport
