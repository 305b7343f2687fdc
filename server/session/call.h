// Call: one received command while the worker executes it. The only thing generated decoders use of
// the server session.
//
//   void Dispatch_cuEventRecord(Call& call) {
//     const auto event = call.Resolve<CUevent>(wire::HandleKind::kEvent);      // reads a handle,
//     maps it to the driver's const auto stream = call.ResolveStream(); // handle or special value
//     if (call.bad()) return call.Finish(CUDA_ERROR_INVALID_HANDLE);
//     call.Finish(call.driver().cuEventRecord(event, stream));
//   }
//
// Finish answers the client if the command carries a ticket; otherwise a failure becomes the
// session's sticky error. Handlers run one at a time, in the client's order, on the dispatch
// thread, and must not wait: a handler that has to wait calls Defer() and finishes later from a
// waiter or the finisher (server/session/commands/wait.h, finisher.h).
//
// Thread-safety: dispatch thread only, except where stated.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/handle.h"
#include "server/driver/table.h"
#include "server/session/arrived_bulk.h"

namespace farwarp::server {

class Session;
class HandleTable;

// What is needed to answer later, from any thread. Copyable, small.
struct ReplyTo {
  std::uint32_t command_id = 0;
  std::uint64_t ticket = 0;
  std::uint64_t context = 0;  // In which it ran: a failure without a ticket is of this one.
};

class Call {
 public:
  Call(Session& session, std::uint32_t id, std::uint64_t ticket, std::span<const std::byte> body);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Session& session() noexcept { return session_; }
  const driver::Table& driver() const noexcept;
  HandleTable& handles() noexcept;

  // The arguments. A malformed body makes bad() true and every further read zero.
  wire::Decoder& args() noexcept { return args_; }
  // The body of the reply, after the result code. Ignored for commands without a ticket.
  wire::Encoder& results() noexcept { return results_; }

  // Reads a client-minted handle and returns the driver's; a forged, stale or wrong-kind handle
  // makes bad() true.
  template <typename T>
  T Resolve(wire::HandleKind kind) {
    return static_cast<T>(ResolveRaw(kind, false));
  }
  // Like Resolve, but a null handle is allowed and yields nullptr.
  template <typename T>
  T ResolveOptional(wire::HandleKind kind) {
    return static_cast<T>(ResolveRaw(kind, true));
  }
  // Reads a stream: null, legacy and per-thread values pass unchanged.
  CUstream ResolveStream();

  // Reads the id of an object that is about to be created (`new`). After the driver call succeeded,
  // Bind stores its handle.
  wire::Handle ReadNew(wire::HandleKind kind);
  void Bind(wire::Handle handle, void* driver_object);
  // Reads and removes a handle that is about to be destroyed (`del`): returns the driver's handle.
  void* Take(wire::HandleKind kind);

  // For an address that the driver is about to use: unless all `bytes` from it on are device memory
  // of the session, bad() becomes true. No bytes are anybody's.
  void CheckMemory(std::uint64_t address, std::uint64_t bytes);
  // The same for an operation of a batch, from which it also takes what only a driver may put in.
  void CheckMemory(CUstreamBatchMemOpParams& operation);

  // The bytes that came as `transfer`; empty if there are none. They live as long as the call.
  std::span<const std::byte> Bulk(std::uint64_t transfer);
  // The client's credit for the bytes that came last; comes back when nobody holds it any more.
  std::shared_ptr<const void> BulkCharge() const;

  // True if the client waits for an answer.
  bool has_ticket() const noexcept { return ticket_ != 0; }

  // True if the arguments were malformed or named an unknown object.
  bool bad() const noexcept { return args_.failed() || bad_handle_; }
  void MarkBad() noexcept { bad_handle_ = true; }

  // Ends the command. See above.
  void Finish(CUresult result);
  // The command will be finished through Session::Reply(reply_to, …) later.
  ReplyTo Defer() noexcept;

 private:
  void* ResolveRaw(wire::HandleKind kind, bool optional);

  Session& session_;
  std::uint32_t id_;
  std::uint64_t ticket_;
  wire::Decoder args_;
  std::vector<ArrivedBulk> bulk_;
  wire::Buffer result_buffer_;
  wire::Encoder results_{result_buffer_};
  bool bad_handle_ = false;
};

}  // namespace farwarp::server
