#include "client/cli/reach.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {

Status Reach(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos) return Status::Invalid("no address");
  std::string host = endpoint.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), endpoint.c_str() + colon + 1, &hints, &found);
      code != 0)
    return Status::NotFound(::gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  const UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Status::FromErrno("socket", errno);
  if (::connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS)
    return Status::FromErrno("connect", errno);
  pollfd ready{fd.get(), POLLOUT, 0};
  if (::poll(&ready, 1, 2000) == 0) return Status::Timeout("no answer within 2 s");
  int error = 0;
  socklen_t bytes = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &bytes);
  return error == 0 ? Status::Ok() : Status::FromErrno("connect", error);
}

}  // namespace farwarp::cli
