#include "tests/bench/reference.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace farwarp::bench {
namespace {

// request := operation:u64 bytes:u64, then what the operation says.
enum Operation : std::uint64_t { kEcho = 1, kTake = 2, kGive = 3 };
struct Request {
  std::uint64_t operation;
  std::uint64_t bytes;
};

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

bool ReadAll(int fd, void* data, std::size_t bytes) {
  for (auto* at = static_cast<char*>(data); bytes != 0;) {
    const ssize_t n = ::recv(fd, at, bytes, MSG_WAITALL);
    if (n <= 0) return false;
    at += n, bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

bool WriteAll(int fd, const void* data, std::size_t bytes) {
  for (auto* at = static_cast<const char*>(data); bytes != 0;) {
    const ssize_t n = ::send(fd, at, bytes, MSG_NOSIGNAL);
    if (n <= 0) return false;
    at += n, bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

void SetOptions(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

[[noreturn]] void Serve(int fd) {
  std::vector<char> buffer(std::size_t{1} << 20);
  Request request;
  while (ReadAll(fd, &request, sizeof request)) {
    for (std::uint64_t left = request.bytes; left != 0;) {
      const std::size_t part =
          left < buffer.size() ? static_cast<std::size_t>(left) : buffer.size();
      const bool ok = request.operation == kGive ? WriteAll(fd, buffer.data(), part)
                                                 : ReadAll(fd, buffer.data(), part);
      if (!ok) std::_Exit(0);
      left -= part;
    }
    if (request.operation == kEcho &&
        !WriteAll(fd, buffer.data(), static_cast<std::size_t>(request.bytes)))
      break;
    if (request.operation == kTake && !WriteAll(fd, buffer.data(), 8)) break;
  }
  std::_Exit(0);
}

}  // namespace

RawPeer::RawPeer() {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Die("farwarp-bench: cannot listen on loopback");
  }
  process_ = ::fork();
  if (process_ < 0) Die("farwarp-bench: fork");
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = ::accept(listener.get(), nullptr, nullptr);
    SetOptions(fd);
    Serve(fd);
  }
  socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SetOptions(socket_.get());
  if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0)
    Die("farwarp-bench: connect");
}

RawPeer::~RawPeer() {
  socket_.reset();
  ::waitpid(process_, nullptr, 0);
}

void RawPeer::Echo(std::size_t bytes) {
  char buffer[4096];
  *reinterpret_cast<Request*>(buffer) = {kEcho, bytes - sizeof(Request)};
  if (!WriteAll(socket_.get(), buffer, bytes) ||
      !ReadAll(socket_.get(), buffer, bytes - sizeof(Request))) {
    Die("farwarp-bench: echo");
  }
}

void RawPeer::Send(const void* data, std::size_t bytes) {
  const Request request{kTake, bytes};
  std::uint64_t done;
  if (!WriteAll(socket_.get(), &request, sizeof request) || !WriteAll(socket_.get(), data, bytes) ||
      !ReadAll(socket_.get(), &done, sizeof done)) {
    Die("farwarp-bench: send");
  }
}

void RawPeer::Receive(void* data, std::size_t bytes) {
  const Request request{kGive, bytes};
  if (!WriteAll(socket_.get(), &request, sizeof request) || !ReadAll(socket_.get(), data, bytes)) {
    Die("farwarp-bench: receive");
  }
}

}  // namespace farwarp::bench
