// Streams and events as the client keeps them, and how a stream argument becomes what travels.
//
// The per-thread default stream is a stream of the calling thread in the current context, minted on
// first use: to the server it is a stream like any other. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

struct Caller;
struct Context;
class Process;

// Which default stream a null stream argument means: the second is that of the _ptsz and _ptds
// functions.
enum class NullStream { kLegacy, kPerThread };

struct Stream {
  wire::Handle context_handle;
  Context* context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  std::uint64_t id = 0;
  bool own_of_thread = false;  // A thread's default stream: the application never sees its handle.
  std::atomic<std::uint64_t> copies_seen{0};  // See Context::copies.
};

struct Event {
  wire::Handle context_handle;
  unsigned flags = 0;
  std::atomic<bool> recorded{false};
};

// A stream argument, resolved.
struct StreamUse {
  CUstream wire = nullptr;   // 0, 1 or a live handle.
  Stream* stream = nullptr;  // nullptr for the legacy default stream.
  Context* context = nullptr;
  wire::Handle context_handle;
  bool legacy() const noexcept { return stream == nullptr; }
  // Not ordered with the legacy default stream.
  bool beside_legacy() const noexcept;
};

// Mints a stream in the current context and tells the server.
CUresult MintStream(const Caller& caller, unsigned flags, int priority, bool own_of_thread,
                    wire::Handle* handle);

// CUDA_ERROR_INVALID_HANDLE for what is no stream, CUDA_ERROR_INVALID_CONTEXT for a default stream
// without a current context.
CUresult ResolveStream(const Caller& caller, CUstream stream, NullStream null, StreamUse* use);
// ResolveStream for a stream that is about to be given work: orders it after synchronous copies.
CUresult ResolveForWork(const Caller& caller, CUstream stream, NullStream null, StreamUse* use);
// For generated encoders: the wire value, or the argument unchanged if it is no stream.
CUstream WireStream(CUstream stream, bool per_thread);

// A synchronous host-to-device copy has been posted to the legacy stream of `context`.
CUresult NoteSynchronousCopy(Process& process, wire::Handle context_handle, Context& context);

// Waits for a stream and tells the context's Work.
CUresult SynchronizeStream(Process& process, const StreamUse& use);

// Ends the thread's own streams; called when a thread ends.
void EndThreadStreams(Process& process, struct ThreadState& thread) noexcept;

}  // namespace farwarp::client
