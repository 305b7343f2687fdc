// Streams: creation, queries, waits, host functions.
#include <algorithm>
#include <utility>

#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;
namespace graph = farwarp::graph;

namespace {

CUresult Create(CUstream* result, unsigned flags, int priority) noexcept {
  return CallContext([&](Driver& driver, Context& context) {
    if (result == nullptr || (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    // Priorities outside the range count as its nearest end.
    priority = std::max(kGreatestPriority, std::min(kLeastPriority, priority));
    const auto stream = context.MakeStream(StreamKind::kCreated, flags, priority);
    *result = driver.streams.Add(stream);
    return CUDA_SUCCESS;
  });
}

bool IsDefaultStream(CUstream stream) {
  return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* phStream, unsigned int Flags) {
  return Create(phStream, Flags, kLeastPriority);
}
CUresult cuStreamCreateWithPriority(CUstream* phStream, unsigned int flags, int priority) {
  return Create(phStream, flags, priority);
}

CUresult cuStreamDestroy_v2(CUstream hStream) {
  return CallDriver([&](Driver& driver) {
    if (IsDefaultStream(hStream)) return CUDA_ERROR_INVALID_HANDLE;
    GraphsOf(driver).ForgetStream(hStream);
    const std::shared_ptr<Stream> stream = driver.streams.Remove(hStream);
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    const std::shared_ptr<Context> context = stream->context();
    if (context == nullptr) return CUDA_SUCCESS;
    // Its work goes on; what belongs to it is freed when that is over.
    context->Forget(stream);
    return context->error();
  });
}
CUresult cuStreamDestroy(CUstream hStream) {
  return cuStreamDestroy_v2(hStream);
}

CUresult cuStreamQuery(CUstream hStream) {
  return CallStream(hStream, [hStream](Driver&, Context& context, std::shared_ptr<Stream>& stream) {
    if (const CUresult captured = CheckCapturedStream(hStream); captured != CUDA_SUCCESS) {
      return captured;
    }
    if (!context.Idle(stream.get())) return CUDA_ERROR_NOT_READY;
    return context.error();
  });
}
CUresult cuStreamQuery_ptsz(CUstream hStream) {
  return cuStreamQuery(PerThread(hStream));
}

CUresult cuStreamSynchronize(CUstream hStream) {
  return CallStream(hStream, [hStream](Driver&, Context& context, std::shared_ptr<Stream>& stream) {
    if (const CUresult captured = CheckCapturedStream(hStream); captured != CUDA_SUCCESS) {
      return captured;
    }
    return context.Synchronize(stream.get());
  });
}
CUresult cuStreamSynchronize_ptsz(CUstream hStream) {
  return cuStreamSynchronize(PerThread(hStream));
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if ((Flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
    graph::Graphs& graphs = GraphsOf(driver);
    if (CUresult result;
        graphs.capturing() && graphs.CaptureWait(hStream, false, hEvent, Flags, &result)) {
      return result;
    }
    const std::shared_ptr<Event> event = driver.events.Find(hEvent);
    if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    const std::shared_ptr<Event::Point> point = event->point();
    if (point != nullptr) context.EnqueueAlways(s, Lane::kInline, nullptr, point->work);
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamWaitEvent_ptsz(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  return cuStreamWaitEvent(PerThread(hStream), hEvent, Flags);
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int* flags) {
  return CallStream(hStream, [&](Driver&, Context&, std::shared_ptr<Stream>& stream) {
    if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->flags();
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetFlags_ptsz(CUstream hStream, unsigned int* flags) {
  return cuStreamGetFlags(PerThread(hStream), flags);
}

CUresult cuStreamGetPriority(CUstream hStream, int* priority) {
  return CallStream(hStream, [&](Driver&, Context&, std::shared_ptr<Stream>& stream) {
    if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority();
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetPriority_ptsz(CUstream hStream, int* priority) {
  return cuStreamGetPriority(PerThread(hStream), priority);
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long* streamId) {
  return CallStream(hStream, [&](Driver&, Context&, std::shared_ptr<Stream>& stream) {
    if (streamId == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *streamId = stream->id();
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetId_ptsz(CUstream hStream, unsigned long long* streamId) {
  return cuStreamGetId(PerThread(hStream), streamId);
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice* device) {
  return CallStream(hStream, [&](Driver&, Context& context, std::shared_ptr<Stream>&) {
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *device = context.device().ordinal();
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetDevice_ptsz(CUstream hStream, CUdevice* device) {
  return cuStreamGetDevice(PerThread(hStream), device);
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext* pctx) {
  return CallStream(hStream, [&](Driver&, Context& context, std::shared_ptr<Stream>&) {
    if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pctx = context.handle();
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetCtx_ptsz(CUstream hStream, CUcontext* pctx) {
  return cuStreamGetCtx(PerThread(hStream), pctx);
}
CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
  const CUresult result = cuStreamGetCtx(hStream, pCtx);
  if (result == CUDA_SUCCESS && pGreenCtx != nullptr) *pGreenCtx = nullptr;
  return result;
}
CUresult cuStreamGetCtx_v2_ptsz(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
  return cuStreamGetCtx_v2(PerThread(hStream), pCtx, pGreenCtx);
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void* userData) {
  return CallStream(hStream, [&](Driver&, Context& context, std::shared_ptr<Stream>& stream) {
    if (fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult captured; CaptureHost(hStream, fn, userData, &captured)) return captured;
    context.Enqueue(stream, Lane::kHost, [fn, userData] { fn(userData); });
    return CUDA_SUCCESS;
  });
}
CUresult cuLaunchHostFunc_ptsz(CUstream hStream, CUhostFn fn, void* userData) {
  return cuLaunchHostFunc(PerThread(hStream), fn, userData);
}

// Unlike a host function, a callback is told of errors, so it always runs.
CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void* userData,
                             unsigned int flags) {
  return CallStream(hStream, [&](Driver&, Context& context, std::shared_ptr<Stream>& stream) {
    if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    // Callbacks cannot be nodes.
    if (const CUresult captured = CheckCapturedStream(hStream); captured != CUDA_SUCCESS) {
      return captured;
    }
    context.EnqueueAlways(stream, Lane::kHost,
                          [callback, userData, hStream, owner = context.shared_from_this()] {
                            callback(hStream, owner->error(), userData);
                          });
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamAddCallback_ptsz(CUstream hStream, CUstreamCallback callback, void* userData,
                                  unsigned int flags) {
  return cuStreamAddCallback(PerThread(hStream), callback, userData, flags);
}

}  // extern "C"
