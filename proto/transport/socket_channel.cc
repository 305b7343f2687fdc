#include "farwarp/transport/socket_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "proto/transport/patience.h"
#include "proto/transport/peer_host.h"

namespace farwarp::transport {
namespace {

constexpr std::size_t kReadAheadBytes = std::size_t{64} << 10;
// A host that is there answers the kernel's probes several times in this.
constexpr std::chrono::seconds kHostPatience{5};

void Count(std::atomic<std::uint64_t>& counter, std::uint64_t more) {
  counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

}  // namespace

SocketChannel::SocketChannel(UniqueFd socket, Reading reading)
    : socket_(std::move(socket)), reading_(reading) {
  SetSocketOptions(socket_.get());
  if (reading_ == Reading::kBuffered) buffer_.resize(kReadAheadBytes);
}

Status SocketChannel::WaitFor(short events, Patience& patience) const {
  for (bool waited = false;; waited = true) {
    patience.Look();
    int wait_ms = patience.next_wait_ms();
    if (waited && wait_ms == 0) {
      if (!IsStopped(patience)) return Status::Timeout("the peer did not answer in time");
      wait_ms = patience.next_wait_ms();
    }
    pollfd wanted{socket_.get(), events, 0};
    const int ready = ::poll(&wanted, 1, wait_ms);
    if (ready > 0) return Status::Ok();
    if (ready < 0 && errno != EINTR)
      return Status::FromErrno("cannot wait for the connection", errno);
  }
}

bool SocketChannel::IsStopped(Patience& patience) const noexcept {
  if (!patience.tolerates_silence() || tolerated_silence_ == tolerated_silence_.zero()) {
    return false;
  }
  const auto host = AskAboutPeerHost(socket_.get());
  return host && host->Answers(kHostPatience) &&
         patience.Prolong(host->since_data, tolerated_silence_);
}

bool SocketChannel::HostAnswers(std::chrono::milliseconds within) const noexcept {
  const auto host = AskAboutPeerHost(socket_.get());
  return host && host->Answers(within);
}

void SocketChannel::TolerateSilence(std::chrono::milliseconds limit) noexcept {
  tolerated_silence_ = limit;
  ProbePeerHost(socket_.get());
}

Status SocketChannel::Send(const wire::FrameHeader& header, std::span<const std::byte> first,
                           std::span<const std::byte> second, Deadline deadline) {
  iovec parts[3] = {{const_cast<wire::FrameHeader*>(&header), sizeof header},
                    {const_cast<std::byte*>(first.data()), first.size()},
                    {const_cast<std::byte*>(second.data()), second.size()}};
  iovec* next = parts;
  iovec* const end = parts + 3;
  Patience patience(deadline, true);
  while (next != end) {
    if (next->iov_len == 0) {
      ++next;
      continue;
    }
    msghdr message{};
    message.msg_iov = next;
    message.msg_iovlen = static_cast<std::size_t>(end - next);
    ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    Count(send_calls_, 1);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        return Status::Closed(std::string("the connection broke while sending: ") +
                              std::strerror(errno));
      }
      FARWARP_RETURN_IF_ERROR(WaitFor(POLLOUT, patience));
      continue;
    }
    Count(bytes_sent_, static_cast<std::uint64_t>(sent));
    for (; sent > 0; ++next) {
      const std::size_t part = next->iov_len < static_cast<std::size_t>(sent)
                                   ? next->iov_len
                                   : static_cast<std::size_t>(sent);
      next->iov_base = static_cast<std::byte*>(next->iov_base) + part;
      next->iov_len -= part;
      sent -= static_cast<ssize_t>(part);
      if (next->iov_len != 0) break;
    }
  }
  return Status::Ok();
}

Result<std::size_t> SocketChannel::ReceiveSome(std::byte* to, std::size_t least, std::size_t most,
                                               Patience& patience) {
  std::size_t got = 0;
  while (got < least) {
    if (shut_.load(std::memory_order_relaxed))
      return Status::Closed("the connection was shut down");
    const ssize_t n = ::recv(socket_.get(), to + got, most - got, MSG_DONTWAIT);
    Count(receive_calls_, 1);
    if (n == 0) return Status::Closed("the peer closed the connection");
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        return Status::Closed(std::string("the connection broke while receiving: ") +
                              std::strerror(errno));
      }
      if (Status status = WaitFor(POLLIN, patience); !status.ok()) {
        // A peer that stops in the middle of something is not merely quiet.
        if (status.code() == StatusCode::kTimeout && got != 0)
          return Status::Closed("the peer stopped in mid-frame");
        return status;
      }
      continue;
    }
    Count(bytes_received_, static_cast<std::uint64_t>(n));
    got += static_cast<std::size_t>(n);
  }
  return got;
}

Status SocketChannel::ReceivePayload(std::span<std::byte> to, Deadline deadline) {
  Patience patience(deadline, true);
  return Receive(to, patience);
}

Status SocketChannel::Receive(std::span<std::byte> to, Patience& patience) {
  if (to.empty()) return Status::Ok();
  // Small payloads fill the buffer for what follows them. Nothing is taken from it before all is
  // there: a wait that ends in the middle of a header can be taken up again.
  if (to.size() < buffer_.size()) {
    if (end_ - begin_ < to.size() && begin_ != 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    while (end_ - begin_ < to.size()) {
      const auto more = ReceiveSome(buffer_.data() + end_, 1, buffer_.size() - end_, patience);
      if (!more.ok()) return more.status();
      end_ += *more;
    }
    std::memcpy(to.data(), buffer_.data() + begin_, to.size());
    begin_ += to.size();
    return Status::Ok();
  }
  // Large payloads go straight to their destination.
  const std::size_t ahead = std::min(end_ - begin_, to.size());
  if (ahead != 0) std::memcpy(to.data(), buffer_.data() + begin_, ahead);
  begin_ += ahead;
  to = to.subspan(ahead);
  if (to.empty()) return Status::Ok();
  return ReceiveSome(to.data(), to.size(), to.size(), patience).status();
}

Result<wire::FrameHeader> SocketChannel::ReceiveHeader(Deadline deadline) {
  wire::FrameHeader header;
  // Whether a peer that sends nothing at all is stopped is for the session to ask.
  Patience patience(deadline);
  FARWARP_RETURN_IF_ERROR(Receive(std::as_writable_bytes(std::span(&header, 1)), patience));
  FARWARP_RETURN_IF_ERROR(CheckHeader(header));
  return header;
}

void SocketChannel::Shutdown() noexcept {
  shut_.store(true, std::memory_order_relaxed);
  ::shutdown(socket_.get(), SHUT_RDWR);
}

ChannelCounts SocketChannel::counts() const noexcept {
  return {
      bytes_sent_.load(std::memory_order_relaxed), bytes_received_.load(std::memory_order_relaxed),
      send_calls_.load(std::memory_order_relaxed), receive_calls_.load(std::memory_order_relaxed)};
}

std::pair<std::unique_ptr<SocketChannel>, std::unique_ptr<SocketChannel>> MakeChannelPair() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return {};
  return {std::make_unique<SocketChannel>(UniqueFd(ends[0])),
          std::make_unique<SocketChannel>(UniqueFd(ends[1]))};
}

}  // namespace farwarp::transport
