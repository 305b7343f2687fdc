// Finisher: a session's driver calls that may wait for the device although no answer needs them:
// unmapping, unloading, destroying. One thread runs them in the client's order, so that the
// dispatcher goes on meanwhile.
//
// Whoever queues work has already removed what the work ends from the tables, so that no later
// command can name it. What the dispatcher may know only afterwards, such as memory that is free
// again, comes back to it as `settle`.
//
// Dispatch thread, except Close. The thread begins with the first work.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/encoder.h"
#include "server/session/call.h"

namespace farwarp::server {

class Finisher {
 public:
  // What a client may have queued before the dispatcher waits for it after all. That holds back
  // this client's later commands; the receiver goes on, so what the finisher itself may wait for,
  // such as a host function, can still come.
  static constexpr std::size_t kMaxQueued = 1024;

  // What `work` has to say to the client.
  struct Answer {
    CUresult result = CUDA_SUCCESS;
    wire::Buffer body;
  };
  using Work = std::function<Answer()>;
  using Settled = std::function<void(CUresult)>;

  Finisher() = default;
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;
  ~Finisher() { Drain(); }

  // Runs `work` behind everything queued so far and answers the call. `settle` is called by a later
  // Settle, with the result; before the client has the answer it is ready to be.
  void Run(Call& call, Work work, Settled settle = nullptr) EXCLUDES(mutex_);
  // The same for what nobody asked for.
  void RunQuietly(std::function<void()> work) EXCLUDES(mutex_);
  // Calls what is ready to be called.
  void Settle() EXCLUDES(mutex_);
  // Waits for the end of one more work and settles it. False if there is none, or nobody waits any
  // more.
  bool WaitForOne() EXCLUDES(mutex_);
  // True if everything has been done and settled.
  bool idle() const noexcept { return unsettled_ == 0; }
  // The dispatcher waits no more, now and later; what is queued is still done. Any thread.
  void Close() noexcept EXCLUDES(mutex_);
  // Does what is queued to its end and settles it; the driver must be able to finish it. Nothing
  // may be queued afterwards.
  void Drain() EXCLUDES(mutex_);

 private:
  struct Item {
    Session* session;  // nullptr: nobody is answered.
    ReplyTo reply_to;
    Work work;
    Settled settle;
  };
  struct Done {
    Settled settle;
    CUresult result;
  };

  void Queue(Item item) EXCLUDES(mutex_);
  void RunThread() EXCLUDES(mutex_);

  std::size_t unsettled_ = 0;
  std::thread thread_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Item> queue_ GUARDED_BY(mutex_);
  std::deque<Done> done_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace farwarp::server
