// Session: this process's connection to its worker: one ordered stream of commands out; replies,
// copies and pushes back.
//
// Threads of the application append commands (command.h). Whoever finds the line idle and wants an
// answer sends; otherwise the flusher thread sends what has gathered, so that launches leave in
// batches and their callers make no system call. A receiver thread completes waiting calls, writes
// the bytes of device-to-host copies to where they belong, and handles pushes.
//
// Death: the receiver declares a session dead (link cut, server gone, silent for three heartbeats,
// malformed frame), and so does any thread that runs out of memory for what must not be lost. From
// then on every call returns error(); the receiver no longer touches the application's memory.
//
// Thread-safe unless a function says otherwise. Nothing here aborts or throws to its caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "client/session/batch.h"
#include "client/session/kernel_output.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/transport/channel.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/handshake.h"
#include "farwarp/wire/negotiation.h"

namespace farwarp::client {

class Reply;

// Counted since the session began. "Round trips" are calls that waited for an answer, the
// handshake's two included.
struct Statistics {
  std::uint64_t calls = 0;
  std::uint64_t round_trips = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t send_calls = 0;     // System calls.
  std::uint64_t receive_calls = 0;  // System calls.
  std::uint64_t flusher_wakes = 0;  // Of the thread that sends what gathers.
  double seconds = 0;
};

class Session {
 public:
  struct Options {
    bool map_window = true;  // Reserve the address window in this process. Off where the server
                             // shares the process (tests).
    std::chrono::milliseconds connect_timeout{2000};
    wire::VersionRange versions;  // Of the protocol that this client speaks.
    wire::ApiTable table;         // That it was generated from; none: it answers for what it sends.
    // What to do when a host function is reached. Runs on the receiver thread and must not wait.
    std::function<void(std::uint64_t callback)> on_host_callback;
  };

  // Connects to the server that `grant` names and proves the lease. All of a grant's vGPUs must be
  // on one server.
  static Result<std::unique_ptr<Session>> Connect(const wire::Grant& grant, Options options);
  // The same over a channel that already exists.
  static Result<std::unique_ptr<Session>> Connect(std::unique_ptr<transport::Channel> channel,
                                                  const wire::Grant& grant, Options options);
  ~Session();
  // Ends the connection and the session's threads; every call from then on fails.
  void Stop();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // What the server said about itself and the vGPUs.
  const wire::Welcome& welcome() const noexcept { return welcome_; }
  wire::AddressWindow window() const noexcept { return window_; }

  // The error that every call on this session (or on the calling thread's current context) now
  // returns, or CUDA_SUCCESS.
  CUresult error() const noexcept;
  // The part of error() that no reset of a context ends: why the session is dead.
  CUresult death() const noexcept {
    return static_cast<CUresult>(dead_.load(std::memory_order_acquire));
  }
  // The error that ended `context`, or CUDA_SUCCESS.
  CUresult ContextError(std::uint64_t context) const noexcept EXCLUDES(errors_mutex_);
  // `context` has ended on the server, which has answered that: what failed in it before does not
  // count against a context that takes the handle up again.
  void BeginContextAnew(std::uint64_t context) noexcept EXCLUDES(mutex_, errors_mutex_);
  // The same for a handle that nothing takes up again.
  void ForgetContext(std::uint64_t context) noexcept EXCLUDES(errors_mutex_);
  // An asynchronous command's failure that has not been reported yet; reporting it forgets it.
  CUresult TakeAsyncError() noexcept;
  // What the application is told of a wait that ended with `waited`: if that went well, an earlier
  // failure that nobody has heard of. For waits only: whoever asks for something else to be done
  // must learn whether that was done.
  CUresult AfterWait(CUresult waited) noexcept {
    return waited == CUDA_SUCCESS ? TakeAsyncError() : waited;
  }

  // Something that must be sent or kept cannot be: every call from now on fails.
  void FailForWantOfMemory() noexcept EXCLUDES(mutex_);

  // Registers memory that a device-to-host copy will fill; the id goes into the command. The bytes
  // are there when a later blocking call on the same stream has returned. Registration ends by
  // itself when all bytes have come.
  std::uint64_t ExpectTransfer(void* to, std::size_t bytes);
  // The same for a copy that may wait until there is credit for it, which other copies have now
  // (wire/credit.h). Ends with the session, and when copies have failed that nobody has asked for.
  std::uint64_t ExpectCopy(void* to, std::size_t bytes) EXCLUDES(transfers_mutex_, mutex_);
  // Ends a registration early: after a failed copy. When it returns, the receiver does not touch
  // the memory any more.
  void CancelTransfer(std::uint64_t transfer);
  // True while a registration has not ended.
  bool TransferPending(std::uint64_t transfer);
  // A number for a copy to the device whose bytes are attached as bulk.
  std::uint64_t NewTransfer() noexcept {
    return next_transfer_.fetch_add(1, std::memory_order_relaxed);
  }

  // The numbers of all transfers so far are less. Exact for whoever holds the stream's tail.
  std::uint64_t TransferMark() const noexcept {
    return next_transfer_.load(std::memory_order_relaxed);
  }

  // Whether device memory's addresses are reserved in this process.
  bool maps_window() const noexcept { return options_.map_window; }

  Statistics statistics() const;

 private:
  friend class Command;
  // One blocking call, on its caller's stack.
  struct Waiting {
    std::uint64_t ticket = 0;
    bool done = false;
    CUresult result = CUDA_ERROR_UNKNOWN;
    wire::Buffer body;
    CondVar answered;
  };
  // One expected transfer.
  struct Incoming {
    std::uint64_t transfer;
    std::byte* to;
    std::uint64_t bytes;
    std::uint64_t received;
  };

  Session(std::unique_ptr<transport::Channel> channel, Options options);
  Status Handshake(const wire::Grant& grant) EXCLUDES(mutex_);
  Result<wire::Hello> MakeHello(const wire::Grant& grant) const;
  Status Accept(const wire::Challenge& challenge, wire::Welcome welcome) EXCLUDES(mutex_);
  // True, with a line in the log, if the server does not know the command.
  bool Unknown(std::uint32_t command) noexcept REQUIRES(mutex_);
  void Begin();

  // The stream's tail, for Command. LockTail waits while too much is queued, or the server still
  // has so much to do that there is no credit for a command and `bulk_bytes` with it; the tail is
  // locked when it returns. False if that credit cannot be waited for. An urgent command lets
  // something go on that others wait for; it waits for no credit.
  bool LockTail(std::size_t bulk_bytes, bool urgent) noexcept ACQUIRE(mutex_);
  void UnlockTail() noexcept RELEASE(mutex_);
  // Sends batches until none is left or batch `last` has left, unless another thread is sending
  // already.
  void Flush(std::uint64_t last = ~std::uint64_t{0}) noexcept EXCLUDES(mutex_);
  std::uint64_t NextSequence() noexcept;
  // SendBatch, whatever happens in it: what cannot even be described for want of memory is an
  // error.
  Status TrySendBatch() noexcept;
  // These throw when memory runs out.
  Status SendBatch();
  Status SendFrames(wire::FrameKind kind, std::span<const std::byte> payload);
  Status SendBulk(const Attachment& attachment);
  void WakeFlusher() noexcept REQUIRES(mutex_);
  void WaitForBulk(std::uint64_t batch) noexcept EXCLUDES(mutex_);
  CUresult WaitForReply(Waiting& waiting, Reply& reply) noexcept EXCLUDES(mutex_);
  Status ReserveWindows();
  void ReleaseWindows(std::size_t keep) noexcept;

  // The command with `ticket` (0: one without) has failed for good in `context`.
  void RecordContextError(std::uint64_t context, CUresult result, std::uint64_t ticket) noexcept
      EXCLUDES(errors_mutex_);

  void RunFlusher();
  void RunReceiver();
  Status ReceiveFrame();
  Status OnReplies(std::span<const std::byte> payload);
  Status OnBulk(std::uint32_t bytes);
  Status OnPush(std::span<const std::byte> payload);
  Status OnTaken(const wire::Credit& back) EXCLUDES(mutex_);
  Status ReceiveWhole(std::uint32_t bytes);
  void OnFarewell(std::span<const std::byte> payload);
  void Die(CUresult reason, const char* why) noexcept EXCLUDES(mutex_);

  const std::unique_ptr<transport::Channel> channel_;
  const Options options_;
  wire::Welcome welcome_;
  wire::AddressWindow window_;
  std::vector<wire::AddressWindow> windows_;  // On offer.
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();

  mutable Mutex mutex_;
  CondVar tail_drained_;                     // A batch was taken to be sent.
  CondVar bulk_sent_;                        // Bytes of attached memory have left.
  CondVar flusher_wakes_up_;                 // There is something to send.
  wire::KnownIds known_ GUARDED_BY(mutex_);  // To the server, too.
  Batch tail_ GUARDED_BY(mutex_);
  Batch sending_;  // Of the thread that has `sender_active_`.
  bool sender_active_ GUARDED_BY(mutex_) = false;
  bool flusher_asleep_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool acknowledge_ GUARDED_BY(mutex_) = false;      // Answer a ping.
  bool ping_ GUARDED_BY(mutex_) = false;             // Ask whether the server is alive.
  std::uint64_t tail_batch_ GUARDED_BY(mutex_) = 1;  // Number of the batch that is gathering.
  std::uint64_t sent_batches_ GUARDED_BY(mutex_) = 0;
  std::uint64_t tail_context_ GUARDED_BY(mutex_) = 0;  // Current context at the stream's tail.
  // Spent of the server's credit; and how often some of it has come back.
  wire::Credit under_way_ GUARDED_BY(mutex_){0, 0};
  std::uint64_t credit_returns_ GUARDED_BY(mutex_) = 0;
  std::uint64_t next_ticket_ GUARDED_BY(mutex_) = 1;
  std::vector<Waiting*> waiting_ GUARDED_BY(mutex_);
  std::uint64_t calls_ GUARDED_BY(mutex_) = 0;
  std::uint64_t round_trips_ GUARDED_BY(mutex_) = 0;
  std::uint64_t flusher_wakes_ GUARDED_BY(mutex_) = 0;

  std::atomic<std::uint64_t> sequence_{0};  // Written by the thread that has `sender_active_`.
  wire::Buffer payload_;                    // Receiver only.
  std::atomic<std::uint64_t> received_{0};  // Highest sequence processed.
  std::uint64_t acknowledged_ = 0;          // By the server. Receiver only.
  std::atomic<std::uint64_t> next_transfer_{1};

  Mutex transfers_mutex_;  // Held by the receiver while it writes to the application's memory.
  std::vector<Incoming> incoming_ GUARDED_BY(transfers_mutex_);
  CondVar transfer_ended_;

  std::atomic<int> dead_{0};  // CUresult, or 0.
  mutable Mutex errors_mutex_;
  std::atomic<bool> has_errors_{false};
  // What is known of a context that has failed, or has begun anew: answers to tickets before
  // `since` are about an earlier life.
  struct ContextState {
    std::uint64_t context;
    CUresult error;
    std::uint64_t since;
  };
  std::vector<ContextState> context_states_ GUARDED_BY(errors_mutex_);
  CUresult async_error_ GUARDED_BY(errors_mutex_) = CUDA_SUCCESS;

  KernelOutput output_;

  std::thread flusher_;
  std::thread receiver_;
};

// The current context of the calling thread, as the driver layer keeps it: a handle's bits or 0.
// Commands travel in it.
std::uint64_t CallingThreadContext() noexcept;
void SetCallingThreadContext(std::uint64_t context) noexcept;

// Writes statistics as FARWARP_STATS asks for: "1" to standard error as text, anything else names a
// file for JSON.
void WriteStatistics(const Statistics& statistics, const char* where) noexcept;

}  // namespace farwarp::client
