// LeaseHolder: asks the controller for vGPUs and holds what it gets.
//
// A thread of its own keeps the Acquire stream open. When the controller restarts or the network
// breaks, it asks again (while waiting) or claims its lease again (after the grant), for as long as
// it lives. What happens is put into a list; event_fd() becomes readable when there is something to
// Take().
//
// Owns its thread. Take() and Release() from one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/cli/controller_client.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {

struct HolderEvent {
  enum class Kind {
    kQueued,    // `queued` says where and why.
    kGranted,   // `grant`.
    kRefused,   // `status`; nothing follows.
    kEnded,     // The lease is gone, `status` says why; nothing follows.
    kTroubled,  // The controller cannot be reached at the moment; it goes on trying.
  } kind;
  v1::Queued queued;
  v1::Grant grant;
  Status status;
};

class LeaseHolder {
 public:
  // `client` outlives the holder. Asks at once.
  LeaseHolder(ControllerClient& client, v1::AcquireRequest request);
  // Ends the stream: the controller releases the lease after its grace.
  ~LeaseHolder();
  LeaseHolder(const LeaseHolder&) = delete;
  LeaseHolder& operator=(const LeaseHolder&) = delete;

  int event_fd() const { return event_fd_.get(); }
  std::vector<HolderEvent> Take();
  // Tells the controller that the lease is not needed any more; does not wait longer than
  // kAnswerTime.
  Status Release();

 private:
  void Run();
  // One stream from its start to its end; true when another one should be tried.
  bool Attempt();
  bool AfterEnd(const grpc::Status& status, bool answered);
  void Post(HolderEvent event);
  bool Pause();

  ControllerClient& client_;
  const std::unique_ptr<v1::Clients::Stub> stub_;
  v1::AcquireRequest request_;
  const std::chrono::steady_clock::time_point until_;
  UniqueFd event_fd_;
  std::mutex mutex_;
  std::condition_variable stop_;
  std::vector<HolderEvent> events_;         // Under the mutex, as all below.
  grpc::ClientContext* context_ = nullptr;  // Of the open stream.
  v1::Grant grant_;
  bool granted_ = false;
  bool stopping_ = false;
  bool troubled_ = false;
  bool ever_answered_ = false;
  std::thread thread_;
};

}  // namespace farwarp::cli
