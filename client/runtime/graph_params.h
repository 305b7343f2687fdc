// Parameters of graph nodes in the runtime's terms turned into the driver's, and back.
//
// Kernels that come back from the driver are given as its kernel handles, which every call that
// takes a host stub accepts. Thread-safe.
#pragma once

#include "client/runtime/copy.h"
#include "client/runtime/launch.h"

namespace farwarp::runtime {

// The context that copies and fills in a graph run in: the one current in this thread.
Outcome CurrentContext(const Driver& d, CUcontext* context);

Outcome ToDriver(const Driver& d, const cudaKernelNodeParams* params,
                 CUDA_KERNEL_NODE_PARAMS* result);
void ToRuntime(const CUDA_KERNEL_NODE_PARAMS& params, cudaKernelNodeParams* result);

Outcome ToDriver(const Driver& d, const cudaMemcpy3DParms* params, CUDA_MEMCPY3D* result);
Outcome ToRuntime(const Driver& d, const CUDA_MEMCPY3D& params, cudaMemcpy3DParms* result);

// A copy of `count` bytes that follow each other.
Outcome LinearCopy(void* target, const void* source, size_t count, cudaMemcpyKind kind,
                   CUDA_MEMCPY3D* result);

// The general form, for any type of node.
Outcome ToDriver(const Driver& d, const cudaGraphNodeParams* params, CUgraphNodeParams* result);
// Copies what the driver returned through it: addresses of allocations, graphs of bodies.
void CopyResults(const CUgraphNodeParams& from, cudaGraphNodeParams* to);

}  // namespace farwarp::runtime
