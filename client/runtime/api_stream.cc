// Streams, events and stream capture: the driver's objects, one to one.
#include <memory>

#include "client/runtime/api.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

// A stream callback of the runtime's, called with the runtime's error code.
struct Callback {
  cudaStreamCallback_t function;
  void* user_data;
};

void CallBack(CUstream stream, CUresult status, void* data) {
  const std::unique_ptr<Callback> callback(static_cast<Callback*>(data));
  callback->function(stream, ToRuntimeError(status), callback->user_data);
}

}  // namespace

RT_API(cudaStreamCreate, (cudaStream_t * pStream), {
  if (pStream == nullptr) return cudaErrorInvalidValue;
  return d.StreamCreate(pStream, CU_STREAM_DEFAULT);
})
RT_API(cudaStreamCreateWithFlags, (cudaStream_t * pStream, unsigned int flags), {
  if (pStream == nullptr) return cudaErrorInvalidValue;
  return d.StreamCreate(pStream, flags);
})
RT_API(cudaStreamCreateWithPriority, (cudaStream_t * pStream, unsigned int flags, int priority), {
  if (pStream == nullptr) return cudaErrorInvalidValue;
  return d.StreamCreateWithPriority(pStream, flags, priority);
})
RT_API(cudaStreamDestroy, (cudaStream_t stream), { return d.StreamDestroy(stream); })
RT_API_PTSZ(cudaStreamGetPriority, (cudaStream_t hStream, int* priority),
            { return d.StreamGetPriority(hStream, priority); })
RT_API_PTSZ(cudaStreamGetFlags, (cudaStream_t hStream, unsigned int* flags),
            { return d.StreamGetFlags(hStream, flags); })
RT_API_PTSZ(cudaStreamGetId, (cudaStream_t hStream, unsigned long long* streamId),
            { return d.StreamGetId(hStream, streamId); })
RT_API_PTSZ(cudaStreamGetDevice, (cudaStream_t hStream, int* device), {
  CUdevice handle = 0;
  if (device == nullptr) return cudaErrorInvalidValue;
  const Outcome asked = d.StreamGetDevice(hStream, &handle);
  return asked.ok() ? Process::Get().Ordinal(handle, device) : asked.error;
})
RT_API_PTSZ(cudaStreamCopyAttributes, (cudaStream_t dst, cudaStream_t src),
            { return d.StreamCopyAttributes(dst, src); })
RT_API_PTSZ(cudaStreamGetAttribute,
            (cudaStream_t hStream, cudaLaunchAttributeID attr, cudaLaunchAttributeValue* value_out),
            { return Pass(d.StreamGetAttribute, hStream, attr, value_out); })
RT_API_PTSZ(cudaStreamSetAttribute,
            (cudaStream_t hStream, cudaLaunchAttributeID attr,
             const cudaLaunchAttributeValue* value),
            { return Pass(d.StreamSetAttribute, hStream, attr, value); })
RT_API_PTSZ(cudaStreamWaitEvent, (cudaStream_t stream, cudaEvent_t event, unsigned int flags),
            { return d.StreamWaitEvent(stream, event, flags); })
RT_API_PTSZ(cudaStreamSynchronize, (cudaStream_t stream), { return d.StreamSynchronize(stream); })
RT_API_PTSZ(cudaStreamQuery, (cudaStream_t stream), { return d.StreamQuery(stream); })
RT_API_PTSZ(cudaStreamAttachMemAsync,
            (cudaStream_t stream, void* devPtr, size_t length, unsigned int flags),
            { return d.StreamAttachMemAsync(stream, Address(devPtr), length, flags); })
RT_API_PTSZ(cudaStreamAddCallback,
            (cudaStream_t stream, cudaStreamCallback_t callback, void* userData,
             unsigned int flags),
            {
              if (callback == nullptr) return cudaErrorInvalidValue;
              auto wrapped = std::make_unique<Callback>(Callback{callback, userData});
              const Outcome added = d.StreamAddCallback(stream, &CallBack, wrapped.get(), flags);
              if (added.ok()) wrapped.release();
              return added;
            })

RT_API(cudaEventCreate, (cudaEvent_t * event), {
  if (event == nullptr) return cudaErrorInvalidValue;
  return d.EventCreate(event, CU_EVENT_DEFAULT);
})
RT_API(cudaEventCreateWithFlags, (cudaEvent_t * event, unsigned int flags), {
  if (event == nullptr) return cudaErrorInvalidValue;
  return d.EventCreate(event, flags);
})
RT_API_PTSZ(cudaEventRecord, (cudaEvent_t event, cudaStream_t stream),
            { return d.EventRecord(event, stream); })
RT_API_PTSZ(cudaEventRecordWithFlags, (cudaEvent_t event, cudaStream_t stream, unsigned int flags),
            { return d.EventRecordWithFlags(event, stream, flags); })
RT_API(cudaEventQuery, (cudaEvent_t event), { return d.EventQuery(event); })
RT_API(cudaEventSynchronize, (cudaEvent_t event), { return d.EventSynchronize(event); })
RT_API(cudaEventDestroy, (cudaEvent_t event), { return d.EventDestroy(event); })
RT_API(cudaEventElapsedTime, (float* ms, cudaEvent_t start, cudaEvent_t end), {
  if (ms == nullptr) return cudaErrorInvalidValue;
  return d.EventElapsedTime(ms, start, end);
})

RT_API_PTSZ(cudaStreamBeginCapture, (cudaStream_t stream, cudaStreamCaptureMode mode),
            { return Pass(d.StreamBeginCapture, stream, mode); })
RT_API_PTSZ(cudaStreamBeginCaptureToGraph,
            (cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t* dependencies,
             const cudaGraphEdgeData* dependencyData, size_t numDependencies,
             cudaStreamCaptureMode mode),
            {
              return Pass(d.StreamBeginCaptureToGraph, stream, graph, dependencies, dependencyData,
                          numDependencies, mode);
            })
RT_API(cudaThreadExchangeStreamCaptureMode, (cudaStreamCaptureMode * mode),
       { return Pass(d.ThreadExchangeStreamCaptureMode, mode); })
RT_API_PTSZ(cudaStreamEndCapture, (cudaStream_t stream, cudaGraph_t* pGraph),
            { return Pass(d.StreamEndCapture, stream, pGraph); })
RT_API_PTSZ(cudaStreamIsCapturing, (cudaStream_t stream, cudaStreamCaptureStatus* pCaptureStatus),
            { return Pass(d.StreamIsCapturing, stream, pCaptureStatus); })
RT_API_PTSZ(cudaStreamGetCaptureInfo,
            (cudaStream_t stream, cudaStreamCaptureStatus* captureStatus_out,
             unsigned long long* id_out, cudaGraph_t* graph_out,
             const cudaGraphNode_t** dependencies_out, const cudaGraphEdgeData** edgeData_out,
             size_t* numDependencies_out),
            {
              return Pass(d.StreamGetCaptureInfo, stream, captureStatus_out, id_out, graph_out,
                          dependencies_out, edgeData_out, numDependencies_out);
            })
RT_API_PTSZ(cudaStreamUpdateCaptureDependencies,
            (cudaStream_t stream, cudaGraphNode_t* dependencies,
             const cudaGraphEdgeData* dependencyData, size_t numDependencies, unsigned int flags),
            {
              return Pass(d.StreamUpdateCaptureDependencies, stream, dependencies, dependencyData,
                          numDependencies, flags);
            })
