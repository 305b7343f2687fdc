// The world around the pool in the simulation: nodes that really hold leases, launchers, a disk,
// and a network that delays, drops and breaks; everything decided by one seeded generator.
//
// The world knows the truth (what each node holds) and checks the pool against it after every step.
// A broken promise throws Broken, whose text names the seed. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "controller/pool/pool.h"

namespace farwarp::pool {

class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// splitmix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next();
  std::uint64_t Below(std::uint64_t bound) { return Next() % bound; }
  bool Chance(std::uint64_t percent) { return Below(100) < percent; }

 private:
  std::uint64_t state_;
};

// What happened, to prove that a run exercised what it claims to.
struct Tally {
  std::uint64_t granted = 0, expired = 0, refused = 0, ended = 0, revoked = 0, lost_nodes = 0,
                node_restarts = 0, controller_restarts = 0, resumed = 0, killed = 0,
                node_refusals = 0, adopted = 0;
  void Add(const Tally& other);
};

class World {
 public:
  World(std::uint64_t seed, int nodes, int launchers);
  // One random event and its consequences.
  void Step();
  // No more faults, no more wishes: everything must come to an end.
  void Settle();
  const Tally& tally() const { return tally_; }

 private:
  struct Held {
    std::vector<Vgpu> vgpus;
    std::uint32_t connections = 0;
  };
  struct NodeTruth {
    NodeInfo info;
    std::vector<Device> away;  // Devices it has lost for now.
    bool running = true;
    std::optional<SessionId> session;
    std::map<LeaseId, Held> held;
    std::vector<HeldLease> earlier;  // As of the report before.
    std::deque<Action> inbox;        // Commands under way to the node.
    Time next_report{0};
  };
  struct Launcher {
    enum class State { kIdle, kAsking, kGranted } state = State::kIdle;
    std::optional<RequestId> stream;  // Open Acquire call.
    Time deadline{0};
    LeaseId lease;
    Secret secret{};
    std::size_t node = 0;
    std::uint32_t connections = 0;  // Data connections of its program.
  };

  void Advance(Time duration);
  void Carry(Actions actions);
  void CarryOne(const Action& action);
  void ToNode(SessionId session, const Action& action);
  void DeliverToNode(NodeTruth& node);
  void Attach(NodeTruth& node);
  void Report(NodeTruth& node);
  void LoseStream(NodeTruth& node);
  void RestartNode(NodeTruth& node);
  void RestartController();
  void Ask(Launcher& launcher);
  void Kill(Launcher& launcher, bool connections_too);
  void Finish(Launcher& launcher);
  void Connect(Launcher& launcher);
  void Granted(const TellGranted& granted);
  void StreamEnded(RequestId request, bool lease_ended);
  std::vector<HeldLease> HeldBy(const NodeTruth& node) const;
  Launcher& Owner(RequestId request);
  void Check(bool condition, const std::string& promise) const;
  void CheckDevices() const;
  void CheckLeases() const;
  void CheckQueue() const;

  const std::uint64_t seed_;
  std::uint64_t steps_ = 0;
  Random random_;
  Time now_{1'000'000};
  PoolConfig config_;
  std::unique_ptr<CredentialSource> credentials_;
  std::unique_ptr<Pool> pool_;
  std::vector<NodeTruth> nodes_;
  std::vector<Launcher> launchers_;
  std::map<RequestId, std::size_t> owners_;
  std::set<RequestId> final_;  // Requests that were told their end.
  std::map<LeaseId, Lease> disk_;
  std::set<std::string> drained_;
  std::uint64_t next_id_ = 1;
  Tally tally_;
};

}  // namespace farwarp::pool
