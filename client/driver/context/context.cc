#include "client/driver/context/context.h"

#include <vector>

#include "client/driver/copy/arrays.h"
#include "client/driver/memory/managed.h"
#include "client/driver/memory/pools.h"
#include "client/driver/process.h"
#include "client/driver/stream/callbacks.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::IdOf;
using wire::InternalCommand;

namespace {

template <typename Table>
std::vector<wire::Handle> OwnedHandles(Table& table, wire::Handle context) {
  std::vector<wire::Handle> owned;
  table.ForEach([&](wire::Handle handle, const auto& record) {
    if (record.context_handle.bits() == context.bits()) owned.push_back(handle);
  });
  return owned;
}

// A context that may still fail, or has failed, is waited for, as CUDA does: its last error then
// comes before the handle's next life, and is not taken for one of that.
CUresult EndOnServer(Process& process, wire::Handle handle, Context& context, bool reset_primary) {
  Session& session = process.session();
  const CUresult known = session.ContextError(handle.bits());
  const bool wait = known != CUDA_SUCCESS || !context.work.idle();
  Reply reply;
  CUresult result;
  {
    Command command(session, IdOf(reset_primary ? InternalCommand::kReleasePrimaryContext
                                                : InternalCommand::kDestroyContext));
    command.DespiteContextError();
    command.body().Put(handle.bits());
    if (reset_primary) command.body().Put(context.device->vgpu);
    const std::uint64_t mark = context.work.Mark();
    result = wait ? session.AfterWait(command.Call(reply)) : command.Post();
    context.work.Settle(mark);
  }
  // Found out only now: the program hears of it. What it has heard already, it has come to end.
  const CUresult late = known == CUDA_SUCCESS ? session.ContextError(handle.bits()) : CUDA_SUCCESS;
  if (reset_primary) {
    session.BeginContextAnew(handle.bits());
  } else {
    session.ForgetContext(handle.bits());
  }
  if (session.death() != CUDA_SUCCESS) return session.death();
  if (known != CUDA_SUCCESS && result == known) return CUDA_SUCCESS;
  return late != CUDA_SUCCESS ? late : result;
}

}  // namespace

CUresult PostEnd(Session& session, InternalCommand what, wire::Handle handle,
                 wire::Handle context) {
  const TravelIn travel(context);
  Command command(session, IdOf(what));
  command.DespiteContextError();
  command.body().Put(handle.bits());
  const CUresult result = command.Post();
  return result != CUDA_SUCCESS ? result : session.error();
}

CUresult EndContext(Process& process, wire::Handle handle, Context& context, bool reset_primary) {
  context.alive.store(false, std::memory_order_release);
  Ending ending;
  for (const auto stream : OwnedHandles(process.streams, handle)) {
    process.graphs().ForgetStream(wire::ToPointer<CUstream>(stream));
    ending.streams.push_back(process.streams.Remove(stream));
  }
  for (const auto event : OwnedHandles(process.events, handle)) {
    ending.events.push_back(process.events.Remove(event));
  }
  for (const auto module : OwnedHandles(process.modules, handle)) {
    DropModule(process, module, ending);
  }
  for (const auto function : OwnedHandles(process.functions, handle)) {
    ending.functions.push_back(process.functions.Remove(function));
  }
  process.kernels.ForEach([&](wire::Handle, Kernel& kernel) {
    const MutexLock lock(kernel.mutex);
    kernel.functions.erase(handle.bits());
  });
  process.libraries.ForEach([&](wire::Handle, Library& library) {
    const MutexLock lock(library.mutex);
    library.modules.erase(handle.bits());
    std::erase_if(library.globals,
                  [&](const auto& entry) { return entry.first.first == handle.bits(); });
  });
  process.globals.DropContext(handle.bits());
  {
    const MutexLock lock(context.copy_mutex);
    context.copy_event = {};
    context.copies.store(0, std::memory_order_relaxed);
    context.beside_streams.store(0, std::memory_order_relaxed);
  }

  const CUresult result = EndOnServer(process, handle, context, reset_primary);
  process.arrivals().EndContext(handle.bits(), process.arrivals().Mark());
  process.callbacks().DropContext(handle.bits());
  process.managed().DropOwnedBy(handle.bits());
  process.arrays().DropContext(handle);
  context.device->memory.FreeOwnedBy(handle.bits());
  process.pools().DropGone();
  process.host.DropOwnedBy(handle.bits());
  return result;
}

CUresult SynchronizeContext(Process& process, wire::Handle handle, Context& context) {
  // An error is that context's, not the calling thread's current one's.
  const TravelIn travel(handle);
  Reply reply;
  Command command(process.session(), IdOf(InternalCommand::kSynchronizeContext));
  command.body().Put(handle.bits());
  const std::uint64_t mark = context.work.Mark();
  const std::uint64_t noted = process.arrivals().Mark();
  const CUresult result = command.Call(reply);
  // As in SynchronizeStream.
  if (result == CUDA_SUCCESS || process.session().error() != CUDA_SUCCESS) {
    process.arrivals().EndContext(handle.bits(), noted);
  }
  if (result != CUDA_SUCCESS) return result;
  context.work.Settle(mark);
  return CUDA_SUCCESS;
}

CUresult SynchronizeBusy(Process& process, const Device* device, wire::Handle own) {
  std::vector<std::pair<wire::Handle, Context*>> busy;
  process.contexts.ForEach([&](wire::Handle handle, Context& context) {
    if (!context.alive.load(std::memory_order_acquire) || context.work.idle()) return;
    if (device == nullptr || context.device == device) busy.emplace_back(handle, &context);
  });
  CUresult result = CUDA_SUCCESS;
  for (const auto& [handle, context] : busy) {
    const CUresult waited = SynchronizeContext(process, handle, *context);
    const bool ended = process.session().ContextError(handle.bits()) != CUDA_SUCCESS;
    if (ended && handle.bits() != own.bits()) continue;
    if (result == CUDA_SUCCESS) result = waited;
  }
  return result;
}

}  // namespace farwarp::client
