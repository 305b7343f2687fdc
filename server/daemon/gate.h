// Gate: accepts connections and lets in those that prove a lease (wire/handshake.h). Whatever else
// arrives - garbage, silence, floods, wrong or replayed proofs - ends here with a log line, at the
// cost of at most kMaxHandshakeBytes per connection, a bounded number of connections and one
// deadline each. Reads exactly the handshake's frames, so that the socket can be handed on.
//
// Lives on the daemon's event loop. Owns its connections until it hands them over.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <string>

#include "cuda/wire_table.h"
#include "farwarp/base/unique_fd.h"
#include "farwarp/wire/handshake.h"
#include "server/daemon/event_loop.h"

namespace farwarp::server {

// A client that proved its lease.
struct AdmittedClient {
  UniqueFd socket;
  std::string peer;  // "10.0.0.7:41234"
  wire::Hello hello;
  wire::Buffer hello_payload;
  wire::Buffer proof_payload;
};

// Sends a Refused or Goodbye without waiting, and ends our direction of the connection.
void SendFarewell(int socket, wire::FrameKind kind, const wire::Farewell& farewell) noexcept;

class Gate {
 public:
  struct Options {
    std::chrono::milliseconds timeout{2000};  // For a whole handshake.
    std::size_t max_pending = 512;            // Handshakes at a time; more displace the oldest.
    wire::VersionRange versions;              // What the workers speak,
    wire::ApiTable table = wire::kApiTable;   // and know.
  };
  // nullptr: no such lease.
  using FindSecret = std::function<const wire::LeaseSecret*(const wire::LeaseId&)>;
  using Admit = std::function<void(AdmittedClient)>;

  Gate(EventLoop& loop, const Options& options, FindSecret find_secret, Admit admit);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  Status Listen(UniqueFd listener);
  void Close();  // Accepts nothing more and drops what is pending.

  std::size_t pending() const noexcept { return connections_.size(); }

 private:
  struct Connection;
  using Place = std::list<Connection>::iterator;

  void Accept();
  void Welcome(UniqueFd socket, std::string peer);
  void OnReadable(Place place);
  // Both return false when the connection is gone.
  bool OnFrame(Place place);
  bool OnHello(Place place);
  bool OnProof(Place place);
  bool Refuse(Place place, wire::RefusalCode code, const std::string& reason);
  void Drop(Place place);

  EventLoop& loop_;
  const Options options_;
  const FindSecret find_secret_;
  const Admit admit_;
  UniqueFd listener_;
  UniqueFd reserve_;  // Given up to accept and drop a connection when descriptors run out.
  std::list<Connection> connections_;  // Oldest first.
};

}  // namespace farwarp::server
