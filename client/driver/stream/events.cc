// cuEvent*, and events of whole contexts: created, recorded and destroyed without a reply; only
// asking and waiting cost a round trip.
#include <memory>

#include "client/custom.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

constexpr unsigned kEventFlags =
    CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

CUresult Record(CUevent event, CUstream stream, unsigned flags, NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  Event* record = caller.process->events.Find(event);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
  graph::Graphs& graphs = caller.process->graphs();
  if (CUresult captured;
      graphs.capturing() &&
      graphs.CaptureRecord(stream, null == NullStream::kPerThread, event, flags, &captured)) {
    return captured;
  }
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, stream, null, &use); result != CUDA_SUCCESS)
    return result;
  if (use.context_handle.bits() != record->context_handle.bits()) return CUDA_ERROR_INVALID_HANDLE;
  record->recorded.store(true, std::memory_order_relaxed);
  Command command(caller.session(), IdOf(InternalCommand::kRecordEvent));
  command.body().PutPointer(event);
  command.body().PutPointer(use.wire);
  command.body().Put(static_cast<std::uint32_t>(flags));
  caller.process->arrivals().NoteRecord(wire::FromPointer(event).bits(), use);
  return command.Post();
}

// The context that an event of a whole context names, which need not be the calling thread's.
CUresult LiveContext(const Caller& caller, CUcontext context) {
  const Context* record = caller.process->contexts.Find(wire::FromPointer(context));
  if (record == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  return record->alive.load(std::memory_order_acquire) ? CUDA_SUCCESS
                                                       : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult PostOfContext(const Caller& caller, InternalCommand what, CUcontext context,
                       CUevent event) {
  // An error is that context's, not the calling thread's current one's.
  const TravelIn travel(wire::FromPointer(context));
  Command command(caller.session(), IdOf(what));
  command.body().PutPointer(context);
  command.body().PutPointer(event);
  // What it comes after is not followed stream by stream.
  if (what == InternalCommand::kRecordContextEvent) {
    caller.process->arrivals().NoteUnknownRecord(wire::FromPointer(event).bits());
  }
  return command.Post();
}

CUresult Destroy(CUevent event) {
  FARWARP_ENTER(caller);
  const auto removed = caller.process->events.Remove(wire::FromPointer(event));
  if (removed == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  caller.process->graphs().ForgetEvent(event);
  return PostEnd(caller.session(), InternalCommand::kDestroyEvent, wire::FromPointer(event),
                 removed->context_handle);
}

// Asks about an event; one that was never recorded counts as complete.
CUresult Ask(CUevent event, InternalCommand question) {
  FARWARP_ENTER(caller);
  const Event* record = caller.process->events.Find(event);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult captured = caller.process->graphs().CheckEvent(event);
      captured != CUDA_SUCCESS) {
    return captured;
  }
  if (!record->recorded.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  // An error is the event's context's, not the calling thread's current one's.
  const TravelIn travel(record->context_handle);
  Command command(caller.session(), IdOf(question));
  command.body().PutPointer(event);
  const std::uint64_t noted = caller.process->arrivals().Mark();
  Reply reply;
  const CUresult result = command.Call(reply);
  if (result == CUDA_SUCCESS) {
    caller.process->arrivals().EndEvent(wire::FromPointer(event).bits(), noted);
  }
  return caller.session().AfterWait(result);
}

CUresult Elapsed(float* milliseconds, CUevent start, CUevent end) {
  FARWARP_ENTER(caller);
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const CUevent event : {start, end}) {
    const Event* record = caller.process->events.Find(event);
    if (record == nullptr || (record->flags & CU_EVENT_DISABLE_TIMING) != 0 ||
        !record->recorded.load(std::memory_order_relaxed)) {
      return CUDA_ERROR_INVALID_HANDLE;
    }
  }
  Command command(caller.session(), IdOf(InternalCommand::kElapsedTime));
  command.body().PutPointer(start);
  command.body().PutPointer(end);
  Reply reply;
  if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  const float value = reply.body().Get<float>();
  if (const CUresult result = reply.Finish(); result != CUDA_SUCCESS) return result;
  *milliseconds = value;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuEventCreate(CUevent* phEvent, unsigned int Flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (phEvent == nullptr || (Flags & ~kEventFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((Flags & CU_EVENT_INTERPROCESS) != 0) {
    // Another process may hold another lease on another machine.
    return (Flags & CU_EVENT_DISABLE_TIMING) != 0 ? CUDA_ERROR_NOT_SUPPORTED
                                                  : CUDA_ERROR_INVALID_VALUE;
  }
  auto event = std::make_unique<Event>();
  event->context_handle = caller.context_handle;
  event->flags = Flags;
  const Handle handle = caller.process->events.Mint(std::move(event));
  if (handle.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  Command command(caller.session(), IdOf(InternalCommand::kCreateEvent));
  command.body().Put(handle.bits());
  // How the host thread waits is the client's affair.
  command.body().Put(static_cast<std::uint32_t>(Flags & CU_EVENT_DISABLE_TIMING));
  const CUresult result = command.Post();
  if (result == CUDA_SUCCESS) *phEvent = wire::ToPointer<CUevent>(handle);
  return result;
}
CUresult cuEventDestroy(CUevent hEvent) {
  return Destroy(hEvent);
}
CUresult cuEventDestroy_v2(CUevent hEvent) {
  return Destroy(hEvent);
}
CUresult cuEventRecord(CUevent hEvent, CUstream hStream) {
  return Record(hEvent, hStream, 0, NullStream::kLegacy);
}
CUresult cuEventRecord_ptsz(CUevent hEvent, CUstream hStream) {
  return Record(hEvent, hStream, 0, NullStream::kPerThread);
}
CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  return Record(hEvent, hStream, flags, NullStream::kLegacy);
}
CUresult cuEventRecordWithFlags_ptsz(CUevent hEvent, CUstream hStream, unsigned int flags) {
  return Record(hEvent, hStream, flags, NullStream::kPerThread);
}
CUresult cuCtxRecordEvent(CUcontext hCtx, CUevent hEvent) {
  FARWARP_ENTER(caller);
  if (const CUresult result = LiveContext(caller, hCtx); result != CUDA_SUCCESS) return result;
  Event* record = caller.process->events.Find(hEvent);
  if (record == nullptr || record->context_handle.bits() != wire::FromPointer(hCtx).bits()) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  graph::Graphs& graphs = caller.process->graphs();
  if (const CUresult captured = graphs.CheckContext(hCtx); captured != CUDA_SUCCESS) {
    return captured;
  }
  graphs.ForgetEvent(hEvent);  // Whatever capture it was recorded in before.
  record->recorded.store(true, std::memory_order_relaxed);
  return PostOfContext(caller, InternalCommand::kRecordContextEvent, hCtx, hEvent);
}
CUresult cuCtxWaitEvent(CUcontext hCtx, CUevent hEvent) {
  FARWARP_ENTER(caller);
  if (const CUresult result = LiveContext(caller, hCtx); result != CUDA_SUCCESS) return result;
  const Event* record = caller.process->events.Find(hEvent);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  graph::Graphs& graphs = caller.process->graphs();
  const CUresult of_event = graphs.RefuseCaptured(hEvent);
  const CUresult of_context = graphs.CheckContext(hCtx);
  if (of_event != CUDA_SUCCESS) return of_event;
  if (of_context != CUDA_SUCCESS) return of_context;
  if (!record->recorded.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  return PostOfContext(caller, InternalCommand::kContextWaitEvent, hCtx, hEvent);
}
CUresult cuEventQuery(CUevent hEvent) {
  return Ask(hEvent, InternalCommand::kQueryEvent);
}
CUresult cuEventSynchronize(CUevent hEvent) {
  return Ask(hEvent, InternalCommand::kSynchronizeEvent);
}
CUresult cuEventElapsedTime(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
  return Elapsed(pMilliseconds, hStart, hEnd);
}
CUresult cuEventElapsedTime_v2(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
  return Elapsed(pMilliseconds, hStart, hEnd);
}

}  // namespace farwarp::client::custom
