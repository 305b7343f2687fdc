#include "tests/sim/pool_world.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "farwarp/base/bytes.h"

namespace farwarp::pool {
namespace {

class SeededCredentials : public CredentialSource {
 public:
  explicit SeededCredentials(std::uint64_t seed) : random_(seed) {}
  Credentials Next() override {
    Credentials credentials;
    for (auto& byte : credentials.id.bytes) byte = static_cast<std::uint8_t>(random_.Next());
    for (auto& byte : credentials.secret) byte = static_cast<std::uint8_t>(random_.Next());
    return credentials;
  }

 private:
  Random random_;
};

}  // namespace

std::uint64_t Random::Next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void Tally::Add(const Tally& other) {
  granted += other.granted, expired += other.expired, refused += other.refused;
  ended += other.ended, revoked += other.revoked, lost_nodes += other.lost_nodes;
  node_restarts += other.node_restarts, controller_restarts += other.controller_restarts;
  resumed += other.resumed, killed += other.killed, node_refusals += other.node_refusals;
  adopted += other.adopted;
}

World::World(std::uint64_t seed, int nodes, int launchers)
    : seed_(seed),
      random_(seed),
      credentials_(std::make_unique<SeededCredentials>(seed ^ 0xc0ffee)),
      pool_(std::make_unique<Pool>(config_, *credentials_)),
      launchers_(static_cast<std::size_t>(launchers)) {
  pool_->Restore(now_, {}, {});
  for (int i = 0; i < nodes; ++i) {
    NodeTruth node;
    node.info.name = "n" + std::to_string(i);
    node.info.instance_id = node.info.name + "-0";
    node.info.data_endpoint = node.info.name + ":1";
    for (std::uint32_t d = 0; d < 1 + random_.Below(3); ++d) {
      Device device;
      device.ordinal = d;
      device.uuid = "GPU-" + node.info.name + "-" + std::to_string(d);
      device.memory_bytes = (4 + random_.Below(12)) * kGiB + random_.Below(kMiB);
      node.info.devices.push_back(device);
    }
    nodes_.push_back(std::move(node));
  }
}

void World::Check(bool condition, const std::string& promise) const {
  if (condition) return;
  throw Broken("broken promise: " + promise + "; seed " + std::to_string(seed_) + ", step " +
               std::to_string(steps_));
}

std::vector<HeldLease> World::HeldBy(const NodeTruth& node) const {
  std::vector<HeldLease> held;
  for (const auto& [id, lease] : node.held) held.push_back({id, lease.connections, lease.vgpus});
  return held;
}

void World::Attach(NodeTruth& node) {
  if (!node.running || node.session) return;
  node.session = next_id_++;
  node.inbox.clear();
  node.earlier = HeldBy(node);
  node.next_report = now_ + Time{1000};
  Carry(pool_->NodeAttached(now_, *node.session, node.info, HeldBy(node)));
}

void World::Report(NodeTruth& node) {
  if (!node.session) return;
  node.next_report = now_ + Time{1000};
  // A report may have been put together before commands that were answered before it is sent.
  std::vector<HeldLease> held = HeldBy(node);
  if (random_.Chance(5)) held = node.earlier;
  node.earlier = HeldBy(node);
  Carry(pool_->NodeReported(now_, *node.session, held));
}

// Commands under way are lost, and the answers to those that arrived.
void World::LoseStream(NodeTruth& node) {
  if (!node.session) return;
  const SessionId session = *node.session;
  node.session.reset();
  node.inbox.clear();
  ++tally_.lost_nodes;
  // Sometimes the controller does not notice, and must find out by the silence.
  if (random_.Chance(70)) Carry(pool_->NodeDetached(now_, session));
}

void World::RestartNode(NodeTruth& node) {
  LoseStream(node);
  for (const auto& [id, held] : node.held) {
    for (Launcher& launcher : launchers_) {
      if (launcher.state == Launcher::State::kGranted && launcher.lease == id)
        launcher.connections = 0;
    }
  }
  node.held.clear();
  node.info.instance_id = node.info.name + "-" + std::to_string(next_id_++);
  node.running = random_.Chance(80);
  // Sometimes a device stays away, or one that was away is back.
  if (random_.Chance(15) && node.info.devices.size() > 1) {
    node.away.push_back(node.info.devices.back());
    node.info.devices.pop_back();
  } else if (random_.Chance(40) && !node.away.empty()) {
    node.info.devices.push_back(node.away.back());
    node.away.pop_back();
  }
  ++tally_.node_restarts;
}

void World::RestartController() {
  ++tally_.controller_restarts;
  std::vector<Lease> leases;
  for (const auto& [id, lease] : disk_) leases.push_back(lease);
  pool_ = std::make_unique<Pool>(config_, *credentials_);
  for (NodeTruth& node : nodes_) {
    node.session.reset();
    node.inbox.clear();
  }
  for (Launcher& launcher : launchers_) {
    if (!launcher.stream) continue;
    final_.insert(*launcher.stream);
    launcher.stream.reset();
  }
  pool_->Restore(now_, std::move(leases), drained_);
}

void World::DeliverToNode(NodeTruth& node) {
  if (node.inbox.empty() || !node.session) return;
  const Action action = std::move(node.inbox.front());
  node.inbox.pop_front();
  const bool answer_lost = random_.Chance(3);
  if (const auto* prepare = std::get_if<SendPrepare>(&action)) {
    Status answer;
    if (random_.Chance(4)) {
      answer = Status::Internal("cannot");
      ++tally_.node_refusals;
      node.held.erase(prepare->lease);
    } else {
      Held& held = node.held[prepare->lease];
      held.vgpus = prepare->vgpus;
    }
    CheckDevices();
    if (answer_lost) return LoseStream(node);
    Carry(pool_->NodeAnswered(now_, *node.session, prepare->lease, false, answer));
  } else if (const auto* revoke = std::get_if<SendRevoke>(&action)) {
    ++tally_.revoked;
    if (random_.Chance(3)) {  // Could not; the controller asks again.
      Carry(
          pool_->NodeAnswered(now_, *node.session, revoke->lease, true, Status::Internal("busy")));
      return;
    }
    for (Launcher& launcher : launchers_) {
      if (launcher.lease == revoke->lease) launcher.connections = 0;
    }
    node.held.erase(revoke->lease);
    if (answer_lost) return LoseStream(node);
    Carry(pool_->NodeAnswered(now_, *node.session, revoke->lease, true, Status::Ok()));
  }
}

World::Launcher& World::Owner(RequestId request) {
  const auto found = owners_.find(request);
  Check(found != owners_.end(), "an answer belongs to a request");
  return launchers_[found->second];
}

void World::StreamEnded(RequestId request, bool lease_ended) {
  Check(final_.insert(request).second, "a request is told its end once");
  Launcher& launcher = Owner(request);
  if (launcher.stream != request) return;
  launcher.stream.reset();
  if (launcher.state == Launcher::State::kAsking) {
    Check(!lease_ended, "a lease ends only after it was granted");
    launcher.state = Launcher::State::kIdle;
  } else if (lease_ended) {
    launcher.state = Launcher::State::kIdle;
    launcher.connections = 0;
  }
}

void World::Granted(const TellGranted& granted) {
  Check(disk_.contains(granted.lease), "a lease is on disk before its client knows it");
  Check(!final_.contains(granted.request), "nothing is granted after the end");
  Launcher& launcher = Owner(granted.request);
  Check(launcher.stream == granted.request, "a grant goes to an open stream");
  const auto node = std::find_if(nodes_.begin(), nodes_.end(),
                                 [&](const NodeTruth& n) { return n.info.name == granted.node; });
  Check(node != nodes_.end(), "a grant names a node");
  if (launcher.state == Launcher::State::kGranted) {
    ++tally_.resumed;
    Check(launcher.lease == granted.lease, "a resumed lease is the same lease");
    return;
  }
  Check(node->held.contains(granted.lease), "a client learns of a lease after its node");
  for (const Launcher& other : launchers_) {
    Check(other.state != Launcher::State::kGranted || other.lease != granted.lease,
          "one lease has one client");
  }
  ++tally_.granted;
  launcher.state = Launcher::State::kGranted;
  launcher.lease = granted.lease;
  launcher.secret = granted.secret;
  launcher.node = static_cast<std::size_t>(node - nodes_.begin());
}

void World::ToNode(SessionId session, const Action& action) {
  for (NodeTruth& node : nodes_) {
    if (node.session == session) node.inbox.push_back(action);
  }
}

void World::CarryOne(const Action& action) {
  if (const auto* prepare = std::get_if<SendPrepare>(&action)) {
    ToNode(prepare->session, action);
  } else if (const auto* revoke = std::get_if<SendRevoke>(&action)) {
    if (revoke->reason.find("does not know") != std::string::npos) ++tally_.adopted;
    ToNode(revoke->session, action);
  } else if (const auto* close = std::get_if<CloseNode>(&action)) {
    for (NodeTruth& node : nodes_) {
      if (node.session == close->session) node.session.reset(), node.inbox.clear();
    }
  } else if (const auto* granted = std::get_if<TellGranted>(&action)) {
    Granted(*granted);
  } else if (const auto* refused = std::get_if<TellRefused>(&action)) {
    ++(refused->kind == RefusalKind::kExpired ? tally_.expired : tally_.refused);
    Check(!refused->reason.empty(), "a refusal has a reason");
    Launcher& launcher = Owner(refused->request);
    const bool lost = refused->kind == RefusalKind::kNotFound;
    StreamEnded(refused->request, lost && launcher.state == Launcher::State::kGranted);
  } else if (const auto* ended = std::get_if<TellEnded>(&action)) {
    ++tally_.ended;
    StreamEnded(ended->request, true);
  } else if (const auto* queued = std::get_if<TellQueued>(&action)) {
    Check(!final_.contains(queued->request) && !queued->reason.empty() && queued->position > 0 &&
              queued->position <= queued->waiting,
          "queue news are complete and go to the living");
  } else if (const auto* save = std::get_if<SaveLease>(&action)) {
    Check(disk_.emplace(save->lease.id, save->lease).second, "a lease is saved once");
  } else if (const auto* erase = std::get_if<EraseLease>(&action)) {
    Check(disk_.erase(erase->lease) == 1, "only saved leases are erased");
  } else if (const auto* drain = std::get_if<SaveDrain>(&action)) {
    drain->draining ? void(drained_.insert(drain->node)) : void(drained_.erase(drain->node));
  }
}

void World::Carry(Actions actions) {
  for (const Action& action : actions) CarryOne(action);
}

void World::Ask(Launcher& launcher) {
  if (launcher.state == Launcher::State::kIdle) {
    Request request;
    const std::uint64_t count = 1 + random_.Below(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      VgpuAsk ask;
      if (random_.Chance(60)) {
        ask.memory_bytes = 1 + random_.Below(6 * kGiB);
      } else {
        ask.memory_percent = static_cast<std::uint32_t>(1 + random_.Below(100));
      }
      if (random_.Chance(40))
        ask.compute_percent = static_cast<std::uint32_t>(1 + random_.Below(100));
      request.vgpus.push_back(ask);
    }
    request.wait = random_.Chance(20) ? Time{0} : Time{1 + static_cast<int>(random_.Below(60'000))};
    launcher.state = Launcher::State::kAsking;
    launcher.deadline = now_ + request.wait;
    const RequestId id = next_id_++;
    launcher.stream = id;
    owners_[id] = static_cast<std::size_t>(&launcher - launchers_.data());
    Carry(pool_->Requested(now_, id, std::move(request), 0));
  } else if (!launcher.stream) {
    if (launcher.state == Launcher::State::kAsking) {  // The controller restarted: ask anew.
      launcher.state = Launcher::State::kIdle;
      return;
    }
    const RequestId id = next_id_++;
    launcher.stream = id;
    owners_[id] = static_cast<std::size_t>(&launcher - launchers_.data());
    Carry(pool_->Resumed(now_, id, launcher.lease, launcher.secret));
  }
}

// kill -9: the stream ends; the program's connections may outlive the launcher for a while.
void World::Kill(Launcher& launcher, bool connections_too) {
  ++tally_.killed;
  if (launcher.state == Launcher::State::kGranted && connections_too) {
    NodeTruth& node = nodes_[launcher.node];
    const auto held = node.held.find(launcher.lease);
    if (held != node.held.end()) held->second.connections = 0;
    launcher.connections = 0;
    Report(node);
  }
  const auto stream = std::exchange(launcher.stream, std::nullopt);
  launcher.state = Launcher::State::kIdle;
  if (!stream) return;
  final_.insert(*stream);
  Carry(pool_->HolderGone(now_, *stream));
}

void World::Finish(Launcher& launcher) {
  if (launcher.state != Launcher::State::kGranted || !launcher.stream) return;
  NodeTruth& node = nodes_[launcher.node];
  const auto held = node.held.find(launcher.lease);
  if (held != node.held.end()) held->second.connections = 0;
  Report(node);
  if (!launcher.stream) return;
  const RequestId stream = *std::exchange(launcher.stream, std::nullopt);
  launcher.state = Launcher::State::kIdle;
  launcher.connections = 0;
  final_.insert(stream);
  Check(pool_->CheckSecret(launcher.lease, launcher.secret).ok(), "a held lease is known");
  Carry(pool_->Released(now_, launcher.lease));
  Carry(pool_->HolderGone(now_, stream));
}

void World::Connect(Launcher& launcher) {
  if (launcher.state != Launcher::State::kGranted) return;
  NodeTruth& node = nodes_[launcher.node];
  const auto held = node.held.find(launcher.lease);
  if (!node.running || held == node.held.end()) return;
  launcher.connections = static_cast<std::uint32_t>(random_.Below(3));
  held->second.connections = launcher.connections;
  Report(node);
}

void World::Advance(Time duration) {
  const Time until = now_ + duration;
  while (now_ < until) {
    Time next = until;
    if (const auto deadline = pool_->NextDeadline()) next = std::min(next, *deadline);
    for (const NodeTruth& node : nodes_) {
      if (node.session) next = std::min(next, std::max(node.next_report, now_ + Time{1}));
    }
    now_ = std::max(next, now_);
    Carry(pool_->Tick(now_));
    const auto deadline = pool_->NextDeadline();
    Check(!deadline || *deadline > now_, "after a tick nothing is due");
    for (NodeTruth& node : nodes_) {
      if (node.session && node.next_report <= now_) Report(node);
    }
    if (now_ == until) break;
  }
}

void World::Step() {
  ++steps_;
  NodeTruth& node = nodes_[random_.Below(nodes_.size())];
  Launcher& launcher = launchers_[random_.Below(launchers_.size())];
  const std::uint64_t dice = random_.Below(1000);
  if (dice < 300) {
    for (int i = 0; i < 4; ++i) DeliverToNode(nodes_[random_.Below(nodes_.size())]);
  } else if (dice < 550) {
    Ask(launcher);
  } else if (dice < 650) {
    Connect(launcher);
  } else if (dice < 720) {
    Finish(launcher);
  } else if (dice < 770) {
    Kill(launcher, random_.Chance(50));
  } else if (dice < 850) {
    node.running = true;
    Attach(node);
  } else if (dice < 870) {
    LoseStream(node);
  } else if (dice < 880) {
    RestartNode(node);
  } else if (dice < 885) {
    RestartController();
  } else if (dice < 895) {
    if (auto actions = pool_->SetDraining(now_, node.info.name, random_.Chance(40)); actions.ok())
      Carry(std::move(*actions));
  } else if (dice < 900) {
    Advance(Time{static_cast<int>(random_.Below(40'000))});
  } else {
    Advance(Time{static_cast<int>(random_.Below(1500))});
  }
  CheckDevices();
  CheckLeases();
  CheckQueue();
}

// The truth on the nodes, and the pool's books, against what the devices have.
void World::CheckDevices() const {
  for (const NodeTruth& node : nodes_) {
    for (const Device& device : node.info.devices) {
      std::uint64_t bytes = 0;
      std::uint32_t percent = 0;
      for (const auto& [id, held] : node.held) {
        for (const Vgpu& vgpu : held.vgpus) {
          if (vgpu.device_uuid != device.uuid) continue;
          bytes += vgpu.memory_bytes;
          percent += vgpu.compute_percent;
        }
      }
      Check(bytes <= device.memory_bytes && percent <= 100, "no device is oversubscribed");
    }
  }
}

void World::CheckLeases() const {
  // A late report may show a lease that is gone: booked until the node denies it, promised to
  // nobody.
  std::map<std::pair<std::string, std::uint32_t>, DeviceUse> booked;
  std::map<std::pair<std::string, std::uint32_t>, DeviceUse> promised;
  std::size_t active = 0;
  for (const auto& [id, lease] : pool_->leases()) {
    Check(pool_->nodes().at(lease.node).leases.contains(id), "a node knows its leases");
    if (lease.state == LeaseState::kActive) {
      ++active;
      Check(disk_.contains(id), "an active lease is on disk");
    }
    for (const Vgpu& vgpu : lease.vgpus) {
      DeviceUse& use = booked[{lease.node, vgpu.device_ordinal}];
      use.memory_bytes += vgpu.memory_bytes;
      use.compute_percent += vgpu.compute_percent;
      if (lease.state == LeaseState::kReleasing) continue;
      DeviceUse& promise = promised[{lease.node, vgpu.device_ordinal}];
      promise.memory_bytes += vgpu.memory_bytes;
      promise.compute_percent += vgpu.compute_percent;
    }
  }
  Check(active == disk_.size(), "the disk holds the active leases and nothing else");
  for (const auto& [name, node] : pool_->nodes()) {
    for (std::size_t i = 0; i < node.info.devices.size(); ++i) {
      const DeviceUse& use = node.use[i];
      const DeviceUse& expected = booked[{name, node.info.devices[i].ordinal}];
      Check(use.memory_bytes == expected.memory_bytes &&
                use.compute_percent == expected.compute_percent,
            "a device's books are the sum of its leases");
      const DeviceUse& promise = promised[{name, node.info.devices[i].ordinal}];
      Check(promise.memory_bytes <= node.info.devices[i].memory_bytes &&
                promise.compute_percent <= 100,
            "the pool promises no more than there is");
    }
  }
  for (const Waiting& waiting : pool_->queue()) {
    const auto owner = owners_.find(waiting.id);
    Check(owner != owners_.end() && launchers_[owner->second].stream == waiting.id,
          "only open streams wait");
    Check(waiting.deadline > now_, "nobody waits beyond the deadline");
  }
  for (const Launcher& launcher : launchers_) {
    if (launcher.state != Launcher::State::kGranted || !launcher.stream) continue;
    const auto lease = pool_->leases().find(launcher.lease);
    Check(lease != pool_->leases().end() && lease->second.holder == launcher.stream,
          "no lease is lost while its launcher holds it");
  }
}

// Nobody waits for nothing: whoever waits fits no node, or an earlier request wants that node.
void World::CheckQueue() const {
  std::set<std::string> wanted;
  for (const Waiting& waiting : pool_->queue()) {
    for (const auto& [name, node] : pool_->nodes()) {
      if (!node.session || node.draining || waiting.refused_by.contains(name)) continue;
      if (wanted.contains(name)) continue;
      Check(!Place(waiting.request.vgpus, RoomsOf(node, false)), "who can start does start");
      if (Place(waiting.request.vgpus, RoomsOf(node, true))) wanted.insert(name);
    }
  }
}

void World::Settle() {
  const auto quiet = [&](Time duration) {
    for (Time passed{0}; passed < duration; passed += Time{100}) {
      for (NodeTruth& node : nodes_) {
        node.running = true;
        if (random_.Chance(30)) Attach(node);
        for (int i = 0; i < 20; ++i) DeliverToNode(node);
      }
      Advance(Time{100});
      CheckDevices();
      CheckLeases();
    }
  };
  for (NodeTruth& node : nodes_) {
    if (auto actions = pool_->SetDraining(now_, node.info.name, false); actions.ok())
      Carry(std::move(*actions));
  }
  quiet(Time{10'000});
  // Whoever holds a lease and lost the stream comes back; whoever waits is answered in time.
  for (Launcher& launcher : launchers_) {
    if (launcher.state == Launcher::State::kGranted) Ask(launcher);
  }
  quiet(Time{61'000});
  for (const Launcher& launcher : launchers_) {
    Check(!(launcher.state == Launcher::State::kAsking && launcher.stream),
          "every request ends granted, expired or refused");
  }
  for (Launcher& launcher : launchers_) Kill(launcher, true);
  for (NodeTruth& node : nodes_) {  // Programs that outlived their launchers end, too.
    for (auto& [id, held] : node.held) held.connections = 0;
  }
  quiet(Time{75'000});
  Check(pool_->leases().empty() && pool_->queue().empty() && disk_.empty(),
        "in the end everything is released");
  for (const NodeTruth& node : nodes_) Check(node.held.empty(), "in the end no node holds a lease");
}

}  // namespace farwarp::pool
