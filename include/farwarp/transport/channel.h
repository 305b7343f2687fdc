// Channel: an ordered, reliable connection that carries frames. The narrow waist between sessions
// and what moves the bytes.
//
// Implementations: SocketChannel (TCP, and Unix sockets for tests in one process), FaultyChannel
// (delays and faults around another channel). Each call takes a deadline; a call that fails leaves
// the channel unusable except for Shutdown. Deadlines are
// in time during which the waiting thread itself could run: what a stopped process sleeps through
// is not held against its peer.
//
// Thread-safety: at any time one thread may send and another may receive; Shutdown may be called
// from any thread and makes both return kClosed. No lock is held over a system call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "farwarp/base/deadline.h"
#include "farwarp/base/status.h"
#include "farwarp/wire/frame.h"

namespace farwarp::transport {

// What a channel counted since it was made. Read from any thread; exact when the channel is quiet.
struct ChannelCounts {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t send_calls = 0;     // System calls.
  std::uint64_t receive_calls = 0;  // System calls.
};

class Channel {
 public:
  virtual ~Channel() = default;

  // Sends one frame whose payload is `first` followed by `second`, from where they are.
  // header.bytes must be their sum.
  virtual Status Send(const wire::FrameHeader& header, std::span<const std::byte> first,
                      std::span<const std::byte> second, Deadline deadline) = 0;

  // Receives the next header. A header that breaks a rule (unknown kind, over a limit) is kInvalid.
  // kTimeout is the one error after which receiving may go on, provided no part of a header had
  // arrived.
  virtual Result<wire::FrameHeader> ReceiveHeader(Deadline deadline) = 0;
  // Receives the next bytes of the payload into `to`. The caller must take exactly header.bytes in
  // as many steps as it likes.
  virtual Status ReceivePayload(std::span<std::byte> to, Deadline deadline) = 0;

  // A program that is stopped (by a debugger, by a signal) says nothing, and neither does a host
  // that is dead or cut off; only the first one's kernel goes on acknowledging what it is sent.
  //
  // True if the peer's host has shown within `within` that it is there. False, too, where nothing
  // can tell. Something must be sent now and then for a host to answer.
  virtual bool HostAnswers(std::chrono::milliseconds /*within*/) const noexcept { return false; }
  // Lets Send and ReceivePayload wait beyond their deadlines, for up to `limit`, while the peer is
  // silent and its host answers. Without this, and where nothing can tell, deadlines are all there
  // is. Before the first frame.
  virtual void TolerateSilence(std::chrono::milliseconds /*limit*/) noexcept {}

  virtual void Shutdown() noexcept = 0;
  virtual ChannelCounts counts() const noexcept = 0;
};

// Checks what any receiver must check of a header before it believes `bytes`.
Status CheckHeader(const wire::FrameHeader& header);

// Where the two directions of a session stand, as seen by a receiver.
struct Order {
  std::uint64_t received;      // Counted frames that have come.
  std::uint64_t acknowledged;  // Highest acknowledgement that has come.
  std::uint64_t sent;          // Counted frames that have left.
};
// Checks the sequence and the acknowledgement of a frame that comes next: counted kinds carry the
// next number and others none; nothing is acknowledged that was not sent, or taken back.
Status CheckOrder(const wire::FrameHeader& header, const Order& order);

}  // namespace farwarp::transport
