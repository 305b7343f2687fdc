// Core: the pool, its store and the open streams under one lock, plus the thread that lets time
// pass.
//
// Every event enters through one of the methods below: the pool decides, the store writes, and only
// then do the decisions leave through the sinks. Sinks are called with the lock held, so they must
// only queue (they may take their own lock; the order is core before sink).
//
// Thread-safe. Start() before the first event; Stop() before destruction.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "controller/pool/pool.h"
#include "controller/service/config.h"
#include "controller/service/store.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::controller {

// The node's end of an Attach stream.
class NodeSink {
 public:
  virtual ~NodeSink() = default;
  virtual void Send(const pool::Action& command) = 0;  // One of the Send… actions.
  virtual void Close(pool::CloseKind kind, const std::string& reason) = 0;
  virtual void Stop() = 0;  // The controller shuts down.
};

// The launcher's end of an Acquire stream.
class LauncherSink {
 public:
  virtual ~LauncherSink() = default;
  virtual void Tell(
      const pool::Action& event) = 0;  // TellQueued … TellEnded; two of them are last.
  virtual void Stop() = 0;
};

class Core {
 public:
  // `store` outlives the core.
  Core(const Config& config, Store& store, pool::CredentialSource& credentials);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Loads the store and starts the clock.
  Status Start();
  // Ends every stream without touching any lease; later events are ignored.
  void Stop();

  // Streams. A sink stays registered until its Remove returned; it is not called after that.
  pool::SessionId AddNode(NodeSink& sink);
  void RemoveNode(pool::SessionId session);
  pool::RequestId AddLauncher(LauncherSink& sink);
  void RemoveLauncher(pool::RequestId request);

  // Events.
  void NodeAttached(pool::SessionId session, pool::NodeInfo info,
                    const std::vector<pool::HeldLease>& held);
  void NodeReported(pool::SessionId session, const std::vector<pool::HeldLease>& held);
  void NodeAnswered(pool::SessionId session, const pool::LeaseId& lease, bool revoke,
                    const Status& answer);
  void NodeDetached(pool::SessionId session);
  void NodeLeft(pool::SessionId session);
  void Requested(pool::RequestId id, pool::Request request);
  void Resumed(pool::RequestId id, const pool::LeaseId& lease, const pool::Secret& secret);
  void HolderGone(pool::RequestId id);
  Status Released(const pool::LeaseId& lease, const pool::Secret& secret);
  Status SetDraining(const std::string& node, bool draining);
  Status Forget(const std::string& node);

  // Calls `read(pool, now)` under the lock, for lists.
  template <typename Read>
  auto View(Read read) {
    MutexLock lock(mutex_);
    return read(const_cast<const pool::Pool&>(pool_), Now());
  }
  // Empty when every lease is on disk.
  std::string store_error();
  const Config& config() const { return config_; }
  pool::Time Uptime() const { return Now(); }

 private:
  pool::Time Now() const;
  // Runs one event and carries out what it decided.
  template <typename Event>
  void Apply(Event event);
  void Carry(const pool::Actions& actions) REQUIRES(mutex_);
  void CarryOne(const pool::Action& action) REQUIRES(mutex_);
  void ToNode(pool::SessionId session, const pool::Action& action) REQUIRES(mutex_);
  void ToLauncher(pool::RequestId request, const pool::Action& action) REQUIRES(mutex_);
  void Save(const pool::Actions& actions) REQUIRES(mutex_);
  void RewriteStore() REQUIRES(mutex_);
  void Log(const pool::Action& action) REQUIRES(mutex_);
  bool IsNews(const std::string& complaint) REQUIRES(mutex_);
  void RunClock();
  pool::Time NextWake() REQUIRES(mutex_);

  const Config config_;
  Store& store_;
  const std::chrono::steady_clock::time_point start_;
  Mutex mutex_;
  CondVar wake_;
  pool::Pool pool_ GUARDED_BY(mutex_);
  std::map<pool::SessionId, NodeSink*> nodes_ GUARDED_BY(mutex_);
  // Streams that have not said who they are, by when they must have.
  std::map<pool::SessionId, pool::Time> nameless_ GUARDED_BY(mutex_);
  std::map<pool::RequestId, LauncherSink*> launchers_ GUARDED_BY(mutex_);
  std::set<std::string> drained_ GUARDED_BY(mutex_);
  std::uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  std::string store_error_ GUARDED_BY(mutex_);
  // Why node streams were closed, and when last: a node that tries again and again is logged once.
  std::map<std::string, pool::Time> complaints_ GUARDED_BY(mutex_);
  pool::Time planned_wake_ GUARDED_BY(mutex_){0};
  bool stopped_ GUARDED_BY(mutex_) = false;
  std::thread clock_;
};

}  // namespace farwarp::controller
