#include "server/daemon/gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "farwarp/base/bytes.h"
#include "farwarp/base/log.h"
#include "farwarp/transport/channel.h"
#include "farwarp/transport/socket_channel.h"

namespace farwarp::server {
namespace {

constexpr std::size_t kHeaderBytes = sizeof(wire::FrameHeader);

std::string PeerName(const sockaddr_storage& address) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    ::inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6.sin6_port));
  }
  return "local";
}

bool SendFrame(int socket, wire::FrameKind kind, const wire::Buffer& payload) noexcept {
  wire::FrameHeader header{};
  header.kind = kind;
  header.bytes = static_cast<std::uint32_t>(payload.size());
  // sendmsg does not write through these pointers.
  iovec parts[] = {{&header, kHeaderBytes},
                   {const_cast<std::byte*>(payload.data()), payload.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = std::size(parts);
  const std::size_t bytes = kHeaderBytes + payload.size();
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(bytes);
}

bool FillRandom(void* to, std::size_t bytes) {
  return ::getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes);
}

}  // namespace

void SendFarewell(int socket, wire::FrameKind kind, const wire::Farewell& farewell) noexcept {
  SendFrame(socket, kind, farewell.Encode());
  // Closing with unread bytes would reset the connection and may destroy the farewell on its way.
  std::byte unread[4096];
  for (int i = 0; i < 16; ++i) {
    if (::recv(socket, unread, sizeof unread, MSG_DONTWAIT) <= 0) break;
  }
  ::shutdown(socket, SHUT_WR);
}

struct Gate::Connection {
  UniqueFd socket;
  std::string peer;
  EventLoop::TimerId deadline = 0;
  wire::Buffer frame = wire::Buffer(kHeaderBytes);  // Header, then the payload in its place.
  std::size_t got = 0;
  bool in_payload = false;
  wire::FrameHeader header{};
  bool hello_seen = false;
  wire::Hello hello;
  wire::Buffer hello_payload;
  wire::Buffer challenge_payload;
};

Gate::Gate(EventLoop& loop, const Options& options, FindSecret find_secret, Admit admit)
    : loop_(loop),
      options_(options),
      find_secret_(std::move(find_secret)),
      admit_(std::move(admit)) {}

Gate::~Gate() {
  Close();
}

Status Gate::Listen(UniqueFd listener) {
  listener_ = std::move(listener);
  reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int flags = ::fcntl(listener_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(listener_.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Status::FromErrno("cannot make the listening socket non-blocking", errno);
  }
  return loop_.Add(listener_.get(), EPOLLIN, [this](std::uint32_t) { Accept(); });
}

void Gate::Close() {
  if (listener_.valid()) loop_.Remove(listener_.get());
  listener_.reset();
  while (!connections_.empty()) Drop(connections_.begin());
}

void Gate::Accept() {
  constexpr int kPerRound = 64;  // Others on the loop have their turn in between.
  for (int i = 0; i < kPerRound; ++i) {
    sockaddr_storage address{};
    socklen_t bytes = sizeof address;
    UniqueFd socket(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&address), &bytes,
                              SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.valid()) {
      Welcome(std::move(socket), PeerName(address));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EMFILE && errno != ENFILE) return;
    // Without this the pending connection would wake the loop for ever.
    FARWARP_LOG(kError, "too many open files: a connection is dropped; raise LimitNOFILE");
    reserve_.reset();
    socket.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    socket.reset();
    reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return;
  }
}

void Gate::Welcome(UniqueFd socket, std::string peer) {
  if (connections_.size() >= options_.max_pending) {
    // An honest handshake takes milliseconds, so the oldest is the least likely to be one.
    Refuse(connections_.begin(), wire::RefusalCode::kBusy, "too many handshakes at a time");
  }
  transport::SetSocketOptions(socket.get());
  connections_.emplace_back();
  const Place place = std::prev(connections_.end());
  place->socket = std::move(socket);
  place->peer = std::move(peer);
  place->deadline = loop_.After(options_.timeout, [this, place] {
    place->deadline = 0;
    Refuse(place, wire::RefusalCode::kMalformed, "the handshake was not finished in time");
  });
  const Status added =
      loop_.Add(place->socket.get(), EPOLLIN, [this, place](std::uint32_t) { OnReadable(place); });
  if (!added.ok()) Drop(place);
}

void Gate::Drop(Place place) {
  loop_.Cancel(place->deadline);
  if (place->socket.valid()) loop_.Remove(place->socket.get());
  connections_.erase(place);
}

bool Gate::Refuse(Place place, wire::RefusalCode code, const std::string& reason) {
  FARWARP_LOG(kInfo, "refused %s: %s", place->peer.c_str(), reason.c_str());
  SendFarewell(place->socket.get(), wire::FrameKind::kRefused, {code, reason});
  Drop(place);
  return false;
}

void Gate::OnReadable(Place place) {
  for (;;) {
    Connection& connection = *place;
    const std::size_t wanted = connection.frame.size() - connection.got;
    if (wanted != 0) {
      const ssize_t got = ::recv(connection.socket.get(), connection.frame.data() + connection.got,
                                 wanted, MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (got <= 0) {
        FARWARP_LOG(kInfo, "%s left before its handshake was done", connection.peer.c_str());
        return Drop(place);
      }
      connection.got += static_cast<std::size_t>(got);
      if (connection.got < connection.frame.size()) continue;
    }
    if (!OnFrame(place)) return;
  }
}

bool Gate::OnFrame(Place place) {
  Connection& connection = *place;
  if (!connection.in_payload) {
    std::memcpy(&connection.header, connection.frame.data(), kHeaderBytes);
    const auto expected = connection.hello_seen ? wire::FrameKind::kProof : wire::FrameKind::kHello;
    if (const Status status = transport::CheckHeader(connection.header); !status.ok()) {
      return Refuse(place, wire::RefusalCode::kMalformed, status.message());
    }
    if (connection.header.kind != expected || connection.header.bytes > wire::kMaxHandshakeBytes) {
      return Refuse(place, wire::RefusalCode::kMalformed,
                    connection.hello_seen ? "expected a proof" : "expected a hello");
    }
    connection.in_payload = true;
    connection.frame.assign(connection.header.bytes, std::byte{0});
    connection.got = 0;
    return true;
  }
  connection.in_payload = false;
  connection.got = 0;
  return connection.hello_seen ? OnProof(place) : OnHello(place);
}

bool Gate::OnHello(Place place) {
  Connection& connection = *place;
  Result<wire::Hello> hello = wire::Hello::Decode(connection.frame);
  if (!hello.ok()) {
    return Refuse(place, wire::RefusalCode::kMalformed, hello.status().message());
  }
  if (!wire::HighestCommon(hello->versions, options_.versions).has_value()) {
    return Refuse(place, wire::RefusalCode::kVersion,
                  wire::NoCommonVersion(hello->versions, options_.versions).message());
  }
  connection.hello = std::move(*hello);
  connection.hello_payload = std::move(connection.frame);
  connection.frame.assign(kHeaderBytes, std::byte{0});
  connection.hello_seen = true;
  wire::Challenge challenge;
  challenge.versions = options_.versions;
  challenge.table_hash = options_.table.hash;
  if (wire::TablesTravel(connection.hello.table_hash, options_.table.hash)) {
    challenge.table = wire::Told(options_.table);
  }
  if (!FillRandom(challenge.nonce.data(), challenge.nonce.size())) {
    return Refuse(place, wire::RefusalCode::kBusy, "no randomness for a challenge");
  }
  connection.challenge_payload = challenge.Encode();
  if (!SendFrame(connection.socket.get(), wire::FrameKind::kChallenge,
                 connection.challenge_payload)) {
    return Refuse(place, wire::RefusalCode::kMalformed, "the client does not take the challenge");
  }
  return true;
}

bool Gate::OnProof(Place place) {
  Connection& connection = *place;
  Result<wire::Proof> proof = wire::Proof::Decode(connection.frame);
  if (!proof.ok()) {
    return Refuse(place, wire::RefusalCode::kMalformed, proof.status().message());
  }
  // An unknown lease costs the same work and gets the same answer as a wrong proof.
  const wire::LeaseSecret* known = find_secret_(connection.hello.lease);
  wire::LeaseSecret secret{};
  if (known != nullptr) {
    secret = *known;
  } else if (!FillRandom(secret.data(), secret.size())) {
    return Refuse(place, wire::RefusalCode::kBusy, "no randomness for a challenge");
  }
  const Digest wanted = wire::ComputeProof(secret, connection.hello_payload,
                                           connection.challenge_payload, proof->table);
  if (!DigestsEqual(wanted, proof->digest) || known == nullptr) {
    return Refuse(place, wire::RefusalCode::kUnauthenticated,
                  "the lease is unknown here or its proof is wrong");
  }
  // The worker decides the same; a client that it would refuse costs no process.
  const bool tables_travel = wire::TablesTravel(connection.hello.table_hash, options_.table.hash);
  const auto common = wire::Negotiate(options_.table, tables_travel, proof->table);
  if (!common.ok()) {
    return Refuse(place,
                  common.status().code() == StatusCode::kVersion ? wire::RefusalCode::kVersion
                                                                 : wire::RefusalCode::kMalformed,
                  common.status().message());
  }
  AdmittedClient client{std::move(connection.socket), std::move(connection.peer),
                        std::move(connection.hello), std::move(connection.hello_payload),
                        std::move(connection.frame)};
  loop_.Remove(client.socket.get());
  Drop(place);
  admit_(std::move(client));
  return false;
}

}  // namespace farwarp::server
