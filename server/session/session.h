// Session: one client's connection inside its worker: executes the client's commands in order and
// sends back replies, bytes and pushes.
//
//   receiver (the thread in Run)  frames in; bulk is put together, commands are queued, pings are
//                                 answered, and streams that waited for a host function go on. A
//                                 client that keeps to its credit (wire/credit.h) never has it wait
//                                 for the dispatcher, so whatever the dispatcher or a stream of the
//                                 client's waits for can still be heard
//   dispatcher                    takes commands one by one, never waits for the device. Where the
//                                 driver or the finisher (commands/finisher.h) lets it wait, this
//                                 client's later commands are held back and nothing else is
//   any thread                    Reply, Push and SendBulk: one order, the one in which they were
//                                 called; whoever finds nobody sending sends
//
// The handshake up to the proof belongs to whoever accepted the connection; the session begins with
// Start, which opens the address window and sends the welcome or a refusal.
//
// Thread-safe where stated. Who waits for the client has a deadline. Who waits for the device, as
// the finisher and through it the dispatcher may, waits as long as the client's own work takes, or
// until the session ends.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/status.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/transport/channel.h"
#include "farwarp/wire/credit.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/grant.h"
#include "farwarp/wire/handshake.h"
#include "farwarp/wire/negotiation.h"
#include "farwarp/wire/push.h"
#include "server/driver/table.h"
#include "server/session/call.h"
#include "server/session/handle_table.h"
#include "server/session/host_budget.h"

namespace farwarp::server {

class CommandState;
class Quota;

class Session {
 public:
  struct Options {
    const driver::Table* driver = nullptr;  // Initialised: cuInit has succeeded.
    Quota* quota = nullptr;
    wire::LeaseId lease{};      // Gives the vGPUs their identity.
    bool fresh_memory = false;  // See CommandState::TrustFreshMemory.
    std::uint64_t host_bytes = HostBudget::kDefaultBytes;
    std::vector<int> device_ordinals;            // The driver's device of each vGPU.
    std::vector<std::uint32_t> compute_percent;  // Of each vGPU; may be shorter.
    wire::VersionRange versions;                 // Of the protocol that this server speaks.
    wire::ApiTable table;                        // What it was generated from.
    wire::Credit credit;                         // What the client may have under way.
    std::chrono::milliseconds heartbeat{1000};
    // How long a client may be silent whose host answers: its program is stopped, and may go on.
    std::chrono::milliseconds client_pause{std::chrono::minutes(10)};
    // Called before each answer leaves, on any thread: pushes what kernels have printed so far.
    std::function<void()> flush_output;
  };

  Session(std::unique_ptr<transport::Channel> channel, Options options);
  // Ends the client's work and gives everything back. Waits for kernels; a worker process that is
  // to go at once exits instead.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Answers a hello whose proof was right; `client_table` is the proof's. On failure the client has
  // been told why.
  Status Start(const wire::Hello& hello, std::span<const wire::PeerEntry> client_table = {});
  // Serves the client until it goes, breaks a rule or is silent for too long. Ok means that it
  // went.
  Status Run();
  // Makes Run return; any thread.
  void Shutdown() noexcept;
  // Tells the client that this is the end, and why; any thread.
  void SayGoodbye(wire::RefusalCode code, const std::string& reason) noexcept;

  const driver::Table& driver() const noexcept { return *options_.driver; }
  // True if commands run in the context of this handle, whatever it stands for now. Dispatch
  // thread.
  bool IsCurrent(wire::Handle context) const noexcept {
    return context_.load(std::memory_order_relaxed) == context.bits();
  }
  wire::Handle current_context() const noexcept {
    return wire::Handle(context_.load(std::memory_order_relaxed));
  }
  // `context` has ended: an error in a later life of the handle is news. Any thread.
  void ForgetError(wire::Handle context) EXCLUDES(error_mutex_);
  HandleTable& handles() noexcept { return handles_; }  // Dispatch thread.
  CommandState& state() noexcept { return *state_; }    // Dispatch thread.

  // Answers a call; without a ticket a failure becomes the client's asynchronous error. Any thread.
  void Reply(ReplyTo to, CUresult result, std::span<const std::byte> body = {});
  // Any thread.
  void Push(wire::PushType type, std::span<const std::byte> body);
  // Sends `data` as `transfer`; `owner` keeps it alive until it has left. Any thread.
  void SendBulk(std::uint64_t transfer, std::span<const std::byte> data,
                std::shared_ptr<const void> owner);
  // The bytes of a transfer that has come completely, once. The client's credit for them comes back
  // when nobody holds their charge any more. Any thread.
  ArrivedBulk TakeBulk(std::uint64_t transfer) EXCLUDES(in_mutex_);

 private:
  struct Outgoing {
    wire::FrameKind kind;
    wire::Buffer payload;  // Of a bulk item: its header.
    std::span<const std::byte> data;
    std::shared_ptr<const void> owner;
  };

  Result<wire::Welcome> MakeWelcome(const wire::Hello& hello);
  Status Agree(const wire::Hello& hello, std::span<const wire::PeerEntry> client_table);
  Status Refuse(wire::RefusalCode code, const Status& status);
  Status ReceiveLoop();
  // The client has not said anything since `heard` and `silent` heartbeats: asks whether it is
  // there, or fails if it need not be waited for any more.
  Status OnSilence(int silent, std::chrono::steady_clock::time_point heard);
  Status OnBulk(std::uint32_t bytes);
  Status QueueCommands(wire::Buffer payload);
  // Host functions that the client has run let their streams go on at once: the dispatcher may be
  // in a call of the driver's that waits for just these streams.
  void ReleaseStreams(std::span<const std::byte> payload);
  // Waits while a client that has overdrawn its credit has the dispatcher too busy, and keeps it
  // informed meanwhile.
  void WaitForRoom() EXCLUDES(in_mutex_);
  // Gives credit back, once there is enough of it. Any thread.
  void GiveBack(std::uint64_t command_bytes, std::uint64_t bulk_bytes) EXCLUDES(credit_mutex_);

  void DispatchLoop();
  Status DispatchFrame(std::span<const std::byte> payload);
  void Dispatch(std::uint32_t id, std::uint64_t ticket, std::span<const std::byte> body);
  void SetContext(Call& call);

  void Enqueue(Outgoing item) EXCLUDES(out_mutex_);
  // Waits while the client takes its answers more slowly than it asks for them.
  void WaitForReader() EXCLUDES(out_mutex_);
  Status SendItem(const Outgoing& item) noexcept;
  void PushError(const ReplyTo& to, CUresult result);

  const std::unique_ptr<transport::Channel> channel_;
  const Options options_;
  std::uint32_t protocol_ = 0;  // Agreed on.
  wire::KnownIds known_;        // To the client, too. From Start on the dispatch thread's.
  HandleTable handles_;
  std::unique_ptr<CommandState> state_;
  const std::size_t queued_bulk_bytes_;    // That may wait for the dispatcher.
  std::vector<void (*)(Call&)> internal_;  // By id, from wire::kFirstInternalId.
  std::atomic<std::uint64_t> context_{0};  // Handle of the dispatcher's current context.
  std::thread dispatcher_;
  std::atomic<bool> stopping_{false};

  Mutex in_mutex_;
  CondVar in_changed_;
  std::deque<wire::Buffer> frames_ GUARDED_BY(in_mutex_);
  std::size_t frame_bytes_ GUARDED_BY(in_mutex_) = 0;
  std::map<std::uint64_t, ArrivedBulk> bulk_ GUARDED_BY(in_mutex_);
  std::optional<std::uint64_t> receiving_ GUARDED_BY(in_mutex_);  // The transfer that grows now.
  std::size_t bulk_bytes_ GUARDED_BY(in_mutex_) = 0;
  bool closed_ GUARDED_BY(in_mutex_) = false;
  Status broken_ GUARDED_BY(in_mutex_);  // Why the dispatcher ended the session.

  Mutex out_mutex_;
  std::deque<Outgoing> out_ GUARDED_BY(out_mutex_);
  CondVar out_shrank_;
  std::atomic<std::size_t> out_items_{0};  // Of out_; relaxed, for a look without the mutex.
  bool sender_active_ GUARDED_BY(out_mutex_) = false;
  bool out_dead_ GUARDED_BY(out_mutex_) = false;
  std::atomic<std::uint64_t> sequence_{0};  // Written by the thread that has sender_active_.
  std::uint64_t acknowledged_ = 0;          // By the client. Receiver only.
  std::atomic<std::uint64_t> received_{0};

  Mutex credit_mutex_;
  wire::Credit to_give_back_ GUARDED_BY(credit_mutex_){0, 0};

  Mutex error_mutex_;
  std::uint64_t pushed_context_ GUARDED_BY(error_mutex_) = 0;
  CUresult pushed_result_ GUARDED_BY(error_mutex_) = CUDA_SUCCESS;
};

}  // namespace farwarp::server
