// What the pool decides: actions that its owner carries out in the given order.
//
// The order matters in one place: SaveLease comes before the TellGranted that makes the lease known
// to its client, so that a restart cannot lose a lease somebody holds.
//
// Thread-safety: value types, external lock.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "controller/pool/types.h"

namespace farwarp::pool {

// To a node, on its Attach stream: the first word, once it is accepted.
struct SendWelcome {
  SessionId session = 0;
};
// The node answers Prepare and Revoke (Pool::NodeAnswered).
struct SendPrepare {
  SessionId session = 0;
  LeaseId lease;
  Secret secret{};
  std::vector<Vgpu> vgpus;
  std::string client;
};
struct SendRevoke {
  SessionId session = 0;
  LeaseId lease;
  std::string reason;
};
struct SendDrain {
  SessionId session = 0;
  bool draining = false;
};
enum class CloseKind { kInvalid, kNameInUse, kReplaced, kSilent };
// End the stream; for the pool it already is gone.
struct CloseNode {
  SessionId session = 0;
  CloseKind kind = CloseKind::kInvalid;
  std::string reason;
};

// To a launcher, on its Acquire stream.
struct TellQueued {
  RequestId request = 0;
  std::uint32_t position = 0;
  std::uint32_t waiting = 0;
  std::string reason;
};
struct TellGranted {
  RequestId request = 0;
  LeaseId lease;
  Secret secret{};
  std::string node;
  std::string endpoint;
  std::vector<Vgpu> vgpus;
};
enum class RefusalKind { kInvalid, kFull, kExpired, kNotFound };
// The request never became a lease; the stream ends.
struct TellRefused {
  RequestId request = 0;
  RefusalKind kind = RefusalKind::kInvalid;
  std::string reason;
};
// The granted lease is gone; the stream ends.
struct TellEnded {
  RequestId request = 0;
  std::string reason;
};

// To the disk.
struct SaveLease {
  Lease lease;
};
struct EraseLease {
  LeaseId lease;
};
struct SaveDrain {
  std::string node;
  bool draining = false;
};

using Action = std::variant<SendWelcome, SendPrepare, SendRevoke, SendDrain, CloseNode, TellQueued,
                            TellGranted, TellRefused, TellEnded, SaveLease, EraseLease, SaveDrain>;
using Actions = std::vector<Action>;

}  // namespace farwarp::pool
