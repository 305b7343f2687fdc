// Completion without waiting in the dispatch loop: what has to wait is handed to a thread that may,
// and what must happen in stream order becomes a host function of the driver's.
//
//   WaitForStream(call, stream)   replies when the stream has done what it was given so far
//
// The Waits of a session are created with it and closed before its contexts are destroyed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "server/driver/table.h"
#include "server/session/host_budget.h"

namespace farwarp::server {

class Call;

// Threads that wait in the driver, as many as there are waits, up to a limit. Thread-safe.
class WaitThreads {
 public:
  static constexpr std::size_t kMaxThreads = 256;

  WaitThreads() = default;
  WaitThreads(const WaitThreads&) = delete;
  WaitThreads& operator=(const WaitThreads&) = delete;
  // Runs what is queued to its end; the driver must be able to finish it.
  ~WaitThreads();

  void Run(std::function<void()> wait) EXCLUDES(mutex_);
  // True if more waits are queued than an honest client has.
  bool full() const EXCLUDES(mutex_);

 private:
  void RunThread() EXCLUDES(mutex_);

  mutable Mutex mutex_;
  CondVar queued_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
  std::size_t idle_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

// Functions that the driver calls when a stream reaches them. Those that a failed context never
// calls are freed with the object. Thread-safe; must outlive the contexts.
class StreamFunctions {
 public:
  // On failure the function is gone, or kept until the context ends if `keep` says so: the stream
  // may still be using what it owns. `hold`: what it costs, until it has been called.
  CUresult Enqueue(const driver::Table& driver, CUcontext context, CUstream stream,
                   std::function<void()> function, HostBudget::Hold hold, bool keep)
      EXCLUDES(mutex_);
  // The context is about to end; another one may then have its address. Returns what Drop asks for.
  std::uint64_t Doom(CUcontext context) EXCLUDES(mutex_);
  // The driver has destroyed the context and calls none of its functions any more.
  void Drop(std::uint64_t doom) EXCLUDES(mutex_);

 private:
  struct Entry {
    StreamFunctions* owner;
    CUcontext context;  // nullptr when doomed.
    std::list<Entry>::iterator self;
    std::function<void()> function;
    HostBudget::Hold hold;
    std::uint64_t doom = 0;
  };
  static void Reached(void* entry);

  Mutex mutex_;
  std::list<Entry> entries_ GUARDED_BY(mutex_);
  std::uint64_t dooms_ GUARDED_BY(mutex_) = 0;
};

// Streams and events used to wait for other events and streams; one pair is in use by one wait.
// Dispatch thread takes, any thread returns.
class WaitPairs {
 public:
  struct Pair {
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    CUevent event = nullptr;
    std::uint64_t life = 0;  // Which context of this address.
  };

  // `context` must be current.
  CUresult Take(const driver::Table& driver, CUcontext context, Pair* pair) EXCLUDES(mutex_);
  void Return(const Pair& pair) EXCLUDES(mutex_);
  // Those of a context that is about to end.
  void Drop(const driver::Table& driver, CUcontext context) EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::vector<Pair> free_ GUARDED_BY(mutex_);
  std::map<CUcontext, std::uint64_t> lives_ GUARDED_BY(mutex_);
};

struct Waits {
  StreamFunctions functions;
  WaitPairs pairs;
  WaitThreads threads;  // Last: its threads use the others.
};

void WaitForContext(Call& call, CUcontext context);
void WaitForStream(Call& call, CUstream stream);
void WaitForEvent(Call& call, CUevent event);
// Behind what the stream was given so far. Refused if too many are waiting already.
CUresult EnqueueHostFunction(Call& call, CUstream stream, std::function<void()> function);
// The same, for a function that owns what earlier work in the stream uses: it outlives a failure,
// and is never refused. What it owns must be limited.
CUresult ReleaseBehind(Call& call, CUstream stream, std::function<void()> function);

}  // namespace farwarp::server
