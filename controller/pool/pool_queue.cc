// The pool's queue: who may start, who waited too long, who is told what.
#include <algorithm>
#include <utility>

#include "controller/pool/pool.h"
#include "farwarp/base/bytes.h"

namespace farwarp::pool {
namespace {

// So many at the head of the queue hear a new reason with their place. Finding a reason looks at
// every node; far behind, the place says more.
constexpr std::uint32_t kFreshReasons = 64;

bool HasLabels(const Node& node, const Labels& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& label) {
    const auto found = node.info.labels.find(label.first);
    return found != node.info.labels.end() && found->second == label.second;
  });
}

bool MayServe(const Node& node, const Waiting& waiting) {
  return node.session && !node.draining && !waiting.refused_by.contains(node.info.name) &&
         HasLabels(node, waiting.request.node_labels);
}

std::string Describe(const std::vector<VgpuAsk>& asks) {
  std::string text = asks.size() == 1 ? "a vGPU" : std::to_string(asks.size()) + " vGPUs";
  const VgpuAsk& ask = asks.front();
  const bool equal =
      std::all_of(asks.begin(), asks.end(), [&](const VgpuAsk& a) { return a == ask; });
  if (!equal) return text + " of different sizes";
  text += " of ";
  if (ask.memory_bytes != 0) {
    text += FormatBytes(ask.memory_bytes);
  } else if (ask.memory_percent != 0 && ask.memory_percent != kWholeDevicePercent) {
    text += std::to_string(ask.memory_percent) + " % of a device";
  } else {
    text += "a whole device";
  }
  if (ask.compute_percent != 0)
    text += " and " + std::to_string(ask.compute_percent) + " % compute";
  return text;
}

// The device with the most of what is free (or there at all), in words.
std::string Largest(const std::map<std::string, Node>& nodes, const Waiting& waiting,
                    bool when_empty) {
  const Node* best_node = nullptr;
  DeviceRoom best;
  for (const auto& [name, node] : nodes) {
    if (!MayServe(node, waiting)) continue;
    for (const DeviceRoom& room : RoomsOf(node, when_empty)) {
      if (best_node != nullptr && room.free_bytes <= best.free_bytes) continue;
      best_node = &node;
      best = room;
    }
  }
  if (best_node == nullptr) return "no device at all";
  return FormatBytes(best.free_bytes) + " of memory and " + std::to_string(best.free_percent) +
         " % of compute on device " + std::to_string(best.device->ordinal) + " of node " +
         best_node->info.name;
}

}  // namespace

std::vector<DeviceRoom> RoomsOf(const Node& node, bool when_empty) {
  std::vector<DeviceRoom> rooms;
  for (std::size_t i = 0; i < node.info.devices.size(); ++i) {
    DeviceRoom room;
    room.device = &node.info.devices[i];
    room.total_bytes = room.device->memory_bytes / kMemoryUnit * kMemoryUnit;
    const DeviceUse use = when_empty ? DeviceUse{} : node.use[i];
    room.free_bytes = room.total_bytes - std::min(room.total_bytes, use.memory_bytes);
    room.free_percent = kWholeDevicePercent - std::min(kWholeDevicePercent, use.compute_percent);
    rooms.push_back(room);
  }
  return rooms;
}

Actions Pool::Requested(Time now, RequestId id, Request request, std::int64_t unix_ms) {
  Actions actions;
  if (const Status status = CheckRequest(request); !status.ok()) {
    actions.push_back(TellRefused{id, RefusalKind::kInvalid, status.message()});
    return Finish(now, std::move(actions));
  }
  if (queue_.size() >= config_.max_waiting) {
    actions.push_back(TellRefused{
        id, RefusalKind::kFull,
        "the queue is full: " + std::to_string(queue_.size()) + " requests wait already"});
    return Finish(now, std::move(actions));
  }
  Waiting waiting;
  waiting.id = id;
  waiting.arrived = now;
  // A year is for ever, and far from overflow.
  waiting.deadline = now + std::min<Time>(request.wait, std::chrono::hours(24 * 365));
  if (settling_) waiting.deadline = std::max(waiting.deadline, settling_end_);
  waiting.created_unix_ms = unix_ms;
  waiting.request = std::move(request);
  Enqueue(std::move(waiting));
  return Finish(now, std::move(actions));
}

// Keeps the queue in the order of arrival, also for one that comes back from a failed node.
void Pool::Enqueue(Waiting waiting) {
  waiting.told_position = 0;
  deadlines_.insert({waiting.deadline, waiting.id});
  auto at = queue_.end();
  while (at != queue_.begin()) {
    const Waiting& before = *std::prev(at);
    if (std::pair(before.arrived, before.id) < std::pair(waiting.arrived, waiting.id)) break;
    --at;
  }
  queue_.insert(at, std::move(waiting));
  queue_untold_ = queue_changed_ = room_changed_ = true;
}

void Pool::Schedule(Time now, Actions& actions) {
  if (!std::exchange(room_changed_, false)) return;
  const auto usable =
      static_cast<std::size_t>(std::count_if(nodes_.begin(), nodes_.end(), [](const auto& entry) {
        return entry.second.session && !entry.second.draining;
      }));
  std::set<std::string> taken;
  for (auto at = queue_.begin(); at != queue_.end() && taken.size() < usable;) {
    if (at->hopeless_generation == nodes_generation_ || !Start(now, *at, taken, actions)) {
      ++at;
      continue;
    }
    at = queue_.erase(at);
    queue_changed_ = true;
  }
}

// Starts the request on the best node, or adds the nodes it waits for to `taken`.
bool Pool::Start(Time now, Waiting& waiting, std::set<std::string>& taken, Actions& actions) {
  Node* best_node = nullptr;
  Placement best;
  std::vector<std::string> wanted;
  for (auto& [name, node] : nodes_) {
    if (!MayServe(node, waiting)) continue;
    auto placement =
        taken.contains(name) ? std::nullopt : Place(waiting.request.vgpus, RoomsOf(node, false));
    if (!placement) {
      if (Place(waiting.request.vgpus, RoomsOf(node, true))) wanted.push_back(name);
    } else if (best_node == nullptr || placement->leftover_bytes < best.leftover_bytes) {
      best_node = &node;
      best = std::move(*placement);
    }
  }
  if (best_node == nullptr) {
    if (wanted.empty()) waiting.hopeless_generation = nodes_generation_;
    taken.insert(wanted.begin(), wanted.end());
    return false;
  }
  const Credentials credentials = credentials_.Next();
  Lease lease;
  lease.id = credentials.id;
  lease.secret = credentials.secret;
  lease.node = best_node->info.name;
  lease.endpoint = best_node->info.data_endpoint;
  lease.vgpus = std::move(best.vgpus);
  lease.client = waiting.request.client;
  lease.created_unix_ms = waiting.created_unix_ms;
  lease.holder = waiting.id;
  holders_[waiting.id] = lease.id;
  deadlines_.erase({waiting.deadline, waiting.id});
  origins_[lease.id] = std::move(waiting);
  Book(lease, true);
  Prepare(now, *best_node, lease, actions);
  leases_.emplace(credentials.id, std::move(lease));
  return true;
}

void Pool::ExpireWaiting(Time now, Actions& actions) {
  bool any = false;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const RequestId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    const auto at =
        std::find_if(queue_.begin(), queue_.end(), [&](const Waiting& w) { return w.id == id; });
    const bool waited = at->request.wait > Time::zero();
    actions.push_back(
        TellRefused{id, waited ? RefusalKind::kExpired : RefusalKind::kFull, WhyWaiting(*at)});
    queue_.erase(at);
    any = queue_changed_ = true;
  }
  if (!any) return;
  room_changed_ = true;  // Whoever stood behind them may start.
  Schedule(now, actions);
}

void Pool::TellPositions(Time now, Actions& actions) {
  const bool news = queue_changed_ && now >= last_news_ + config_.queue_news;
  if (!news && !queue_untold_) return;
  if (news) {
    queue_changed_ = false;
    last_news_ = now;
  }
  queue_untold_ = false;
  std::uint32_t position = 0;
  for (Waiting& waiting : queue_) {
    ++position;
    if (!news && waiting.told_position != 0) continue;
    const bool fresh = waiting.told_position == 0 || position <= kFreshReasons;
    std::string reason = fresh ? WhyWaiting(waiting) : waiting.told_reason;
    if (position == waiting.told_position && reason == waiting.told_reason) continue;
    waiting.told_position = position;
    waiting.told_reason = reason;
    actions.push_back(TellQueued{waiting.id, position, static_cast<std::uint32_t>(queue_.size()),
                                 std::move(reason)});
  }
}

std::string Pool::WhyWaiting(const Waiting& waiting) const {
  std::size_t attached = 0, labelled = 0;
  bool fits_now = false, fits_empty = false, fits_draining = false;
  for (const auto& [name, node] : nodes_) {
    if (!node.session) continue;
    ++attached;
    if (!HasLabels(node, waiting.request.node_labels)) continue;
    ++labelled;
    if (waiting.refused_by.contains(name)) continue;
    if (!Place(waiting.request.vgpus, RoomsOf(node, true))) continue;
    if (node.draining) {
      fits_draining = true;
      continue;
    }
    fits_empty = true;
    if (Place(waiting.request.vgpus, RoomsOf(node, false))) fits_now = true;
  }
  const std::string asked = Describe(waiting.request.vgpus);
  if (settling_ && !fits_now && !fits_empty) {
    return "the controller has just started and gives GPU nodes time to attach";
  }
  if (attached == 0) {
    return nodes_.empty() ? "no GPU node is attached to the controller"
                          : "none of the pool's nodes is attached to the controller now";
  }
  if (labelled == 0) return "no attached node carries the labels that were asked for";
  if (fits_now) return "earlier requests come first";
  if (fits_empty) {
    return asked + (waiting.request.vgpus.size() == 1 ? " does" : " do") +
           " not fit now; the most free is " + Largest(nodes_, waiting, false);
  }
  if (!waiting.refused_by.empty()) {
    const auto& [node, reason] = *waiting.refused_by.begin();
    return "node " + node + " refused: " + reason;
  }
  if (fits_draining) return "the nodes that are large enough are draining";
  return asked +
         " will not fit any one node, and a lease is placed on one node; the largest device is " +
         Largest(nodes_, waiting, true);
}

}  // namespace farwarp::pool
