// Work and Executor: the asynchronous heart of the devices. Everything that streams do is a Work
// that starts when all Works before it have ended; streams, events and the rules of the default
// stream only decide what comes before what.
//
// Kernels, copies and host functions run on threads of their own lanes, so that copies overlap with
// kernels and a host function that blocks holds up neither. Threads are made on demand and leave
// when idle. Within a lane, ready work of higher priority goes first.
//
// Ownership: a Work lives until it ended and nobody refers to it; its body is destroyed as soon as
// it has run. Threads: thread-safe; no lock is held while a body runs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

enum class Lane : std::uint8_t { kKernel = 0, kCopy, kHost, kInline };

class Work : public std::enable_shared_from_this<Work> {
 public:
  using Body = std::function<void()>;

  // A body on kInline runs in whichever thread ends the last predecessor and must be brief. An
  // empty body is allowed: then this is a mere point in time. Lower numbers have higher priority.
  // `held` is let go when the body has run, or with the Work if it never runs.
  Work(Lane lane, int priority, Body body, std::shared_ptr<const void> held = nullptr)
      : lane_(lane), priority_(priority), held_(std::move(held)), body_(std::move(body)) {}

  // Orders this after `before`, which may be null or over. Only before Submit.
  void After(const std::shared_ptr<Work>& before);

  bool done() const noexcept { return done_.load(std::memory_order_acquire) != 0; }
  // Returns when the body has run. What the body wrote is visible then.
  void Wait() const noexcept;

 private:
  friend class Executor;
  void Run() noexcept;

  const Lane lane_;
  const int priority_;
  std::uint64_t sequence_ = 0;
  std::shared_ptr<const void> held_;  // Outlives the body.
  Body body_;
  // Unfinished predecessors, plus one until Submit.
  std::atomic<std::uint32_t> blockers_{1};
  std::atomic<std::uint32_t> done_{0};
  Mutex mutex_;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::vector<std::shared_ptr<Work>> successors_ GUARDED_BY(mutex_);
};

class Executor {
 public:
  Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  // Never destroyed in the library: threads run until the process ends. Tests may; no work may be
  // outstanding then.
  ~Executor();

  void Submit(const std::shared_ptr<Work>& work);

  // Whether the calling thread runs a host function, where CUDA calls are not allowed.
  static bool InHostFunction() noexcept;

 private:
  struct Before {
    bool operator()(const std::shared_ptr<Work>& a, const std::shared_ptr<Work>& b) const {
      return a->priority_ != b->priority_ ? a->priority_ > b->priority_
                                          : a->sequence_ > b->sequence_;
    }
  };
  struct Queue {
    Mutex mutex;
    CondVar changed;
    std::priority_queue<std::shared_ptr<Work>, std::vector<std::shared_ptr<Work>>, Before> ready
        GUARDED_BY(mutex);
    std::uint64_t next_sequence GUARDED_BY(mutex) = 0;
    unsigned threads GUARDED_BY(mutex) = 0;
    unsigned idle GUARDED_BY(mutex) = 0;
    bool stop GUARDED_BY(mutex) = false;
  };

  // Runs inline work at once and hands other work to its lane.
  void Start(std::shared_ptr<Work> work);
  void Push(Queue& queue, std::shared_ptr<Work> work);
  void Serve(Queue& queue, Lane lane);
  // Ends `work` and starts what only waited for it.
  void Finish(std::shared_ptr<Work> work);

  std::array<Queue, 3> queues_;
};

}  // namespace farwarp::softgpu
