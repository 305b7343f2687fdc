// The words of the pool: requests, vGPUs, leases, nodes. Plain values without behaviour.
//
// Thread-safety: value types, external lock.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace farwarp::pool {

// Time comes in from outside, on any clock that does not go backwards.
using Time = std::chrono::milliseconds;

// One Acquire call; minted by the caller, never used twice.
using RequestId = std::uint64_t;
// One Attach stream; minted by the caller, never used twice.
using SessionId = std::uint64_t;

inline constexpr std::size_t kMaxVgpusPerLease = 64;
inline constexpr std::size_t kMaxDevicesPerNode = 64;
inline constexpr std::size_t kMaxLeasesPerNode = 4096;
inline constexpr std::size_t kMaxNodes = 4096;
inline constexpr std::size_t kMaxLabels = 32;
inline constexpr std::size_t kMaxNameBytes = 253;
inline constexpr std::size_t kMaxTextBytes = 1024;
inline constexpr std::uint64_t kMaxMemoryBytes = std::uint64_t{1} << 60;
inline constexpr std::uint32_t kWholeDevicePercent = 100;
// Device memory is mapped in ranges of this size: of anything in between a program could not use
// the rest.
inline constexpr std::uint64_t kMemoryUnit = std::uint64_t{2} << 20;

using Labels = std::map<std::string, std::string>;

struct LeaseId {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const LeaseId&) const = default;
};
using Secret = std::array<std::uint8_t, 32>;

struct Credentials {
  LeaseId id;
  Secret secret{};
};

// Where new lease ids and secrets come from: random in the service, counted in tests.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;
  virtual Credentials Next() = 0;
};

struct Device {
  std::uint32_t ordinal = 0;
  std::string uuid;
  std::string name;
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_capability = 0;
  std::uint32_t sm_count = 0;
};

// What is asked for one vGPU: bytes or a percentage of the device, or neither (a whole device).
// compute_percent 0 means in proportion to the memory.
struct VgpuAsk {
  std::uint64_t memory_bytes = 0;
  std::uint32_t memory_percent = 0;
  std::uint32_t compute_percent = 0;
  auto operator<=>(const VgpuAsk&) const = default;
};

struct Vgpu {
  std::uint32_t ordinal = 0;
  std::uint32_t device_ordinal = 0;
  std::string device_uuid;
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_percent = 0;
  std::uint64_t memory_used_bytes = 0;  // As the node last reported.
};

// Only shown, never decided upon.
struct Client {
  std::string user;
  std::string host;
  std::uint32_t pid = 0;
  std::string program;
  std::string version;
  Labels labels;
};

struct Request {
  std::vector<VgpuAsk> vgpus;
  Time wait{0};
  Client client;
  Labels node_labels;  // Only nodes that carry all of them.
};

// A lease as a node reports it.
struct HeldLease {
  LeaseId id;
  std::uint32_t connections = 0;
  std::vector<Vgpu> vgpus;
};

struct NodeInfo {
  std::string name;
  std::string instance_id;
  std::string data_endpoint;
  std::uint32_t driver_version = 0;
  std::string version;
  std::vector<Device> devices;
  Labels labels;
};

enum class LeaseState {
  kPreparing,  // Placed; the node has not confirmed; the client does not know it.
  kActive,     // The client knows it.
  kReleasing,  // The node is asked to end it; its capacity still counts.
};

struct Lease {
  LeaseId id;
  Secret secret{};
  LeaseState state = LeaseState::kPreparing;
  std::string node;
  std::string endpoint;  // The node's data endpoint when the lease was placed.
  std::vector<Vgpu> vgpus;
  Client client;
  std::int64_t created_unix_ms = 0;  // For people.

  std::optional<RequestId> holder;  // The launcher's open Acquire call.
  bool released = false;            // The launcher said it is done: no grace.
  bool restored = false;            // Known from the disk only; nobody has claimed it again.
  // Data connections as last reported; nothing after a restart until the node reports.
  std::optional<std::uint32_t> connections;
  std::optional<Time> idle_since;  // Since when nobody holds it.
  std::optional<Time> idle_until;  // When it will be released for that.
};

}  // namespace farwarp::pool
