// Command: one CUDA call on its way into the ordered stream. The only thing generated encoders use
// of the session.
//
//   Command command(session, wire_id::cuEventRecord);        // takes the stream's tail
//   command.body().PutPointer(event);
//   return command.Post();                                    // async: no reply
//
//   Command command(session, wire_id::cuEventQuery);
//   command.body().PutPointer(event);
//   Reply reply;
//   if (CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;  // waits
//   *out = reply.body().Get<float>();
//   return reply.Finish();  // CUDA_ERROR_UNKNOWN if the reply was malformed
//
// Between construction and Post/Call the calling thread holds the stream's lock and must not block
// or run user code, so that the order of commands is the program order across threads. A Command
// destroyed without Post or Call leaves no trace. If the session is dead or has a sticky error,
// Post and Call return it without sending. A command that the server does not know, because it is
// of another version, is not sent either: CUDA_ERROR_NOT_SUPPORTED.
//
// Before the first command after a change of the calling thread's current context, the constructor
// inserts a kSetContext command (client/session knows which context the stream's tail is in).
//
// Thread-safety: one thread per object; any number of threads on one session.
#pragma once

#include <cstdint>

#include "cuda/driver_api.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"

namespace farwarp::client {

class Session;
class Reply;

class Command {
 public:
  // `bulk_bytes`: of what will be attached; waits until the server can take them, as others' bytes
  // arrive at the device. Who must not wait names none. Throws only when memory runs out.
  Command(Session& session, std::uint32_t id, std::size_t bulk_bytes = 0);
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  wire::Encoder& body() noexcept { return body_; }

  // Sends the command also if the calling thread's context has failed: for what ends or begins
  // contexts, and for what belongs to none.
  void DespiteContextError() noexcept { despite_context_error_ = true; }

  // Appends without waiting; no system call, no allocation in the steady state. CUDA_SUCCESS or the
  // session's error.
  CUresult Post() noexcept;
  // Appends, flushes, waits for the reply (bounded by the session's death). The result the server
  // reported, or the session's error. `reply` is valid only on CUDA_SUCCESS, except where the
  // caller asks for it (`reply.has_body()`).
  CUresult Call(Reply& reply) noexcept;

  // Attaches `bytes` of host memory that travel as bulk frames, sent from where they are (no copy),
  // as `transfer` (Session::NewTransfer), which the command's body must name. To be called before
  // Post/Call; the memory must stay unchanged until that returns.
  void AttachBulk(std::uint64_t transfer, const void* data, std::size_t bytes);

 private:
  // Takes the tail and writes what precedes the body. Always true.
  bool Open(std::size_t bulk_bytes);
  // Completes the header; not CUDA_SUCCESS (and the command is dropped) if it cannot be sent.
  CUresult Seal(std::uint64_t ticket) noexcept;
  void Drop() noexcept;
  void Unlock() noexcept;

  Session& session_;
  const std::uint32_t id_;
  std::size_t start_ = 0;   // Of the inserted kSetContext, if any, else of the command.
  std::size_t header_ = 0;  // Of the command's header.
  std::size_t attachments_before_ = 0;
  std::uint64_t context_before_ = 0;
  std::uint64_t context_ = 0;
  std::uint64_t batch_ = 0;
  bool has_bulk_ = false;
  bool has_credit_ = true;
  bool despite_context_error_ = false;
  bool locked_ = false;
  const bool open_;
  wire::Encoder body_;
};

// The body of one reply. Owned by the caller; one thread.
class Reply {
 public:
  wire::Decoder& body() noexcept { return body_; }
  bool has_body() const noexcept { return !storage_.empty(); }
  // CUDA_SUCCESS if the body was read completely and without error, else CUDA_ERROR_UNKNOWN (and a
  // log line).
  CUresult Finish() const noexcept;
  // Used by the session.
  void Assign(wire::Buffer storage) noexcept {
    storage_ = std::move(storage);
    body_ = wire::Decoder(storage_);
  }

 private:
  wire::Buffer storage_;
  wire::Decoder body_;
};

}  // namespace farwarp::client
