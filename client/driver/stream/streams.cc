// cuStream*: creation, order and completion. Creating, destroying and waiting in a stream need no
// reply.
#include <algorithm>
#include <utility>

#include "client/custom.h"
#include "client/driver/process.h"
#include "client/driver/stream/callbacks.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

constexpr auto kLegacy = NullStream::kLegacy;
constexpr auto kPerThread = NullStream::kPerThread;

CUresult Create(CUstream* stream, unsigned flags, int priority) {
  FARWARP_ENTER_CONTEXT(caller);
  if (stream == nullptr || (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Lower numbers are the higher priorities; out of range means the nearest.
  const int clamped =
      std::max(GreatestPriority(caller.device()), std::min(kLeastPriority, priority));
  Handle handle;
  const CUresult result = MintStream(caller, flags, clamped, false, &handle);
  if (result == CUDA_SUCCESS) *stream = wire::ToPointer<CUstream>(handle);
  return result;
}

CUresult Destroy(CUstream stream) {
  FARWARP_ENTER(caller);
  const Handle handle = wire::FromPointer(stream);
  const Stream* record = caller.process->streams.Find(handle);
  if (record == nullptr || record->own_of_thread) return CUDA_ERROR_INVALID_HANDLE;
  caller.process->graphs().ForgetStream(stream);
  const auto removed = caller.process->streams.Remove(handle);
  if (removed == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((removed->flags & CU_STREAM_NON_BLOCKING) != 0) removed->context->beside_streams.fetch_sub(1);
  return PostEnd(caller.session(), InternalCommand::kDestroyStream, handle,
                 removed->context_handle);
}

// Resolves a stream for a question about it.
CUresult Named(CUstream stream, NullStream null, Caller* caller, StreamUse* use) {
  if (const CUresult result = Enter(caller); result != CUDA_SUCCESS) return result;
  caller->context = caller->process->contexts.Find(caller->context_handle);
  return ResolveStream(*caller, stream, null, use);
}

CUresult Query(CUstream stream, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (const CUresult captured = caller.process->graphs().CheckStream(stream, null == kPerThread);
      captured != CUDA_SUCCESS) {
    return captured;
  }
  const TravelIn travel(use.context_handle);
  Command command(caller.session(), IdOf(InternalCommand::kQueryStream));
  command.body().PutPointer(use.wire);
  const std::uint64_t noted = caller.process->arrivals().Mark();
  Reply reply;
  const CUresult result = command.Call(reply);
  // The legacy stream may be idle while streams are not that its next work would wait for.
  if (result == CUDA_SUCCESS && !use.legacy()) caller.process->arrivals().EndStream(use, noted);
  return caller.session().AfterWait(result);
}

CUresult Synchronize(CUstream stream, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (const CUresult captured = caller.process->graphs().CheckStream(stream, null == kPerThread);
      captured != CUDA_SUCCESS) {
    return captured;
  }
  return caller.session().AfterWait(SynchronizeStream(*caller.process, use));
}

CUresult WaitEvent(CUstream stream, CUevent event, unsigned flags, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  const Event* record = caller.process->events.Find(event);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
  graph::Graphs& graphs = caller.process->graphs();
  if (CUresult captured; graphs.capturing() &&
                         graphs.CaptureWait(stream, null == kPerThread, event, flags, &captured)) {
    return captured;
  }
  if (!record->recorded.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  Command command(caller.session(), IdOf(InternalCommand::kStreamWaitEvent));
  command.body().PutPointer(use.wire);
  command.body().PutPointer(event);
  command.body().Put(static_cast<std::uint32_t>(flags));
  caller.process->arrivals().NoteWait(use, wire::FromPointer(event).bits());
  return command.Post();
}

CUresult GetFlags(CUstream stream, unsigned* flags, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = use.legacy() ? unsigned{CU_STREAM_DEFAULT} : use.stream->flags;
  return CUDA_SUCCESS;
}

CUresult GetPriority(CUstream stream, int* priority, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *priority = use.legacy() ? 0 : use.stream->priority;
  return CUDA_SUCCESS;
}

CUresult GetId(CUstream stream, unsigned long long* id, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = use.legacy() ? 1 : use.stream->id;
  return CUDA_SUCCESS;
}

CUresult GetContext(CUstream stream, CUcontext* context, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = wire::ToPointer<CUcontext>(use.context_handle);
  return CUDA_SUCCESS;
}

CUresult GetDevice(CUstream stream, CUdevice* device, NullStream null) {
  Caller caller;
  StreamUse use;
  if (const CUresult result = Named(stream, null, &caller, &use); result != CUDA_SUCCESS)
    return result;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = use.context->ordinal;
  return CUDA_SUCCESS;
}

CUresult AddCallback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags,
                     NullStream null) {
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Caller caller;
  if (const CUresult result = EnterContext(&caller); result != CUDA_SUCCESS) return result;
  // Callbacks cannot be nodes of a graph.
  if (const CUresult captured = caller.process->graphs().CheckStream(stream, null == kPerThread);
      captured != CUDA_SUCCESS) {
    return captured;
  }
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, stream, null, &use); result != CUDA_SUCCESS)
    return result;
  return caller.process->callbacks().Enqueue(
      use, {.callback = callback, .stream = stream, .data = data});
}

CUresult LaunchHostFunction(CUstream stream, CUhostFn function, void* data, NullStream null) {
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Caller caller;
  if (const CUresult result = EnterContext(&caller); result != CUDA_SUCCESS) return result;
  if (graph::Graphs& graphs = caller.process->graphs(); graphs.capturing()) {
    graph::NodeWork work;
    CUresult captured;
    work.type = CU_GRAPH_NODE_TYPE_HOST;
    work.host = {function, data};
    if (graphs.Capture(stream, null == kPerThread, std::move(work), &captured)) return captured;
  }
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, stream, null, &use); result != CUDA_SUCCESS)
    return result;
  return caller.process->callbacks().Enqueue(
      use, {.function = function, .stream = stream, .data = data});
}

}  // namespace

CUresult cuStreamCreate(CUstream* phStream, unsigned int Flags) {
  return Create(phStream, Flags, 0);
}
CUresult cuStreamCreateWithPriority(CUstream* phStream, unsigned int flags, int priority) {
  return Create(phStream, flags, priority);
}
CUresult cuStreamDestroy(CUstream hStream) {
  return Destroy(hStream);
}
CUresult cuStreamDestroy_v2(CUstream hStream) {
  return Destroy(hStream);
}
CUresult cuStreamQuery(CUstream hStream) {
  return Query(hStream, kLegacy);
}
CUresult cuStreamQuery_ptsz(CUstream hStream) {
  return Query(hStream, kPerThread);
}
CUresult cuStreamSynchronize(CUstream hStream) {
  return Synchronize(hStream, kLegacy);
}
CUresult cuStreamSynchronize_ptsz(CUstream hStream) {
  return Synchronize(hStream, kPerThread);
}
CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  return WaitEvent(hStream, hEvent, Flags, kLegacy);
}
CUresult cuStreamWaitEvent_ptsz(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  return WaitEvent(hStream, hEvent, Flags, kPerThread);
}
CUresult cuStreamGetFlags(CUstream hStream, unsigned int* flags) {
  return GetFlags(hStream, flags, kLegacy);
}
CUresult cuStreamGetFlags_ptsz(CUstream hStream, unsigned int* flags) {
  return GetFlags(hStream, flags, kPerThread);
}
CUresult cuStreamGetPriority(CUstream hStream, int* priority) {
  return GetPriority(hStream, priority, kLegacy);
}
CUresult cuStreamGetPriority_ptsz(CUstream hStream, int* priority) {
  return GetPriority(hStream, priority, kPerThread);
}
CUresult cuStreamGetId(CUstream hStream, unsigned long long* streamId) {
  return GetId(hStream, streamId, kLegacy);
}
CUresult cuStreamGetId_ptsz(CUstream hStream, unsigned long long* streamId) {
  return GetId(hStream, streamId, kPerThread);
}
CUresult cuStreamGetCtx(CUstream hStream, CUcontext* pctx) {
  return GetContext(hStream, pctx, kLegacy);
}
CUresult cuStreamGetCtx_ptsz(CUstream hStream, CUcontext* pctx) {
  return GetContext(hStream, pctx, kPerThread);
}
CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
  if (pGreenCtx != nullptr) *pGreenCtx = nullptr;
  return GetContext(hStream, pCtx, kLegacy);
}
CUresult cuStreamGetCtx_v2_ptsz(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
  if (pGreenCtx != nullptr) *pGreenCtx = nullptr;
  return GetContext(hStream, pCtx, kPerThread);
}
CUresult cuStreamGetDevice(CUstream hStream, CUdevice* device) {
  return GetDevice(hStream, device, kLegacy);
}
CUresult cuStreamGetDevice_ptsz(CUstream hStream, CUdevice* device) {
  return GetDevice(hStream, device, kPerThread);
}
CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void* userData,
                             unsigned int flags) {
  return AddCallback(hStream, callback, userData, flags, kLegacy);
}
CUresult cuStreamAddCallback_ptsz(CUstream hStream, CUstreamCallback callback, void* userData,
                                  unsigned int flags) {
  return AddCallback(hStream, callback, userData, flags, kPerThread);
}
CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void* userData) {
  return LaunchHostFunction(hStream, fn, userData, kLegacy);
}
CUresult cuLaunchHostFunc_ptsz(CUstream hStream, CUhostFn fn, void* userData) {
  return LaunchHostFunction(hStream, fn, userData, kPerThread);
}

}  // namespace farwarp::client::custom
