// What generated client halves (client/plain.cc) need of this library: the session, the wire value
// of a stream, and handles of the kinds that nothing hand-written keeps records of.
//
// Thread-safe.
#pragma once

#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

class Session;
struct Context;

// The session of an initialised process whose calling thread has a current context.
CUresult EnterCall(Session** session) noexcept;

// The value that travels for a stream argument; see stream.h.
CUstream WireStream(CUstream stream, bool per_thread);

// A stream that is about to be given work, and whose.
struct StreamWork {
  CUstream stream = nullptr;  // The value that travels.
  Context* context = nullptr;
  bool beside_legacy = false;
};
// Puts a stream argument and managed memory in order for work. Work of generated functions cannot
// become a node: a stream that is being captured is an error, which ends the capture.
CUresult EnterWork(CUstream stream, bool per_thread, StreamWork* work);
// Counts the work. While its command is under construction.
void BeginWork(const StreamWork& work) noexcept;

// A handle of `kind`, or a null one if too many are alive. The kinds of object_table.h are not
// minted here.
wire::Handle MintPlainHandle(wire::HandleKind kind) noexcept;
// Gives the index back, to be used with the next generation. Ignores what is not alive.
void RetireHandle(wire::Handle handle) noexcept;

template <wire::HandleKind kKind>
wire::Handle MintHandle() noexcept {
  static_assert(kKind >= wire::HandleKind::kArray,
                "contexts, modules, functions, libraries, kernels, streams and events have records "
                "of their own: write the function by hand");
  return MintPlainHandle(kKind);
}

}  // namespace farwarp::client
