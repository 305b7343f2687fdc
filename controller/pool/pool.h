// Pool: the controller's whole policy as one deterministic state machine.
//
// It knows nodes and their devices, the queue of waiting requests and the leases. Events and the
// time come in as arguments, decisions go out as a list of actions; there is no clock, no I/O, no
// thread and no randomness of its own, so that a simulation can drive it through years of faults.
//
// The life of a lease:
//
//   request ──► queue ──► kPreparing ──node confirms──► kActive ──nobody holds it──► kReleasing ──►
//   gone
//                 ▲            │ node refuses or is lost                                  │
//                 └────────────┘                                      node confirms, or is lost
//
// Rules that keep the books right while streams break and processes restart:
//   * A node's own report is the truth about what it holds. A lease it reports and the pool does
//   not
//     know is booked on its devices as kReleasing until the node has ended it; a lease it should
//     hold and does not is prepared again. Forgetting is therefore always safe.
//   * Nothing is placed on a node without a stream.
//   * A lease is held by its launcher's open Acquire call or by data connections. When neither is
//     left it is released after a grace; a launcher that said it is done waives the grace.
//   * For a short time after the start nodes may be on their way: nobody is refused for want of
//   room
//     before it is over, also who does not want to wait.
//   * The queue is first come, first served per node: a request that could run on a node were the
//     node empty keeps later requests off that node, and only off that node.
//
// Thread-safety: external lock.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/pool/actions.h"
#include "controller/pool/placement.h"
#include "controller/pool/types.h"
#include "farwarp/base/status.h"

namespace farwarp::pool {

struct Node;
// Free and total room of a node's devices; of an empty node when `when_empty`.
std::vector<DeviceRoom> RoomsOf(const Node& node, bool when_empty);

struct PoolConfig {
  Time heartbeat_timeout{3000};  // A silent node, or one that owes an answer, is lost after this.
  Time node_grace{30'000};       // Leases wait this long for a lost node.
  Time lease_grace{2000};        // Between the last holder's end and the release.
  Time recovery{30'000};         // After a restart, for launchers and nodes to come back.
  Time settling{2000};           // After a start nobody is refused for want of nodes or room.
  Time node_memory{3'600'000};   // A lost node without leases is listed this long.
  Time queue_news{1000};         // Waiting launchers hear of their position at most this often.
  std::size_t max_waiting = 10'000;
};

struct DeviceUse {
  std::uint64_t memory_bytes = 0;
  std::uint32_t compute_percent = 0;
  std::uint32_t vgpus = 0;
};

struct Node {
  NodeInfo info;
  std::optional<SessionId> session;  // Nothing: lost.
  Time last_heard{0};                // While lost: since when.
  bool draining = false;
  std::vector<DeviceUse> use;  // Beside info.devices.
  std::set<LeaseId> leases;
  // Commands without an answer: when they were sent.
  std::map<std::pair<LeaseId, bool /* revoke */>, Time> owed;
};

struct Waiting {
  RequestId id = 0;
  Request request;
  Time arrived{0};
  Time deadline{0};
  std::int64_t created_unix_ms = 0;
  std::map<std::string, std::string> refused_by;  // Node name to what it said.
  std::uint32_t told_position = 0;                // 0: nothing told yet.
  std::string told_reason;
  // The set of nodes (Pool::nodes_generation_) on none of which this could ever run.
  std::uint64_t hopeless_generation = 0;
};

class Pool {
 public:
  // `credentials` outlives the pool.
  Pool(const PoolConfig& config, CredentialSource& credentials);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // After a restart, before any event: what the disk knows. The nodes of the leases count as lost.
  void Restore(Time now, std::vector<Lease> leases, const std::set<std::string>& drained_nodes);

  // Nodes.
  Actions NodeAttached(Time now, SessionId session, NodeInfo info,
                       const std::vector<HeldLease>& held);
  Actions NodeReported(Time now, SessionId session, const std::vector<HeldLease>& held);
  // The answer to SendPrepare (revoke == false) or SendRevoke.
  Actions NodeAnswered(Time now, SessionId session, const LeaseId& lease, bool revoke,
                       const Status& answer);
  Actions NodeDetached(Time now, SessionId session);
  // It said goodbye: it is not waited for, unless it left leases behind.
  Actions NodeLeft(Time now, SessionId session);

  // Launchers.
  Actions Requested(Time now, RequestId id, Request request, std::int64_t unix_ms);
  Actions Resumed(Time now, RequestId id, const LeaseId& lease, const Secret& secret);
  Actions HolderGone(Time now, RequestId id);
  // kNotFound unless the lease exists and the secret is its own.
  Status CheckSecret(const LeaseId& lease, const Secret& secret) const;
  // Precondition: CheckSecret is ok.
  Actions Released(Time now, const LeaseId& lease);

  // Operators. kNotFound for an unknown node.
  Result<Actions> SetDraining(Time now, const std::string& node, bool draining);
  // Drops a lost node with its leases and its drain. kInvalid for an attached one.
  Result<Actions> Forget(Time now, const std::string& node);

  // Lets time pass. To be called when NextDeadline() is reached; calling it more often is harmless.
  Actions Tick(Time now);
  std::optional<Time> NextDeadline() const;

  const std::map<std::string, Node>& nodes() const { return nodes_; }
  const std::map<LeaseId, Lease>& leases() const { return leases_; }
  const std::list<Waiting>& queue() const { return queue_; }
  Time recovery_end() const { return recovery_end_; }
  // Why the request at this place of the queue waits, for people.
  std::string WhyWaiting(const Waiting& waiting) const;

 private:
  // pool.cc: what every event ends with, and the lives of leases.
  Actions Finish(Time now, Actions actions);
  Lease* FindLease(const LeaseId& id);
  void Book(const Lease& lease, bool add);
  void Remove(const LeaseId& id);
  void DropHolder(Lease& lease);
  void UpdateHolding(Time now, Lease& lease);
  void Grant(Lease& lease, Actions& actions);
  // Back to its place in the queue; the lease is gone.
  void Requeue(Lease& lease, const std::string& refusal);
  // To kReleasing, or gone at once when the node is lost.
  void Release(Time now, Lease& lease, const std::string& reason, Actions& actions);
  // Gone at once, with a word to the launcher.
  void End(Lease& lease, const std::string& reason, Actions& actions);
  void ExpireIdle(Time now, Actions& actions);

  // pool_nodes.cc
  Node* FindSession(SessionId session);
  bool Admit(Time now, SessionId session, const NodeInfo& info, Actions& actions);
  void Detach(Node& node, Time now);
  void Reconcile(Time now, Node& node, const std::vector<HeldLease>& held, bool first,
                 Actions& actions);
  void LeaseReported(Time now, Node& node, Lease& lease, const HeldLease& held, Actions& actions);
  void LeaseMissing(Time now, Node& node, Lease& lease, bool first, Actions& actions);
  void AdoptUnknown(Time now, Node& node, const HeldLease& held, Actions& actions);
  bool FindDevicesAgain(const Node& node, Lease& lease) const;
  void Prepare(Time now, Node& node, const Lease& lease, Actions& actions);
  void Revoke(Time now, Node& node, const LeaseId& lease, const std::string& reason,
              Actions& actions);
  void WatchNodes(Time now, Actions& actions);
  std::optional<Time> NodeDeadline(const Node& node) const;
  Time LostUntil(const Node& node) const;

  // pool_queue.cc
  void Enqueue(Waiting waiting);
  void Schedule(Time now, Actions& actions);
  bool Start(Time now, Waiting& waiting, std::set<std::string>& taken, Actions& actions);
  void ExpireWaiting(Time now, Actions& actions);
  void TellPositions(Time now, Actions& actions);

  PoolConfig config_;
  CredentialSource& credentials_;
  std::map<std::string, Node> nodes_;
  std::map<SessionId, std::string> sessions_;
  std::map<LeaseId, Lease> leases_;
  std::map<RequestId, LeaseId> holders_;
  std::list<Waiting> queue_;
  // What a preparing lease goes back to when its node fails.
  std::map<LeaseId, Waiting> origins_;
  std::set<std::pair<Time, LeaseId>> idle_;  // By the time of release.
  std::set<std::pair<Time, RequestId>> deadlines_;
  std::set<std::string> drained_;  // By name, also of nodes not attached yet.
  std::uint64_t nodes_generation_ = 1;
  bool room_changed_ = false;   // Something may start now that could not before.
  bool queue_changed_ = false;  // Positions or reasons may differ from what was told.
  bool queue_untold_ = false;   // Somebody in the queue was told nothing yet.
  Time last_news_{0};
  Time recovery_end_{0};
  Time settling_end_{0};
  bool settling_ = false;
};

}  // namespace farwarp::pool
