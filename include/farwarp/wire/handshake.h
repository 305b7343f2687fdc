// The messages by which client and server agree on a session, before any command.
//
//   client                          server
//   Hello      ──────────────────►              versions, table hash, lease, process, windows,
//   nonce
//              ◄──────────────────  Challenge   versions, table hash, nonce, table
//   Proof      ──────────────────►              digest, table
//              ◄──────────────────  Welcome     or Refused, and the connection ends
//
// The digest is HMAC-SHA-256(secret, "farwarp proof 1" + Hello payload + Challenge payload + the
// Proof's table): nobody in between can change a version or a table. Tables are empty unless the
// hashes differ (negotiation.h).
//
// The secret never travels. The server's nonce is fresh for each connection, so a proof cannot be
// replayed. The client waits twice. Both sides give up after a deadline. Value types; Encode writes
// a frame's payload, Decode reads one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "farwarp/base/hmac.h"
#include "farwarp/base/status.h"
#include "farwarp/wire/credit.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/grant.h"
#include "farwarp/wire/negotiation.h"
#include "farwarp/wire/snapshot.h"

namespace farwarp::wire {

using Nonce = std::array<std::uint8_t, 32>;

// A range of addresses that a process keeps free: where device memory will lie on both sides.
struct AddressWindow {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;
};
inline constexpr std::size_t kMaxWindows = 8;

struct Hello {
  VersionRange versions;         // That the client speaks.
  std::uint64_t table_hash = 0;  // ApiTable::hash; 0: the client answers for what it sends.
  LeaseId lease{};
  Nonce nonce{};
  std::uint32_t process_id = 0;
  std::string process_name;
  std::vector<AddressWindow> windows;  // In order of preference.

  Buffer Encode() const;
  static Result<Hello> Decode(std::span<const std::byte> payload);
};

struct Challenge {
  VersionRange versions;  // That the server speaks.
  std::uint64_t table_hash = 0;
  Nonce nonce{};
  std::vector<PeerEntry> table;  // The server's, if the client needs it.

  Buffer Encode() const;
  static Result<Challenge> Decode(std::span<const std::byte> payload);
};

struct Proof {
  Digest digest{};
  std::vector<PeerEntry> table;  // The client's, if the server needs it.

  Buffer Encode() const;
  static Result<Proof> Decode(std::span<const std::byte> payload);
};

// `hello` and `challenge` are the payloads as they travelled; `table` is the Proof's.
Digest ComputeProof(const LeaseSecret& secret, std::span<const std::byte> hello,
                    std::span<const std::byte> challenge, std::span<const PeerEntry> table);

struct Welcome {
  std::uint32_t protocol = kProtocolVersion;  // The highest that both speak.
  std::uint64_t table_hash = 0;               // As in the Challenge.
  std::int32_t driver_version = 0;            // cuDriverGetVersion of the server's driver.
  std::int32_t loading_mode = 0;              // CUmoduleLoadingMode
  std::uint32_t window = 0;                   // Index into Hello::windows.
  std::uint32_t heartbeat_ms = 1000;
  Credit credit;
  std::vector<DeviceSnapshot> devices;  // One per vGPU, in the program's order.

  Buffer Encode() const;
  static Result<Welcome> Decode(std::span<const std::byte> payload);
};

// Why a server ends a connection, for people and for the client's error code.
enum class RefusalCode : std::uint32_t {
  kMalformed = 1,        // The client broke a rule of the protocol.
  kVersion = 2,          // No common protocol version, or too few common commands.
  kUnauthenticated = 3,  // Unknown lease or wrong proof; deliberately not told apart.
  kBusy = 4,             // Too many connections.
  kDriver = 5,           // The driver or the device failed.
  kRevoked = 6,          // The lease was taken back.
  kWorkerDied = 7,       // The worker process of this client ended unexpectedly.
  kFinished = 8,         // Nothing is wrong.
};

// Payload of kRefused and kGoodbye.
struct Farewell {
  RefusalCode code = RefusalCode::kFinished;
  std::string reason;

  Buffer Encode() const;
  static Result<Farewell> Decode(std::span<const std::byte> payload);
};

}  // namespace farwarp::wire
