// Daemon: the leases of this node and the workers that serve their clients.
//
// A lease arrives from the controller (NodeAgent) or is the one of private mode. A client that
// proved it (Gate) gets a worker process of its own. The daemon keeps the client's socket open
// beside the worker for two purposes only: to notice that the client has gone, and to say goodbye
// when the worker cannot.
//
// Threads: everything on the event loop's thread, except where stated.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "farwarp/base/log.h"
#include "farwarp/base/thread_annotations.h"
#include "server/daemon/event_loop.h"
#include "server/daemon/gate.h"
#include "server/daemon/spawn.h"
#include "server/session/quota.h"
#include "server/worker/brief.h"

namespace farwarp::server {

struct LeaseOffer {
  wire::LeaseId id{};
  wire::LeaseSecret secret{};
  std::vector<BriefVgpu> vgpus;
  std::vector<std::string> device_uuids;        // Of each vGPU, for reports.
  std::chrono::milliseconds unused_timeout{0};  // 0: never dropped for being unused.
  std::string client;                           // Who asked, for logs.
};

// What reports say of one lease.
struct LeaseState {
  wire::LeaseId id{};
  std::uint32_t connections = 0;
  std::vector<BriefVgpu> vgpus;
  std::vector<std::string> device_uuids;
  std::shared_ptr<const QuotaBook> quota;  // Its Used is read from any thread.
};

class Daemon {
 public:
  struct Options {
    std::string worker_program;
    std::string driver;
    bool fresh_memory = false;  // The driver is known to hand out cleared memory.
    std::size_t max_connections = 256;
    std::chrono::milliseconds grace{2000};  // For a worker to end by itself before it is killed.
    std::chrono::milliseconds heartbeat{1000};
    std::chrono::milliseconds client_pause{std::chrono::minutes(10)};
    std::uint64_t worker_memory = std::uint64_t{8} << 30;
    LogLevel worker_log = LogLevel::kOff;
    Gate::Options gate;
  };
  using Done = std::function<void(Status)>;

  Daemon(EventLoop& loop, const Options& options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  Status Listen(UniqueFd listener);

  // Idempotent: a lease that is held already is a success.
  Status PrepareLease(LeaseOffer offer);
  // `done` is called when the lease's workers are gone and its memory is free.
  void RevokeLease(const wire::LeaseId& id, const std::string& reason, Done done);
  void SetDraining(bool draining);
  // While detached from the controller, leases that nobody uses end by themselves.
  void SetAttached(bool attached);
  // Ends everything; `done` when no worker is left.
  void Shutdown(const std::string& reason, std::function<void()> done);

  // Any thread.
  std::vector<LeaseState> States() const EXCLUDES(states_mutex_);
  // Called on the loop's thread when a lease came, went, or changed its number of connections.
  void OnChange(std::function<void()> changed) { changed_ = std::move(changed); }

 private:
  struct Lease;
  struct Worker;
  using WorkerPlace = std::list<Worker>::iterator;

  void Admit(AdmittedClient client);
  Status StartWorker(Lease& lease, AdmittedClient& client);
  Status Watch(WorkerPlace place);
  void OnClientGone(WorkerPlace place);
  void OnWorkerEnd(WorkerPlace place);
  // Asks the worker to say goodbye and end; kills it after the grace.
  void EndWorker(Worker& worker, wire::RefusalCode code, const std::string& reason);
  void KillAfterGrace(WorkerPlace place, const std::string& why);
  void Linger(UniqueFd socket);
  void FinishLease(Lease& lease);
  void DropUnused();
  void Changed();

  EventLoop& loop_;
  const Options options_;
  Gate gate_;
  std::map<wire::LeaseId, std::unique_ptr<Lease>> leases_;
  std::list<Worker> workers_;
  std::list<UniqueFd> lingering_;  // Closing once their last words have gone.
  bool draining_ = false;
  bool attached_ = false;
  bool stopping_ = false;
  EventLoop::TimerId sweep_ = 0;
  std::function<void()> changed_;
  std::function<void()> stopped_;

  mutable Mutex states_mutex_;
  std::vector<LeaseState> states_ GUARDED_BY(states_mutex_);
};

}  // namespace farwarp::server
