// Callbacks: host functions in streams (cuLaunchHostFunc, cuStreamAddCallback). The stream waits on
// the server for nothing; instead the client runs the function when the server says that the stream
// has reached it, on one thread of its own, and what follows in that stream waits for the answer.
//
// Thread-safe. The thread starts with the first callback and lives as long as the process.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "client/driver/stream/stream.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

class Process;

class Callbacks {
 public:
  // What the client does: the application's function, or what a graph's copies need of it.
  enum class Task { kFunction, kFetch, kCopy };
  struct Entry {
    CUhostFn function = nullptr;  // One of the two, for kFunction.
    CUstreamCallback callback = nullptr;
    CUstream stream = nullptr;
    void* data = nullptr;
    std::uint64_t context = 0;  // Whose stream reaches it.
    Task task = Task::kFunction;
    bool kept = false;          // Reached again and again.
    wire::CopyExtent extent{};  // Of a fetch or a copy in host memory.
    wire::CopyPlane from{};
    wire::CopyPlane to{};
  };

  explicit Callbacks(Process& process) : process_(process) {}
  ~Callbacks();
  Callbacks(const Callbacks&) = delete;
  Callbacks& operator=(const Callbacks&) = delete;

  // Puts `entry` into the stream.
  CUresult Enqueue(const StreamUse& use, const Entry& entry) EXCLUDES(mutex_);
  // A callback of a graph's: it may be reached any number of times, until it is retired and no work
  // is under way.
  CUresult Keep(Entry entry, std::uint64_t* number) EXCLUDES(mutex_);
  void Retire(std::vector<std::uint64_t> numbers) EXCLUDES(mutex_);
  // What streams have yet to reach.
  struct Owed {
    std::size_t functions = 0;
    std::uint64_t fetch_bytes = 0;  // Of the program's memory, which are read then.
    bool operator==(const Owed&) const = default;
  };
  // A launch in `context` will reach what was kept as `numbers`; or will not reach it after all.
  void Expect(const std::vector<std::uint64_t>& numbers, std::uint64_t context, const Owed& owed)
      EXCLUDES(mutex_);
  void Unexpect(std::uint64_t context, const Owed& owed) noexcept EXCLUDES(mutex_);
  // The context has ended: what its streams have not reached by now they never will.
  void DropContext(std::uint64_t context) noexcept EXCLUDES(mutex_);
  // The same for contexts that have failed.
  void DropFailed() EXCLUDES(mutex_);
  // The stream has reached callback `number`. Never waits; throws only
  // when memory runs out, which ends the session.
  void Reached(std::uint64_t number) EXCLUDES(mutex_);
  // Whether the calling thread runs host functions.
  static bool OnThread() noexcept;
  // True if one has been enqueued and has not returned; one of a failed context counts until
  // DropFailed.
  bool pending() const noexcept { return pending_.load(std::memory_order_acquire) != 0; }
  // Bytes of the program's memory that launches have yet to read; the same goes for these.
  std::uint64_t fetch_bytes() const noexcept {
    return fetch_bytes_.load(std::memory_order_acquire);
  }

 private:
  void Run() noexcept;
  bool Start() REQUIRES(mutex_);
  // So much of what the context owed is done, or will not be reached.
  void Settle(std::uint64_t context, const Owed& done) noexcept REQUIRES(mutex_);
  // What reaching `entry` settles.
  static Owed ShareOf(const Entry& entry) noexcept;
  // The stream that has reached `number` may go on.
  void Done(std::uint64_t number) noexcept;
  // Sends the bytes that a graph's copy waits for.
  void Fetch(std::uint64_t number, const Entry& entry) noexcept;
  static void* RunThread(void* self);

  Process& process_;
  Mutex mutex_;
  CondVar reached_cv_;
  std::map<std::uint64_t, Entry> waiting_ GUARDED_BY(mutex_);
  std::deque<std::uint64_t> reached_ GUARDED_BY(mutex_);
  std::uint64_t next_ GUARDED_BY(mutex_) = 1;
  std::vector<std::uint64_t> retired_ GUARDED_BY(mutex_);
  bool started_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  pthread_t thread_{};
  // The context of what the thread is at, and its part of what is owed.
  std::uint64_t running_ GUARDED_BY(mutex_) = 0;
  Owed running_share_ GUARDED_BY(mutex_);
  // What is not done, by context, and its sums.
  std::map<std::uint64_t, Owed> owed_ GUARDED_BY(mutex_);
  std::atomic<std::size_t> pending_{0};
  std::atomic<std::uint64_t> fetch_bytes_{0};
};

}  // namespace farwarp::client
