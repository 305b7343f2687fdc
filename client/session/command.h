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
//   if (CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;   // sync:
//   flushes and waits *out = reply.body().Get<float>(); return reply.Finish(); //
//   CUDA_ERROR_UNKNOWN if the reply was malformed
//
// Between construction and Post/Call the calling thread holds the stream's lock and must not block
// or run user code, so that the order of commands is the program order across threads. A Command
// destroyed without Post or Call leaves no trace. If the session is dead or has a sticky error,
// Post and Call return it without sending.
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
  Command(Session& session, std::uint32_t id) noexcept;
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  wire::Encoder& body() noexcept;

  // Appends without waiting; no system call, no allocation in the steady state. CUDA_SUCCESS or the
  // session's error.
  CUresult Post() noexcept;
  // Appends, flushes, waits for the reply (bounded by the session's death). The result the server
  // reported, or the session's error. `reply` is valid only on CUDA_SUCCESS, except where the
  // caller asks for it (`reply.has_body()`).
  CUresult Call(Reply& reply) noexcept;

  // Attaches `bytes` of host memory that follow the command as bulk frames sent from where they are
  // (no copy). To be called before Post/Call; the memory must stay unchanged until that returns.
  // The command's body must already say how many bytes follow.
  void AttachBulk(const void* data, std::size_t bytes) noexcept;

 private:
  Session& session_;
  std::size_t start_ = 0;
  const void* bulk_ = nullptr;
  std::size_t bulk_bytes_ = 0;
  bool done_ = false;
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
