// WorkerBrief: what the daemon tells a worker about the one client it will serve, and the
// descriptors that go with it. The daemon writes it into a memfd before it starts the worker.
//
// Value types, pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "farwarp/base/status.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/grant.h"

namespace farwarp::server {

// Descriptors of a worker, by number. Everything above the last one is closed at its start.
inline constexpr int kSocketFd = 3;   // The client's connection, after its proof.
inline constexpr int kQuotaFd = 4;    // session/quota.h
inline constexpr int kBriefFd = 5;    // The encoded brief.
inline constexpr int kControlFd = 6;  // From the daemon: one wire::Farewell payload, or its end.
inline constexpr int kLastWorkerFd = kControlFd;

// How a worker ends.
inline constexpr int kExitServed = 0;   // The client has been told everything.
inline constexpr int kExitRefused = 3;  // It could not serve, and has told the client and the log.
inline constexpr int kExitOverMemory = 4;  // It reached its memory limit.
inline constexpr int kExitCutShort = 10;   // The driver did not give back in time.

struct BriefVgpu {
  std::uint32_t device = 0;  // Ordinal of the physical device in the driver.
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_percent = 100;
};

struct WorkerBrief {
  std::uint32_t daemon_pid = 0;
  std::string driver;         // A path or a name to search for.
  bool fresh_memory = false;  // The driver hands out cleared memory.
  wire::LeaseId lease{};
  std::uint32_t quota_slot = 0;
  std::uint32_t log_level = 0;     // farwarp::LogLevel
  std::uint64_t memory_limit = 0;  // Of the process itself, in bytes.
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t client_pause_ms = 600'000;  // server::Session::Options
  std::vector<BriefVgpu> vgpus;             // By ordinal within the lease.
  wire::Buffer hello;                       // The client's Hello, as it was proved.
  wire::Buffer proof;                       // The Proof, with the commands that the client knows.

  wire::Buffer Encode() const;
  static Result<WorkerBrief> Decode(std::span<const std::byte> payload);
};

}  // namespace farwarp::server
