// A real farwarp-server in a process of its own, and clients that speak the wire protocol to it,
// for the daemon's tests. Every wait has a deadline.
//
// One thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "farwarp/base/unique_fd.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/handshake.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::testing {

inline constexpr std::chrono::seconds kPatience{20};

// Asks again and again until `done` or the time is over.
bool Eventually(const std::function<bool()>& done, std::chrono::milliseconds time = kPatience);

std::string FakeDriverPath();

struct Finished {
  int exit_code = -1;  // 128 + signal if one ended it.
  std::string output;  // Standard error.
};

class ServerProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;  // Beyond --driver.
    std::string driver = FakeDriverPath();
    std::string fake_mode;  // FARWARP_FAKE_DRIVER
    bool is_private = true;
    std::string vgpus = ";gpu=0/268435456/50;gpu=1/536870912/100";
  };

  explicit ServerProcess(Options options);
  ServerProcess() : ServerProcess(Options{}) {}
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Private mode: waits until it serves; empty if it ended instead.
  const std::string& endpoint() const { return endpoint_; }
  const wire::LeaseId& lease() const { return lease_; }
  const wire::LeaseSecret& secret() const { return secret_; }
  pid_t pid() const { return pid_; }

  void EndLauncher() { lease_pipe_.reset(); }
  void Signal(int signal);
  Finished WaitForEnd(std::chrono::milliseconds time = kPatience);
  bool running();
  std::string log() const;
  bool WaitForLog(const std::string& text);
  // Process ids of its workers.
  std::vector<pid_t> workers() const;
  bool WaitForWorkers(std::size_t count, std::chrono::milliseconds time = kPatience);

 private:
  void ReadEndpoint(int fd);

  pid_t pid_ = -1;
  std::optional<int> status_;
  UniqueFd lease_pipe_;
  UniqueFd log_;
  std::string endpoint_;
  wire::LeaseId lease_{};
  wire::LeaseSecret secret_{};
};

// The client's half of the protocol, as far as these tests need it.
class WireClient {
 public:
  struct Answer {
    bool ended = false;  // Goodbye, or the end of the connection.
    std::int32_t result = -1;
    wire::Buffer body;
  };

  // Connects and does the handshake; see refusal() if ok() is false.
  WireClient(const std::string& endpoint, const wire::LeaseId& lease,
             const wire::LeaseSecret& secret);

  bool ok() const { return welcome_.has_value(); }
  const wire::Welcome& welcome() const { return *welcome_; }
  // What the server said last: Refused or Goodbye.
  const std::optional<wire::Farewell>& farewell() const { return farewell_; }
  std::uint64_t window_base() const { return window_base_; }
  const std::string& output() const { return output_; }

  bool Send(wire::InternalCommand command, const wire::Buffer& body, std::uint64_t ticket);
  // One frame with the same command `count` times, each wanting an answer.
  bool SendMany(wire::InternalCommand command, const wire::Buffer& body, std::uint64_t count);
  // Bytes without any frame.
  void SendRaw(const wire::Buffer& bytes);
  // Sends and waits for the reply.
  Answer Call(wire::InternalCommand command, const wire::Buffer& body);
  // Waits for the end of the connection.
  bool WaitForEnd(std::chrono::milliseconds time = kPatience);
  void Disconnect() { channel_.reset(); }

  // Bytes that are free in the lease, or 0 after an error.
  std::uint64_t FreeBytes(std::uint32_t vgpu = 0);
  std::int32_t AcquireCredit(std::uint64_t bytes, std::uint32_t vgpu = 0);
  // Makes vGPU 0's primary context current; mapping needs one.
  bool UseContext();
  std::int32_t MapRange(std::uint64_t offset, std::uint64_t bytes);

 private:
  void Handshake(const wire::LeaseId& lease, const wire::LeaseSecret& secret);
  // Receives one frame; false when the connection has ended.
  bool Receive(Deadline deadline, wire::FrameHeader& header, wire::Buffer& payload);

  std::unique_ptr<transport::SocketChannel> channel_;
  std::optional<wire::Welcome> welcome_;
  std::optional<wire::Farewell> farewell_;
  std::uint64_t window_base_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t received_ = 0;
  std::string output_;
};

wire::FrameHeader MakeHeader(wire::FrameKind kind, std::size_t bytes);
wire::Hello MakeHello(const wire::LeaseId& lease);

}  // namespace farwarp::testing
