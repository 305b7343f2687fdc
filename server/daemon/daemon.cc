#include "server/daemon/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "farwarp/base/bytes.h"

namespace farwarp::server {
namespace {

constexpr std::chrono::milliseconds kSweepInterval{1000};
constexpr std::chrono::milliseconds kLingerTime{1000};
constexpr std::size_t kMaxLingering = 256;
constexpr std::size_t kMaxShownName = 64;  // Of a program, which names itself.

// A lease as logs name it: enough to tell leases apart, and never a secret.
std::string ShortId(const wire::LeaseId& id) {
  return HexEncode(id).substr(0, 8);
}

bool HasHungUp(int socket) {
  pollfd wanted{socket, POLLRDHUP, 0};
  return ::poll(&wanted, 1, 0) > 0 && (wanted.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Result<UniqueFd> WriteBrief(const WorkerBrief& brief) {
  const wire::Buffer payload = brief.Encode();
  UniqueFd fd(::memfd_create("farwarp-brief", MFD_CLOEXEC));
  if (!fd.valid()) return Status::FromErrno("memfd_create", errno);
  if (::pwrite(fd.get(), payload.data(), payload.size(), 0) !=
      static_cast<ssize_t>(payload.size())) {
    return Status::FromErrno("cannot write the worker's brief", errno);
  }
  return fd;
}

}  // namespace

struct Daemon::Lease {
  LeaseOffer offer;
  std::shared_ptr<QuotaBook> quota;
  std::uint32_t connections = 0;
  std::chrono::steady_clock::time_point unused_since = std::chrono::steady_clock::now();
  bool ending = false;
  std::vector<Done> waiting;  // For its end.
};

struct Daemon::Worker {
  Lease* lease = nullptr;  // Outlives its workers.
  ChildProcess process;
  UniqueFd socket;   // The client's; see above.
  UniqueFd control;  // To the worker.
  std::uint32_t slot = 0;
  std::string who;  // "10.0.0.7:41234 (python, process 4711)"
  wire::Farewell farewell{wire::RefusalCode::kWorkerDied, ""};
  bool ending = false;  // Its end is expected.
  bool client_gone = false;
  EventLoop::TimerId grace = 0;
  std::string kill_reason;
};

Daemon::Daemon(EventLoop& loop, const Options& options)
    : loop_(loop),
      options_(options),
      gate_(
          loop, options.gate,
          [this](const wire::LeaseId& id) -> const wire::LeaseSecret* {
            const auto lease = leases_.find(id);
            if (lease == leases_.end() || lease->second->ending) return nullptr;
            return &lease->second->offer.secret;
          },
          [this](AdmittedClient client) { Admit(std::move(client)); }) {
  sweep_ = loop_.After(kSweepInterval, [this] { DropUnused(); });
}

Daemon::~Daemon() {
  loop_.Cancel(sweep_);
  for (Worker& worker : workers_) {
    loop_.Cancel(worker.grace);
    loop_.Remove(worker.process.pidfd.get());
    loop_.Remove(worker.socket.get());
    KillGroup(worker.process);
    Reap(worker.process);
  }
}

Status Daemon::Listen(UniqueFd listener) {
  return gate_.Listen(std::move(listener));
}

Status Daemon::PrepareLease(LeaseOffer offer) {
  if (stopping_) return Status::Unavailable("the node is shutting down");
  const auto held = leases_.find(offer.id);
  if (held != leases_.end()) {
    if (held->second->ending) return Status::Unavailable("the lease is just ending on this node");
    return Status::Ok();
  }
  std::vector<std::uint64_t> limits;
  for (const BriefVgpu& vgpu : offer.vgpus) limits.push_back(vgpu.memory_bytes);
  Result<QuotaBook> quota = QuotaBook::Create(limits);
  if (!quota.ok()) return quota.status();
  auto lease = std::make_unique<Lease>();
  lease->offer = std::move(offer);
  lease->quota = std::make_shared<QuotaBook>(std::move(*quota));
  FARWARP_LOG(kInfo, "lease %s: %zu vGPUs for %s", ShortId(lease->offer.id).c_str(),
              lease->offer.vgpus.size(), lease->offer.client.c_str());
  const wire::LeaseId id = lease->offer.id;
  leases_.emplace(id, std::move(lease));
  Changed();
  return Status::Ok();
}

void Daemon::RevokeLease(const wire::LeaseId& id, const std::string& reason, Done done) {
  const auto found = leases_.find(id);
  if (found == leases_.end()) return done(Status::Ok());
  Lease& lease = *found->second;
  FARWARP_LOG(kInfo, "lease %s ends: %s", ShortId(id).c_str(), reason.c_str());
  lease.ending = true;
  lease.waiting.push_back(std::move(done));
  for (Worker& worker : workers_) {
    if (worker.lease == &lease) {
      EndWorker(worker, wire::RefusalCode::kRevoked, "the lease was taken back: " + reason);
    }
  }
  FinishLease(lease);
}

void Daemon::FinishLease(Lease& lease) {
  if (!lease.ending || lease.connections != 0) return;
  const std::vector<Done> waiting = std::move(lease.waiting);
  leases_.erase(lease.offer.id);
  Changed();
  for (const Done& done : waiting) done(Status::Ok());
}

void Daemon::SetDraining(bool draining) {
  if (draining_ != draining) FARWARP_LOG(kInfo, "%s", draining ? "draining" : "no longer draining");
  draining_ = draining;
}

void Daemon::SetAttached(bool attached) {
  if (attached_ == attached) return;
  attached_ = attached;
  // The time without a controller counts from now.
  for (const auto& [id, lease] : leases_) lease->unused_since = std::chrono::steady_clock::now();
}

void Daemon::DropUnused() {
  sweep_ = loop_.After(kSweepInterval, [this] { DropUnused(); });
  if (attached_) return;
  const auto now = std::chrono::steady_clock::now();
  std::vector<wire::LeaseId> unused;
  for (const auto& [id, lease] : leases_) {
    const auto timeout = lease->offer.unused_timeout;
    if (timeout.count() != 0 && !lease->ending && lease->connections == 0 &&
        now - lease->unused_since > timeout) {
      unused.push_back(id);
    }
  }
  for (const wire::LeaseId& id : unused) {
    RevokeLease(id, "unused while the controller is away", [](const Status&) {});
  }
}

void Daemon::Changed() {
  std::vector<LeaseState> states;
  for (const auto& [id, lease] : leases_) {
    states.push_back(
        {id, lease->connections, lease->offer.vgpus, lease->offer.device_uuids, lease->quota});
  }
  {
    const MutexLock lock(states_mutex_);
    states_ = std::move(states);
  }
  if (changed_) changed_();
}

std::vector<LeaseState> Daemon::States() const {
  const MutexLock lock(states_mutex_);
  return states_;
}

void Daemon::Admit(AdmittedClient client) {
  const auto refuse = [&client](wire::RefusalCode code, const std::string& reason) {
    FARWARP_LOG(kWarn, "refused %s: %s", client.peer.c_str(), reason.c_str());
    SendFarewell(client.socket.get(), wire::FrameKind::kRefused, {code, reason});
  };
  const auto found = leases_.find(client.hello.lease);
  if (found == leases_.end() || found->second->ending || stopping_) {
    return refuse(wire::RefusalCode::kRevoked, "the lease has ended");
  }
  if (workers_.size() >= options_.max_connections) {
    return refuse(wire::RefusalCode::kBusy,
                  "the node already serves " + std::to_string(workers_.size()) + " programs");
  }
  const Status started = StartWorker(*found->second, client);
  if (started.ok()) return;
  refuse(
      started.code() == StatusCode::kLimit ? wire::RefusalCode::kBusy : wire::RefusalCode::kDriver,
      started.message());
}

Status Daemon::StartWorker(Lease& lease, AdmittedClient& client) {
  WorkerBrief brief;
  brief.daemon_pid = static_cast<std::uint32_t>(::getpid());
  brief.driver = options_.driver;
  brief.fresh_memory = options_.fresh_memory;
  brief.lease = lease.offer.id;
  brief.log_level = static_cast<std::uint32_t>(options_.worker_log);
  brief.memory_limit = options_.worker_memory;
  brief.heartbeat_ms = static_cast<std::uint32_t>(options_.heartbeat.count());
  brief.client_pause_ms = static_cast<std::uint32_t>(options_.client_pause.count());
  brief.vgpus = lease.offer.vgpus;
  brief.hello = std::move(client.hello_payload);
  brief.proof = std::move(client.proof_payload);
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return Status::FromErrno("socketpair", errno);
  }
  UniqueFd control(ends[0]);
  const UniqueFd worker_control(ends[1]);
  Result<std::uint32_t> slot = lease.quota->TakeSlot();
  if (!slot.ok()) return slot.status();
  brief.quota_slot = *slot;
  Result<UniqueFd> brief_fd = WriteBrief(brief);
  if (!brief_fd.ok()) {
    lease.quota->FreeSlot(*slot);
    return brief_fd.status();
  }
  const std::pair<int, int> fds[] = {{client.socket.get(), kSocketFd},
                                     {lease.quota->fd(), kQuotaFd},
                                     {brief_fd->get(), kBriefFd},
                                     {worker_control.get(), kControlFd}};
  Result<ChildProcess> process = Spawn(options_.worker_program, {"farwarp-worker", "--serve"}, fds);
  if (!process.ok()) {
    FARWARP_LOG(kError, "%s", process.status().message().c_str());
    lease.quota->FreeSlot(*slot);
    return process.status();
  }
  workers_.emplace_back();
  const WorkerPlace place = std::prev(workers_.end());
  place->lease = &lease;
  place->process = std::move(*process);
  place->socket = std::move(client.socket);
  place->control = std::move(control);
  place->slot = *slot;
  place->who = client.peer + " (" + client.hello.process_name.substr(0, kMaxShownName) +
               ", process " + std::to_string(client.hello.process_id) + ")";
  ++lease.connections;
  FARWARP_LOG(kInfo, "lease %s: worker %d serves %s", ShortId(lease.offer.id).c_str(),
              static_cast<int>(place->process.pid), place->who.c_str());
  const Status watched = Watch(place);
  if (!watched.ok()) {
    FARWARP_LOG(kError, "cannot watch a worker: %s", watched.message().c_str());
    KillGroup(place->process);
    OnWorkerEnd(place);
    return Status::Ok();  // The client has been told.
  }
  Changed();
  return Status::Ok();
}

Status Daemon::Watch(WorkerPlace place) {
  FARWARP_RETURN_IF_ERROR(loop_.Add(place->process.pidfd.get(), EPOLLIN,
                                    [this, place](std::uint32_t) { OnWorkerEnd(place); }));
  return loop_.Add(place->socket.get(), EPOLLRDHUP,
                   [this, place](std::uint32_t) { OnClientGone(place); });
}

void Daemon::OnClientGone(WorkerPlace place) {
  loop_.Remove(place->socket.get());
  place->client_gone = true;
  // The worker sees it too and normally ends at once.
  KillAfterGrace(place, "it went on after its client had gone");
}

void Daemon::KillAfterGrace(WorkerPlace place, const std::string& why) {
  if (place->grace != 0) return;
  place->grace = loop_.After(options_.grace, [place, why] {
    FARWARP_LOG(kWarn, "worker %d is killed: %s", static_cast<int>(place->process.pid),
                why.c_str());
    place->ending = true;
    KillGroup(place->process);
  });
}

void Daemon::EndWorker(Worker& worker, wire::RefusalCode code, const std::string& reason) {
  if (worker.ending) return;
  worker.ending = true;
  worker.farewell = {code, reason};
  const wire::Buffer payload = worker.farewell.Encode();
  const ssize_t sent =
      ::send(worker.control.get(), payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const auto place = std::find_if(workers_.begin(), workers_.end(),
                                  [&worker](const Worker& other) { return &other == &worker; });
  if (sent == static_cast<ssize_t>(payload.size())) {
    KillAfterGrace(place, "it did not end when asked");
  } else {
    KillGroup(worker.process);
  }
}

void Daemon::OnWorkerEnd(WorkerPlace place) {
  loop_.Remove(place->process.pidfd.get());
  loop_.Remove(place->socket.get());
  loop_.Cancel(place->grace);
  const int pid = place->process.pid;
  const ChildEnd end = Reap(place->process);
  Lease& lease = *place->lease;
  lease.quota->FreeSlot(place->slot);
  --lease.connections;
  lease.unused_since = std::chrono::steady_clock::now();

  const std::string lease_name = ShortId(lease.offer.id);
  // The client's end and the worker's may be seen in either order.
  place->client_gone = place->client_gone || HasHungUp(place->socket.get());
  // Without a client, a driver that is cut off in the middle of its work is no crash.
  const bool told = !end.signalled && (end.code == kExitServed || end.code == kExitRefused);
  const bool crashed = !place->ending && !told && (end.signalled || !place->client_gone);
  if (crashed) {
    const bool over_memory = !end.signalled && end.code == kExitOverMemory;
    const std::string why = over_memory ? "used up its host memory (see --worker-memory)"
                                        : "ended with " + end.Describe();
    FARWARP_LOG(kError, "lease %s: worker %d of %s %s", lease_name.c_str(), pid, place->who.c_str(),
                why.c_str());
    place->farewell.reason = "the server's worker for this program " + why;
  } else {
    FARWARP_LOG(kInfo, "lease %s: worker %d of %s ended", lease_name.c_str(), pid,
                place->who.c_str());
  }
  // After an orderly end the worker has said its goodbye itself, and ended the connection.
  if (!told) {
    SendFarewell(place->socket.get(), wire::FrameKind::kGoodbye, place->farewell);
  }
  if (!place->client_gone) Linger(std::move(place->socket));
  workers_.erase(place);
  Changed();
  FinishLease(lease);
  if (stopping_ && workers_.empty() && stopped_) std::exchange(stopped_, nullptr)();
}

void Daemon::Linger(UniqueFd socket) {
  if (lingering_.size() >= kMaxLingering) return;
  lingering_.push_back(std::move(socket));
  const auto place = std::prev(lingering_.end());
  const int fd = place->get();
  auto timer = std::make_shared<EventLoop::TimerId>(0);
  const auto close = [this, place, timer, fd] {
    loop_.Cancel(*timer);
    loop_.Remove(fd);
    lingering_.erase(place);
  };
  *timer = loop_.After(kLingerTime, close);
  const Status added = loop_.Add(fd, EPOLLIN | EPOLLRDHUP, [close, fd](std::uint32_t) {
    std::byte unread[16384];
    const ssize_t got = ::recv(fd, unread, sizeof unread, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) close();
  });
  if (!added.ok()) close();
}

void Daemon::Shutdown(const std::string& reason, std::function<void()> done) {
  stopping_ = true;
  gate_.Close();
  for (Worker& worker : workers_) {
    EndWorker(worker, wire::RefusalCode::kRevoked, "the server is shutting down: " + reason);
  }
  if (workers_.empty()) return done();
  stopped_ = std::move(done);
}

}  // namespace farwarp::server
