#include "controller/service/core.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "farwarp/base/bytes.h"

namespace farwarp::controller {
namespace {

// How often a store that failed is tried again, and how long the clock sleeps at most.
constexpr pool::Time kRetryStore{1000};
constexpr pool::Time kLongestSleep{60'000};
// A complaint that was not heard for so long is news again.
constexpr pool::Time kSilence{60'000};
constexpr std::size_t kMaxComplaints = 1000;

// "1 vGPU", "2 vGPUs"
std::string Count(std::size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string Short(const pool::LeaseId& lease) {
  return HexEncode(lease.bytes).substr(0, 8);
}

}  // namespace

Core::Core(const Config& config, Store& store, pool::CredentialSource& credentials)
    : config_(config),
      store_(store),
      start_(std::chrono::steady_clock::now()),
      pool_(config.pool, credentials) {}

Core::~Core() {
  Stop();
}

pool::Time Core::Now() const {
  return std::chrono::duration_cast<pool::Time>(std::chrono::steady_clock::now() - start_);
}

Status Core::Start() {
  MutexLock lock(mutex_);
  Result<Stored> stored = store_.Load();
  if (!stored.ok()) return stored.status();
  if (!stored->leases.empty()) {
    spdlog::info("{} from before the restart: waiting for holders",
                 Count(stored->leases.size(), "lease"));
  }
  drained_ = stored->drained_nodes;
  pool_.Restore(Now(), std::move(stored->leases), drained_);
  clock_ = std::thread([this] { RunClock(); });
  return Status::Ok();
}

void Core::Stop() {
  {
    MutexLock lock(mutex_);
    if (!std::exchange(stopped_, true)) {
      for (const auto& [session, sink] : nodes_) sink->Stop();
      for (const auto& [request, sink] : launchers_) sink->Stop();
    }
    wake_.NotifyAll();
  }
  if (clock_.joinable()) clock_.join();
}

pool::Time Core::NextWake() {
  pool::Time next = Now() + kLongestSleep;
  if (const auto deadline = pool_.NextDeadline()) next = std::min(next, *deadline);
  for (const auto& [session, until] : nameless_) next = std::min(next, until);
  if (!store_error_.empty()) next = std::min(next, Now() + kRetryStore);
  return next;
}

void Core::RunClock() {
  MutexLock lock(mutex_);
  while (!stopped_) {
    planned_wake_ = NextWake();
    // One millisecond more: deadlines are in whole milliseconds and must have passed.
    wake_.WaitUntil(mutex_, start_ + planned_wake_ + pool::Time{1});
    if (stopped_) return;
    const pool::Time now = Now();
    for (auto at = nameless_.begin(); at != nameless_.end();) {
      if (at->second > now) {
        ++at;
        continue;
      }
      nodes_.at(at->first)->Close(pool::CloseKind::kInvalid,
                                  "the stream did not say hello in time");
      at = nameless_.erase(at);
    }
    if (!store_error_.empty()) RewriteStore();
    Carry(pool_.Tick(now));
  }
}

template <typename Event>
void Core::Apply(Event event) {
  MutexLock lock(mutex_);
  if (stopped_) return;
  Carry(event(pool_, Now()));
  if (NextWake() < planned_wake_) wake_.NotifyAll();
}

void Core::Carry(const pool::Actions& actions) {
  if (actions.empty()) return;
  Save(actions);
  for (const pool::Action& action : actions) CarryOne(action);
}

void Core::Save(const pool::Actions& actions) {
  for (const pool::Action& action : actions) {
    if (const auto* drain = std::get_if<pool::SaveDrain>(&action)) {
      drain->draining ? void(drained_.insert(drain->node)) : void(drained_.erase(drain->node));
    }
  }
  // A store that failed gets everything anew, never a part.
  if (!store_error_.empty()) return;
  if (const Status status = store_.Apply(actions); !status.ok()) {
    store_error_ = status.message();
    spdlog::error("{}; leases live in memory only until it works again", store_error_);
  }
}

void Core::RewriteStore() {
  Stored all;
  all.drained_nodes = drained_;
  for (const auto& [id, lease] : pool_.leases()) {
    if (lease.state == pool::LeaseState::kActive) all.leases.push_back(lease);
  }
  const Status status = store_.Rewrite(all);
  if (!status.ok()) {
    store_error_ = status.message();
    return;
  }
  store_error_.clear();
  spdlog::info("the state file works again; {} saved", Count(all.leases.size(), "lease"));
}

void Core::ToNode(pool::SessionId session, const pool::Action& action) {
  const auto found = nodes_.find(session);
  if (found != nodes_.end()) found->second->Send(action);
}

void Core::ToLauncher(pool::RequestId request, const pool::Action& action) {
  const auto found = launchers_.find(request);
  if (found != launchers_.end()) found->second->Tell(action);
}

void Core::CarryOne(const pool::Action& action) {
  Log(action);
  if (const auto* welcome = std::get_if<pool::SendWelcome>(&action)) {
    ToNode(welcome->session, action);
  } else if (const auto* prepare = std::get_if<pool::SendPrepare>(&action)) {
    ToNode(prepare->session, action);
  } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&action)) {
    ToNode(revoke->session, action);
  } else if (const auto* drain = std::get_if<pool::SendDrain>(&action)) {
    ToNode(drain->session, action);
  } else if (const auto* close = std::get_if<pool::CloseNode>(&action)) {
    const auto found = nodes_.find(close->session);
    if (found != nodes_.end()) found->second->Close(close->kind, close->reason);
  } else if (const auto* queued = std::get_if<pool::TellQueued>(&action)) {
    ToLauncher(queued->request, action);
  } else if (const auto* granted = std::get_if<pool::TellGranted>(&action)) {
    ToLauncher(granted->request, action);
  } else if (const auto* refused = std::get_if<pool::TellRefused>(&action)) {
    ToLauncher(refused->request, action);
  } else if (const auto* ended = std::get_if<pool::TellEnded>(&action)) {
    ToLauncher(ended->request, action);
  }
}

// False while the same complaint comes again and again.
bool Core::IsNews(const std::string& complaint) {
  const pool::Time now = Now();
  std::erase_if(complaints_, [&](const auto& entry) { return entry.second + kSilence < now; });
  // A pool of that many troubles may as well hear of them twice.
  if (complaints_.size() >= kMaxComplaints) complaints_.clear();
  return complaints_.insert_or_assign(complaint, now).second;
}

void Core::Log(const pool::Action& action) {
  if (const auto* granted = std::get_if<pool::TellGranted>(&action)) {
    spdlog::info("lease {}: {} on node {} granted", Short(granted->lease),
                 Count(granted->vgpus.size(), "vGPU"), granted->node);
  } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&action)) {
    spdlog::info("lease {} is released: {}", Short(revoke->lease), revoke->reason);
  } else if (const auto* refused = std::get_if<pool::TellRefused>(&action)) {
    spdlog::info("request {} refused: {}", refused->request, refused->reason);
  } else if (const auto* ended = std::get_if<pool::TellEnded>(&action)) {
    spdlog::warn("request {}: its lease ended: {}", ended->request, ended->reason);
  } else if (const auto* close = std::get_if<pool::CloseNode>(&action)) {
    spdlog::log(IsNews(close->reason) ? spdlog::level::warn : spdlog::level::debug,
                "node stream {} closed: {}", close->session, close->reason);
  } else if (const auto* queued = std::get_if<pool::TellQueued>(&action)) {
    spdlog::debug("request {} waits at place {}: {}", queued->request, queued->position,
                  queued->reason);
  } else if (const auto* drain = std::get_if<pool::SaveDrain>(&action)) {
    spdlog::info("node {} is {}", drain->node, drain->draining ? "draining" : "in use again");
  }
}

pool::SessionId Core::AddNode(NodeSink& sink) {
  MutexLock lock(mutex_);
  const pool::SessionId session = next_id_++;
  nodes_[session] = &sink;
  if (stopped_) {
    sink.Stop();
    return session;
  }
  nameless_[session] = Now() + config_.hello_timeout;
  if (NextWake() < planned_wake_) wake_.NotifyAll();
  return session;
}

void Core::RemoveNode(pool::SessionId session) {
  MutexLock lock(mutex_);
  nodes_.erase(session);
  nameless_.erase(session);
}

pool::RequestId Core::AddLauncher(LauncherSink& sink) {
  MutexLock lock(mutex_);
  const pool::RequestId request = next_id_++;
  launchers_[request] = &sink;
  if (stopped_) sink.Stop();
  return request;
}

void Core::RemoveLauncher(pool::RequestId request) {
  MutexLock lock(mutex_);
  launchers_.erase(request);
}

void Core::NodeAttached(pool::SessionId session, pool::NodeInfo info,
                        const std::vector<pool::HeldLease>& held) {
  Apply([&](pool::Pool& pool, pool::Time now) NO_THREAD_SAFETY_ANALYSIS {
    nameless_.erase(session);
    const std::string who = info.name + " attached: " + Count(info.devices.size(), "device") +
                            ", " + Count(held.size(), "lease") + " held, data at " +
                            info.data_endpoint;
    pool::Actions actions = pool.NodeAttached(now, session, std::move(info), held);
    const bool accepted =
        std::any_of(actions.begin(), actions.end(), [](const pool::Action& action) {
          return std::holds_alternative<pool::SendWelcome>(action);
        });
    if (accepted) spdlog::info("node {}", who);
    return actions;
  });
}

void Core::NodeReported(pool::SessionId session, const std::vector<pool::HeldLease>& held) {
  Apply([&](pool::Pool& pool, pool::Time now) { return pool.NodeReported(now, session, held); });
}

void Core::NodeAnswered(pool::SessionId session, const pool::LeaseId& lease, bool revoke,
                        const Status& answer) {
  Apply([&](pool::Pool& pool, pool::Time now) {
    if (!answer.ok()) spdlog::warn("lease {}: node answers: {}", Short(lease), answer.message());
    return pool.NodeAnswered(now, session, lease, revoke, answer);
  });
}

void Core::NodeDetached(pool::SessionId session) {
  Apply([&](pool::Pool& pool, pool::Time now) { return pool.NodeDetached(now, session); });
}

void Core::NodeLeft(pool::SessionId session) {
  Apply([&](pool::Pool& pool, pool::Time now) { return pool.NodeLeft(now, session); });
}

void Core::Requested(pool::RequestId id, pool::Request request) {
  const auto unix_ms =
      std::chrono::duration_cast<pool::Time>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  Apply([&](pool::Pool& pool, pool::Time now) {
    spdlog::info("request {}: {}@{} asks for {}", id, request.client.user, request.client.host,
                 Count(request.vgpus.size(), "vGPU"));
    return pool.Requested(now, id, std::move(request), unix_ms);
  });
}

void Core::Resumed(pool::RequestId id, const pool::LeaseId& lease, const pool::Secret& secret) {
  Apply([&](pool::Pool& pool, pool::Time now) { return pool.Resumed(now, id, lease, secret); });
}

void Core::HolderGone(pool::RequestId id) {
  Apply([&](pool::Pool& pool, pool::Time now) { return pool.HolderGone(now, id); });
}

Status Core::Released(const pool::LeaseId& lease, const pool::Secret& secret) {
  Status status = Status::Unavailable("the controller is shutting down");
  Apply([&](pool::Pool& pool, pool::Time now) {
    status = pool.CheckSecret(lease, secret);
    return status.ok() ? pool.Released(now, lease) : pool::Actions{};
  });
  return status;
}

Status Core::SetDraining(const std::string& node, bool draining) {
  Status status = Status::Unavailable("the controller is shutting down");
  Apply([&](pool::Pool& pool, pool::Time now) {
    Result<pool::Actions> result = pool.SetDraining(now, node, draining);
    status = result.status();
    return result.ok() ? std::move(*result) : pool::Actions{};
  });
  return status;
}

Status Core::Forget(const std::string& node) {
  Status status = Status::Unavailable("the controller is shutting down");
  Apply([&](pool::Pool& pool, pool::Time now) {
    Result<pool::Actions> result = pool.Forget(now, node);
    status = result.status();
    if (!result.ok()) return pool::Actions{};
    spdlog::info("node {} is forgotten", node);
    return std::move(*result);
  });
  return status;
}

std::string Core::store_error() {
  MutexLock lock(mutex_);
  return store_error_;
}

}  // namespace farwarp::controller
