#include "controller/pool/pool.h"

#include <algorithm>
#include <utility>

#include "farwarp/base/check.h"

namespace farwarp::pool {

Pool::Pool(const PoolConfig& config, CredentialSource& credentials)
    : config_(config), credentials_(credentials) {}

void Pool::Restore(Time now, std::vector<Lease> leases,
                   const std::set<std::string>& drained_nodes) {
  FARWARP_CHECK(leases_.empty() && nodes_.empty());
  recovery_end_ = now + config_.recovery;
  settling_end_ = now + config_.settling;
  settling_ = config_.settling > Time::zero();
  drained_ = drained_nodes;
  for (Lease& lease : leases) {
    lease.state = LeaseState::kActive;
    lease.holder.reset();
    lease.connections.reset();
    lease.idle_since.reset();
    lease.idle_until.reset();
    lease.restored = true;
    Node& node = nodes_[lease.node];
    node.info.name = lease.node;
    node.last_heard = now;
    node.draining = drained_.contains(lease.node);
    node.leases.insert(lease.id);
    const LeaseId id = lease.id;
    leases_.emplace(id, std::move(lease));
  }
}

Lease* Pool::FindLease(const LeaseId& id) {
  const auto found = leases_.find(id);
  return found == leases_.end() ? nullptr : &found->second;
}

void Pool::Book(const Lease& lease, bool add) {
  const auto found = nodes_.find(lease.node);
  FARWARP_CHECK(found != nodes_.end());
  Node& node = found->second;
  for (const Vgpu& vgpu : lease.vgpus) {
    for (std::size_t i = 0; i < node.info.devices.size(); ++i) {
      if (node.info.devices[i].ordinal != vgpu.device_ordinal) continue;
      DeviceUse& use = node.use[i];
      if (add) {
        use.memory_bytes += vgpu.memory_bytes;
        use.compute_percent += vgpu.compute_percent;
        ++use.vgpus;
      } else {
        use.memory_bytes -= vgpu.memory_bytes;
        use.compute_percent -= vgpu.compute_percent;
        --use.vgpus;
      }
    }
  }
  if (add) {
    node.leases.insert(lease.id);
  } else {
    node.leases.erase(lease.id);
    room_changed_ = true;
  }
}

void Pool::DropHolder(Lease& lease) {
  if (!lease.holder) return;
  holders_.erase(*lease.holder);
  lease.holder.reset();
}

void Pool::Remove(const LeaseId& id) {
  const auto found = leases_.find(id);
  FARWARP_CHECK(found != leases_.end());
  Lease& lease = found->second;
  Book(lease, false);
  DropHolder(lease);
  if (lease.idle_until) idle_.erase({*lease.idle_until, id});
  origins_.erase(id);
  leases_.erase(found);
}

// Keeps idle_since and the list of idle leases in step with who holds the lease.
void Pool::UpdateHolding(Time now, Lease& lease) {
  const bool held = lease.holder || !lease.connections || *lease.connections > 0;
  if (lease.idle_until) idle_.erase({*lease.idle_until, lease.id});
  lease.idle_until.reset();
  if (held || lease.state != LeaseState::kActive) {
    lease.idle_since.reset();
    return;
  }
  if (!lease.idle_since) lease.idle_since = now;
  Time until = *lease.idle_since + config_.lease_grace;
  if (lease.restored) until = std::max(until, recovery_end_);
  if (lease.released) until = now;
  lease.idle_until = until;
  idle_.insert({until, lease.id});
}

void Pool::Grant(Lease& lease, Actions& actions) {
  FARWARP_CHECK(lease.state == LeaseState::kPreparing && lease.holder);
  lease.state = LeaseState::kActive;
  lease.connections = 0;
  origins_.erase(lease.id);
  actions.push_back(SaveLease{lease});
  actions.push_back(
      TellGranted{*lease.holder, lease.id, lease.secret, lease.node, lease.endpoint, lease.vgpus});
}

void Pool::Requeue(Lease& lease, const std::string& refusal) {
  FARWARP_CHECK(lease.state == LeaseState::kPreparing);
  Waiting waiting = std::move(origins_.at(lease.id));
  if (!refusal.empty()) waiting.refused_by[lease.node] = refusal;
  waiting.hopeless_generation = 0;
  Remove(lease.id);
  Enqueue(std::move(waiting));
}

void Pool::Release(Time now, Lease& lease, const std::string& reason, Actions& actions) {
  if (lease.state == LeaseState::kActive) actions.push_back(EraseLease{lease.id});
  origins_.erase(lease.id);
  DropHolder(lease);
  Node& node = nodes_.at(lease.node);
  if (!node.session) {
    Remove(lease.id);
    return;
  }
  lease.state = LeaseState::kReleasing;
  UpdateHolding(now, lease);
  Revoke(now, node, lease.id, reason, actions);
}

void Pool::End(Lease& lease, const std::string& reason, Actions& actions) {
  if (lease.state == LeaseState::kActive) {
    actions.push_back(EraseLease{lease.id});
    if (lease.holder) actions.push_back(TellEnded{*lease.holder, reason});
  }
  Remove(lease.id);
}

void Pool::ExpireIdle(Time now, Actions& actions) {
  while (!idle_.empty() && idle_.begin()->first <= now) {
    Lease& lease = leases_.at(idle_.begin()->second);
    const std::string reason = lease.released
                                   ? "the launcher is done"
                                   : "neither its launcher nor a data connection is left";
    Release(now, lease, reason, actions);
  }
}

Actions Pool::Resumed(Time now, RequestId id, const LeaseId& lease_id, const Secret& secret) {
  Actions actions;
  if (const Status status = CheckSecret(lease_id, secret); !status.ok()) {
    actions.push_back(TellRefused{id, RefusalKind::kNotFound, status.message()});
    return Finish(now, std::move(actions));
  }
  Lease& lease = leases_.at(lease_id);
  if (lease.holder) {
    actions.push_back(TellEnded{*lease.holder, "another launcher took the lease over"});
    DropHolder(lease);
  }
  lease.holder = id;
  lease.restored = false;
  lease.released = false;
  holders_[id] = lease_id;
  UpdateHolding(now, lease);
  actions.push_back(
      TellGranted{id, lease.id, lease.secret, lease.node, lease.endpoint, lease.vgpus});
  return Finish(now, std::move(actions));
}

Actions Pool::HolderGone(Time now, RequestId id) {
  Actions actions;
  const auto queued =
      std::find_if(queue_.begin(), queue_.end(), [&](const Waiting& w) { return w.id == id; });
  if (queued != queue_.end()) {
    deadlines_.erase({queued->deadline, id});
    queue_.erase(queued);
    queue_changed_ = true;
    room_changed_ = true;  // Whoever stood behind it may start.
    return Finish(now, std::move(actions));
  }
  const auto held = holders_.find(id);
  if (held == holders_.end()) return actions;
  Lease& lease = leases_.at(held->second);
  if (lease.state == LeaseState::kPreparing) {
    Release(now, lease, "the launcher is gone", actions);
  } else {
    DropHolder(lease);
    UpdateHolding(now, lease);
  }
  return Finish(now, std::move(actions));
}

Status Pool::CheckSecret(const LeaseId& lease, const Secret& secret) const {
  const auto found = leases_.find(lease);
  if (found != leases_.end() && found->second.state == LeaseState::kActive) {
    unsigned difference = 0;
    for (std::size_t i = 0; i < secret.size(); ++i)
      difference |= static_cast<unsigned>(secret[i] ^ found->second.secret[i]);
    if (difference == 0) return Status::Ok();
  }
  return Status::NotFound("the controller has no such lease (any more)");
}

Actions Pool::Released(Time now, const LeaseId& lease_id) {
  Lease& lease = leases_.at(lease_id);
  lease.released = true;
  DropHolder(lease);
  UpdateHolding(now, lease);
  return Finish(now, {});
}

Actions Pool::Tick(Time now) {
  Actions actions;
  WatchNodes(now, actions);
  return Finish(now, std::move(actions));
}

Actions Pool::Finish(Time now, Actions actions) {
  if (settling_ && now >= settling_end_) {
    settling_ = false;
    queue_changed_ = true;  // The reasons for waiting differ.
  }
  ExpireIdle(now, actions);
  Schedule(now, actions);
  ExpireWaiting(now, actions);
  TellPositions(now, actions);
  return actions;
}

std::optional<Time> Pool::NextDeadline() const {
  std::optional<Time> next;
  const auto earliest = [&](Time when) { next = next ? std::min(*next, when) : when; };
  for (const auto& [name, node] : nodes_) {
    if (const auto when = NodeDeadline(node)) earliest(*when);
  }
  if (settling_ && !queue_.empty()) earliest(settling_end_);
  if (!idle_.empty()) earliest(idle_.begin()->first);
  if (!deadlines_.empty()) earliest(deadlines_.begin()->first);
  if (queue_changed_ && !queue_.empty()) earliest(last_news_ + config_.queue_news);
  return next;
}

}  // namespace farwarp::pool
