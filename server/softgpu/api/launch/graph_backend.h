// The software GPU under the graph model: what capture asks before work enters a stream, and the
// one model of the process. Thread-safe.
#pragma once

#include <span>

#include "farwarp/graph/graphs.h"
#include "server/softgpu/api/copy/copy.h"
#include "server/softgpu/api/driver.h"

namespace farwarp::softgpu {

// The driver's graphs; made at the first call.
graph::Graphs& GraphsOf(Driver& driver);

// Each offers work for a stream to a capture under way. True: `result` answers the call.
bool CaptureCopy(CUstream stream, const CUDA_MEMCPY3D& copy, bool synchronous, CUresult* result);
bool CaptureFill(CUstream stream, const Fill& fill, bool synchronous, CUresult* result);
bool CaptureHost(CUstream stream, CUhostFn function, void* data, CUresult* result);
bool CaptureLaunch(CUstream stream, const CUDA_KERNEL_NODE_PARAMS& params,
                   std::span<const CUlaunchAttribute> attributes, CUresult* result);

// The questions of graphs.h while something is being captured; CUDA_SUCCESS otherwise.
CUresult CheckCapturedStream(CUstream stream);
CUresult CheckUnsafe();
// Of the calling thread's current context.
CUresult CheckCapturedContext();
CUresult CheckCapturedEvent(CUevent event);
// The context is being destroyed, and its streams with it.
void ForgetCapturedContext(CUcontext context);

}  // namespace farwarp::softgpu
