// Getting a TCP socket: addresses, connecting with a deadline, listening, options.
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "farwarp/transport/socket_channel.h"

namespace farwarp::transport {
namespace {

struct AddressList {
  addrinfo* first = nullptr;
  ~AddressList() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

Status SplitEndpoint(const std::string& endpoint, std::string* host, std::string* port) {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos || colon + 1 == endpoint.size()) {
    return Status::Invalid("'" + endpoint + "' is no address; write host:port");
  }
  *host = endpoint.substr(0, colon);
  *port = endpoint.substr(colon + 1);
  if (host->size() >= 2 && host->front() == '[' && host->back() == ']')
    *host = host->substr(1, host->size() - 2);
  return Status::Ok();
}

Status Resolve(const std::string& endpoint, int flags, AddressList* addresses) {
  std::string host;
  std::string port;
  FARWARP_RETURN_IF_ERROR(SplitEndpoint(endpoint, &host, &port));
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  const int error =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &addresses->first);
  if (error != 0)
    return Status::NotFound("cannot resolve '" + endpoint + "': " + ::gai_strerror(error));
  return Status::Ok();
}

Status ConnectOne(int fd, const addrinfo& address, Deadline deadline) {
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return Status::Ok();
  if (errno != EINPROGRESS) return Status::FromErrno("connect", errno);
  pollfd wanted{fd, POLLOUT, 0};
  while (::poll(&wanted, 1, deadline.remaining_ms()) <= 0) {
    if (deadline.expired()) return Status::Timeout("no answer");
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? Status::Ok() : Status::FromErrno("connect", error);
}

std::string EndpointOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  const bool v6 = address.ss_family == AF_INET6;
  return (v6 ? "[" : "") + std::string(host) + (v6 ? "]:" : ":") + port;
}

}  // namespace

void SetSocketOptions(int fd) noexcept {
  int domain = 0;
  socklen_t size = sizeof domain;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  if (domain != AF_INET && domain != AF_INET6) return;
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  // No SO_SNDBUF/SO_RCVBUF: a fixed size is capped by the system's maximum for unprivileged
  // programs and switches off the kernel's own sizing, which goes further.
}

Result<UniqueFd> ConnectTcp(const std::string& endpoint, Deadline deadline) {
  AddressList addresses;
  FARWARP_RETURN_IF_ERROR(Resolve(endpoint, 0, &addresses));
  std::string reason = "no address";
  for (const addrinfo* address = addresses.first; address != nullptr; address = address->ai_next) {
    UniqueFd fd(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) continue;
    const Status status = ConnectOne(fd.get(), *address, deadline);
    if (status.ok()) {
      ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
      return fd;
    }
    reason = status.message();
  }
  return Status::Unavailable("cannot connect to " + endpoint + ": " + reason);
}

Result<std::pair<UniqueFd, std::string>> ListenTcp(const std::string& endpoint) {
  AddressList addresses;
  FARWARP_RETURN_IF_ERROR(Resolve(endpoint, AI_PASSIVE, &addresses));
  const addrinfo& address = *addresses.first;
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return Status::FromErrno("cannot listen on " + endpoint, errno);
  }
  std::string actual = EndpointOf(fd.get());
  return std::pair(std::move(fd), std::move(actual));
}

}  // namespace farwarp::transport
