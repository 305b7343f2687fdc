// What generated client halves (client/plain.cc) need of this library: the session, the wire value
// of a stream, and handles of the kinds that nothing hand-written keeps records of.
//
// Thread-safe.
#pragma once

#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

class Session;

// The session of an initialised process whose calling thread has a current context.
CUresult EnterCall(Session** session) noexcept;

// The value that travels for a stream argument; see stream.h.
CUstream WireStream(CUstream stream, bool per_thread);

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
