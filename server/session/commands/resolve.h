// Reading of arguments that plain handlers do not have: a handle without taking it, a function that
// may be a kernel, and bytes that are either in the command or came after it as bulk.
//
// Dispatch thread only.
#pragma once

#include <cstddef>
#include <span>

#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"
#include "server/session/call.h"

namespace farwarp::server {

// The next argument as a handle, without moving on.
wire::Handle PeekHandle(Call& call);
// A function, or a kernel in a function's place, which the driver takes as such.
CUfunction ResolveFunction(Call& call);
// Forgets what `handle` stood for; the driver's object is gone or about to go.
void Unbind(Call& call, wire::Handle handle);
// Whether what ReadBulk is about to read comes as bulk.
bool ComesAsBulk(Call& call);
// bytes:u64 transfer:u64 [data if transfer is 0]. Empty, and the call bad, if it breaks a rule. The
// bytes live as long as the call; behind bulk there is a zero.
std::span<const std::byte> ReadBulk(Call& call, std::size_t max_bytes);

}  // namespace farwarp::server
