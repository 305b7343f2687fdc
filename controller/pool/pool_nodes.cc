// The pool's side of the node protocol: attach, report, answer, loss.
#include <algorithm>
#include <utility>

#include "controller/pool/pool.h"
#include "farwarp/base/bytes.h"

namespace farwarp::pool {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

// host:port, without the characters that have a meaning in a grant.
bool IsEndpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || text.size() > kMaxNameBytes + 8) return false;
  const std::string port = text.substr(colon + 1);
  if (port.empty() || port.size() > 5) return false;
  std::uint32_t number = 0;
  for (const char c : port) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (number == 0 || number > 65535) return false;
  return std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), [](char c) {
    return IsNameCharacter(c) || c == ':' || c == '[' || c == ']' || c == '%';
  });
}

Status CheckNode(const NodeInfo& info) {
  if (info.name.empty() || info.name.size() > kMaxNameBytes ||
      !std::all_of(info.name.begin(), info.name.end(), IsNameCharacter)) {
    return Status::Invalid("a node name has 1 to " + std::to_string(kMaxNameBytes) +
                           " letters, digits, dots, dashes or underscores");
  }
  if (info.instance_id.empty() || info.instance_id.size() > 64 ||
      info.version.size() > kMaxNameBytes) {
    return Status::Invalid("node " + info.name + " sent a bad instance id or version");
  }
  if (!IsEndpoint(info.data_endpoint)) {
    return Status::Invalid("node " + info.name + " gave '" + info.data_endpoint.substr(0, 80) +
                           "' as its data endpoint; it must be host:port");
  }
  if (info.devices.size() > kMaxDevicesPerNode || info.labels.size() > kMaxLabels) {
    return Status::Invalid("node " + info.name + " has too many devices or labels");
  }
  std::set<std::uint32_t> ordinals;
  for (const Device& device : info.devices) {
    if (device.memory_bytes < kMemoryUnit || device.memory_bytes > kMaxMemoryBytes ||
        device.uuid.empty() || device.uuid.size() > kMaxNameBytes ||
        device.name.size() > kMaxNameBytes || !ordinals.insert(device.ordinal).second) {
      return Status::Invalid("node " + info.name + " described device " +
                             std::to_string(device.ordinal) +
                             " badly (memory, uuid, name, or the same ordinal twice)");
    }
  }
  return Status::Ok();
}

std::string ClientText(const Client& client) {
  return client.user + "@" + client.host + ": " + client.program;
}

}  // namespace

Node* Pool::FindSession(SessionId session) {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : &nodes_.at(found->second);
}

// Decides whether this stream may speak for the node; ends an older stream that it replaces.
bool Pool::Admit(Time now, SessionId session, const NodeInfo& info, Actions& actions) {
  if (const Status status = CheckNode(info); !status.ok()) {
    actions.push_back(CloseNode{session, CloseKind::kInvalid, status.message()});
    return false;
  }
  const auto found = nodes_.find(info.name);
  if (found == nodes_.end()) {
    if (nodes_.size() < kMaxNodes) return true;
    actions.push_back(CloseNode{session, CloseKind::kInvalid, "the pool has too many nodes"});
    return false;
  }
  Node& node = found->second;
  if (!node.session) return true;
  // The same daemon on a new connection, or its successor on the same port: the old stream is dead
  // and only has not been noticed.
  if (node.info.instance_id == info.instance_id || node.info.data_endpoint == info.data_endpoint) {
    actions.push_back(CloseNode{*node.session, CloseKind::kReplaced, "the node attached again"});
    Detach(node, now);
    return true;
  }
  actions.push_back(CloseNode{session, CloseKind::kNameInUse,
                              "another node named " + info.name + " is attached (" +
                                  node.info.data_endpoint + "); choose another name"});
  return false;
}

Actions Pool::NodeAttached(Time now, SessionId session, NodeInfo info,
                           const std::vector<HeldLease>& held) {
  Actions actions;
  if (!Admit(now, session, info, actions)) return Finish(now, std::move(actions));
  Node& node = nodes_[info.name];
  node.info = std::move(info);
  node.session = session;
  node.last_heard = now;
  node.owed.clear();
  node.draining = drained_.contains(node.info.name);
  sessions_[session] = node.info.name;
  actions.push_back(SendWelcome{session});
  ++nodes_generation_;
  room_changed_ = queue_changed_ = true;

  // The devices may differ from those of the last time: find those of the leases, book anew.
  node.use.assign(node.info.devices.size(), DeviceUse{});
  const std::set<LeaseId> ids = std::exchange(node.leases, {});
  for (const LeaseId& id : ids) {
    Lease& lease = leases_.at(id);
    if (FindDevicesAgain(node, lease)) Book(lease, true);
  }
  for (const LeaseId& id : ids) {
    if (node.leases.contains(id)) continue;
    Lease& lease = leases_.at(id);
    lease.vgpus.clear();
    End(lease, "node " + node.info.name + " came back without the device of this lease", actions);
  }
  Reconcile(now, node, held, true, actions);
  if (node.draining) actions.push_back(SendDrain{session, true});
  return Finish(now, std::move(actions));
}

bool Pool::FindDevicesAgain(const Node& node, Lease& lease) const {
  for (Vgpu& vgpu : lease.vgpus) {
    const auto found =
        std::find_if(node.info.devices.begin(), node.info.devices.end(),
                     [&](const Device& device) { return device.uuid == vgpu.device_uuid; });
    if (found == node.info.devices.end()) return false;
    vgpu.device_ordinal = found->ordinal;
  }
  return true;
}

Actions Pool::NodeReported(Time now, SessionId session, const std::vector<HeldLease>& held) {
  Actions actions;
  Node* node = FindSession(session);
  if (node == nullptr) return actions;
  node->last_heard = now;
  Reconcile(now, *node, held, false, actions);
  return Finish(now, std::move(actions));
}

void Pool::Reconcile(Time now, Node& node, const std::vector<HeldLease>& held, bool first,
                     Actions& actions) {
  std::map<LeaseId, const HeldLease*> reported;
  for (const HeldLease& lease : held) reported[lease.id] = &lease;
  const std::set<LeaseId> ids = node.leases;  // The loop below changes the original.
  for (const LeaseId& id : ids) {
    Lease& lease = leases_.at(id);
    const auto found = reported.find(id);
    if (found != reported.end()) {
      LeaseReported(now, node, lease, *found->second, actions);
      reported.erase(found);
    } else {
      LeaseMissing(now, node, lease, first, actions);
    }
  }
  for (const auto& [id, lease] : reported) AdoptUnknown(now, node, *lease, actions);
}

void Pool::LeaseReported(Time now, Node& node, Lease& lease, const HeldLease& held,
                         Actions& actions) {
  for (Vgpu& vgpu : lease.vgpus) {
    for (const Vgpu& other : held.vgpus) {
      if (other.ordinal == vgpu.ordinal) vgpu.memory_used_bytes = other.memory_used_bytes;
    }
  }
  if (lease.state == LeaseState::kActive) {
    lease.connections = held.connections;
    UpdateHolding(now, lease);
  } else if (lease.state == LeaseState::kReleasing && !node.owed.contains({lease.id, true})) {
    Revoke(now, node, lease.id, "still held after it was released", actions);
  }
}

void Pool::LeaseMissing(Time now, Node& node, Lease& lease, bool first, Actions& actions) {
  switch (lease.state) {
    case LeaseState::kPreparing:
      return;  // The report left the node before the command arrived.
    case LeaseState::kReleasing:
      if (first) {
        Remove(lease.id);
      } else if (!node.owed.contains({lease.id, true})) {
        Revoke(now, node, lease.id, "not confirmed that it was released", actions);
      }
      return;
    case LeaseState::kActive:
      break;
  }
  if (node.owed.contains({lease.id, false})) return;
  // Only a hello is the node's whole truth: a status may have been put together before the lease
  // was prepared and sent after that was confirmed.
  if (first) {
    lease.connections = 0;
    for (Vgpu& vgpu : lease.vgpus) vgpu.memory_used_bytes = 0;
    UpdateHolding(now, lease);
    if (lease.idle_since && !lease.restored) {
      End(lease, "", actions);
      return;
    }
  }
  Prepare(now, node, lease, actions);
}

// A lease from before something was forgotten: its room is not free until the node has ended it.
void Pool::AdoptUnknown(Time now, Node& node, const HeldLease& held, Actions& actions) {
  if (node.owed.contains({held.id, true})) return;
  if (!leases_.contains(held.id)) {
    Lease lease;
    lease.id = held.id;
    lease.state = LeaseState::kReleasing;
    lease.node = node.info.name;
    lease.vgpus = held.vgpus;
    Book(lease, true);
    leases_.emplace(held.id, std::move(lease));
  }
  Revoke(now, node, held.id, "the controller does not know this lease", actions);
}

void Pool::Prepare(Time now, Node& node, const Lease& lease, Actions& actions) {
  node.owed[{lease.id, false}] = now;
  actions.push_back(
      SendPrepare{*node.session, lease.id, lease.secret, lease.vgpus, ClientText(lease.client)});
}

void Pool::Revoke(Time now, Node& node, const LeaseId& lease, const std::string& reason,
                  Actions& actions) {
  node.owed[{lease, true}] = now;
  actions.push_back(SendRevoke{*node.session, lease, reason});
}

Actions Pool::NodeAnswered(Time now, SessionId session, const LeaseId& lease_id, bool revoke,
                           const Status& answer) {
  Actions actions;
  Node* node = FindSession(session);
  if (node == nullptr) return actions;
  node->last_heard = now;
  if (node->owed.erase({lease_id, revoke}) == 0) return Finish(now, std::move(actions));
  Lease* lease = FindLease(lease_id);
  if (lease == nullptr || lease->node != node->info.name) return Finish(now, std::move(actions));

  if (revoke) {
    // A refused revocation is repeated when the node reports the lease again.
    if (lease->state == LeaseState::kReleasing && answer.ok()) Remove(lease_id);
  } else if (lease->state == LeaseState::kPreparing) {
    if (answer.ok()) {
      Grant(*lease, actions);
    } else {
      Requeue(*lease, answer.message().empty() ? "no reason given" : answer.message());
    }
  } else if (lease->state == LeaseState::kActive && !answer.ok()) {
    End(*lease,
        "node " + node->info.name +
            " restarted and could not take the lease again: " + answer.message(),
        actions);
  }
  return Finish(now, std::move(actions));
}

Actions Pool::NodeDetached(Time now, SessionId session) {
  Actions actions;
  Node* node = FindSession(session);
  if (node == nullptr) return actions;
  Detach(*node, now);
  return Finish(now, std::move(actions));
}

Actions Pool::NodeLeft(Time now, SessionId session) {
  Actions actions;
  Node* node = FindSession(session);
  if (node == nullptr) return actions;
  Detach(*node, now);
  if (node->leases.empty()) nodes_.erase(nodes_.find(std::string(node->info.name)));
  return Finish(now, std::move(actions));
}

// What the node had not confirmed is forgotten: if it did happen, its next hello says so.
void Pool::Detach(Node& node, Time now) {
  sessions_.erase(*node.session);
  node.session.reset();
  node.last_heard = now;
  node.owed.clear();
  ++nodes_generation_;
  room_changed_ = queue_changed_ = true;
  const std::set<LeaseId> ids = node.leases;
  for (const LeaseId& id : ids) {
    Lease& lease = leases_.at(id);
    if (lease.state == LeaseState::kPreparing) {
      Requeue(lease, "");
    } else if (lease.state == LeaseState::kReleasing) {
      Remove(id);
    }
  }
}

Time Pool::LostUntil(const Node& node) const {
  return std::max(node.last_heard + config_.node_grace, recovery_end_);
}

std::optional<Time> Pool::NodeDeadline(const Node& node) const {
  if (!node.session) {
    return node.leases.empty() ? node.last_heard + config_.node_memory : LostUntil(node);
  }
  Time first = node.last_heard;
  for (const auto& [command, sent] : node.owed) first = std::min(first, sent);
  return first + config_.heartbeat_timeout;
}

void Pool::WatchNodes(Time now, Actions& actions) {
  for (auto at = nodes_.begin(); at != nodes_.end();) {
    Node& node = at->second;
    if (NodeDeadline(node) > now) {
      ++at;
      continue;
    }
    if (node.session) {
      actions.push_back(CloseNode{*node.session, CloseKind::kSilent,
                                  "no heartbeat or answer within the timeout"});
      Detach(node, now);
      ++at;
    } else if (!node.leases.empty()) {
      const std::set<LeaseId> ids = node.leases;
      for (const LeaseId& id : ids) {
        End(leases_.at(id), "node " + node.info.name + " was lost and did not come back", actions);
      }
      ++at;
    } else {
      at = nodes_.erase(at);
      ++nodes_generation_;
      queue_changed_ = true;
    }
  }
}

Result<Actions> Pool::Forget(Time now, const std::string& name) {
  const auto found = nodes_.find(name);
  if (found != nodes_.end() && found->second.session) {
    return Status::Invalid("node " + name + " is attached; end its farwarp-server first");
  }
  const bool drained = drained_.erase(name) != 0;
  if (found == nodes_.end() && !drained) {
    return Status::NotFound("no node named '" + name.substr(0, kMaxNameBytes) +
                            "'; 'farwarp nodes' lists them");
  }
  Actions actions;
  if (drained) actions.push_back(SaveDrain{name, false});
  if (found != nodes_.end()) {
    const std::set<LeaseId> ids = found->second.leases;
    for (const LeaseId& id : ids) {
      End(leases_.at(id), "node " + name + " was lost and is forgotten", actions);
    }
    nodes_.erase(found);
    ++nodes_generation_;
    queue_changed_ = true;
  }
  return Finish(now, std::move(actions));
}

Result<Actions> Pool::SetDraining(Time now, const std::string& name, bool draining) {
  const auto found = nodes_.find(name);
  if (found == nodes_.end()) {
    // A drain outlives restarts of the controller; it can be lifted before the node is back.
    if (!draining && drained_.erase(name) != 0) return Actions{SaveDrain{name, false}};
    return Status::NotFound("no node named '" + name.substr(0, kMaxNameBytes) +
                            "'; 'farwarp nodes' lists them");
  }
  Node& node = found->second;
  Actions actions;
  if (draining != node.draining) {
    node.draining = draining;
    if (draining) {
      drained_.insert(name);
    } else {
      drained_.erase(name);
    }
    ++nodes_generation_;
    room_changed_ = queue_changed_ = true;
    actions.push_back(SaveDrain{name, draining});
    if (node.session) actions.push_back(SendDrain{*node.session, draining});
  }
  return Finish(now, std::move(actions));
}

}  // namespace farwarp::pool
