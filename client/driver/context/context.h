// Context: the client's record of a CUDA context. It exists here first; the server hears of it
// through the command stream.
//
// Thread-safe where members are atomic; the rest never changes after creation. A destroyed context
// keeps its record until the process ends, so that a thread that still has it current finds out.
#pragma once

#include <atomic>
#include <cstdint>

#include "client/driver/context/work.h"
#include "client/session/session.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

struct Device;
class Process;
struct Caller;

struct Context {
  Context(Device* context_device, int context_ordinal, unsigned context_flags, bool is_primary,
          std::uint64_t context_id)
      : device(context_device),
        ordinal(context_ordinal),
        primary(is_primary),
        id(context_id),
        flags(context_flags) {}

  Device* const device;
  const int ordinal;
  const bool primary;
  const std::uint64_t id;
  std::atomic<unsigned> flags;
  // A primary context that was released comes back to life with the next retain.
  std::atomic<bool> alive{true};
  std::atomic<int> cache_config{0};
  std::atomic<int> shared_config{0};
  Work work;

  // A synchronous host-to-device copy is done when it returns, as far as a program can tell; here
  // it returns before. Streams beside the legacy one therefore wait for this event before their
  // next work: `copies` counts such copies, Stream::copies_seen what a stream has waited for.
  std::atomic<unsigned> beside_streams{0};
  std::atomic<std::uint64_t> copies{0};
  Mutex copy_mutex;
  wire::Handle copy_event GUARDED_BY(copy_mutex);
};

// Makes commands of the calling thread travel in another context for a scope, and books what fails
// on that one.
class TravelIn {
 public:
  explicit TravelIn(wire::Handle context) : before_(CallingThreadContext()) {
    SetCallingThreadContext(context.bits());
  }
  ~TravelIn() { SetCallingThreadContext(before_); }
  TravelIn(const TravelIn&) = delete;
  TravelIn& operator=(const TravelIn&) = delete;

 private:
  const std::uint64_t before_;
};

// Posts the end of an object that belongs to `context`, also if that has failed: the server must
// forget the handle before its index names another object. The result is then that failure.
CUresult PostEnd(Session& session, wire::InternalCommand what, wire::Handle handle,
                 wire::Handle context);

// Ends a context here and on the server: its memory, streams, events, modules and host blocks. The
// server hears of it before the memory is unmapped. `reset_primary`: it is a primary context, whose
// handle may come back to life.
CUresult EndContext(Process& process, wire::Handle handle, Context& context, bool reset_primary);
// Waits for everything the context has been given.
CUresult SynchronizeContext(Process& process, wire::Handle handle, Context& context);
// The same for each context of `device`, or of all devices, that may have work. What another
// context than `own` failed of has ended its work, too, and is not the caller's error.
CUresult SynchronizeBusy(Process& process, const Device* device, wire::Handle own);

}  // namespace farwarp::client
