#include "client/runtime/graph_params.h"

#include <algorithm>
#include <cstring>

namespace farwarp::runtime {
namespace {

// Reads the fields that both forms of a kernel node have.
template <typename From, typename To>
Outcome Kernel(const Driver& d, const From& from, To* to) {
  const LaunchShape shape{from.gridDim, from.blockDim, from.sharedMemBytes};
  if (const cudaError_t error = CheckShape(shape); error != cudaSuccess) return error;
  CUkernel kernel = nullptr;
  const cudaError_t error = ResolveKernel(d, from.func, &kernel);
  if (error != cudaSuccess) return error;
  *to = {};
  to->kern = kernel;
  to->gridDimX = shape.grid.x;
  to->gridDimY = shape.grid.y;
  to->gridDimZ = shape.grid.z;
  to->blockDimX = shape.block.x;
  to->blockDimY = shape.block.y;
  to->blockDimZ = shape.block.z;
  to->sharedMemBytes = from.sharedMemBytes;
  to->kernelParams = from.kernelParams;
  to->extra = from.extra;
  return cudaSuccess;
}

// The direction of a copy by the memory on its two sides.
cudaMemcpyKind Kind(CUmemorytype source, CUmemorytype target) {
  if (source == CU_MEMORYTYPE_UNIFIED || target == CU_MEMORYTYPE_UNIFIED) return cudaMemcpyDefault;
  const bool from_host = source == CU_MEMORYTYPE_HOST;
  const bool to_host = target == CU_MEMORYTYPE_HOST;
  if (from_host) return to_host ? cudaMemcpyHostToHost : cudaMemcpyHostToDevice;
  return to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice;
}

// One side of a driver's copy in the runtime's fields.
#define FARWARP_READ_SIDE(copy, prefix, result, array, position, memory, element)      \
  do {                                                                                 \
    if ((copy).prefix##MemoryType == CU_MEMORYTYPE_ARRAY) {                            \
      (result)->array = (cudaArray_t)(copy).prefix##Array;                             \
    } else {                                                                           \
      (result)->memory.ptr = (copy).prefix##MemoryType == CU_MEMORYTYPE_HOST           \
                                 ? const_cast<void*>((const void*)(copy).prefix##Host) \
                                 : Pointer((copy).prefix##Device);                     \
      (result)->memory.pitch = (copy).prefix##Pitch;                                   \
      (result)->memory.xsize = (copy).WidthInBytes;                                    \
      (result)->memory.ysize = (copy).prefix##Height;                                  \
    }                                                                                  \
    (result)->position.x = (copy).prefix##XInBytes / (element);                        \
    (result)->position.y = (copy).prefix##Y;                                           \
    (result)->position.z = (copy).prefix##Z;                                           \
  } while (false)

}  // namespace

Outcome CurrentContext(const Driver& d, CUcontext* context) {
  return d.CtxGetCurrent(context);
}

Outcome ToDriver(const Driver& d, const cudaKernelNodeParams* params,
                 CUDA_KERNEL_NODE_PARAMS* result) {
  if (params == nullptr) return cudaErrorInvalidValue;
  return Kernel(d, *params, result);
}

void ToRuntime(const CUDA_KERNEL_NODE_PARAMS& params, cudaKernelNodeParams* result) {
  *result = {};
  if (params.kern != nullptr) Registry::Get().RememberKernel(params.kern);
  result->func =
      params.kern != nullptr ? static_cast<void*>(params.kern) : static_cast<void*>(params.func);
  result->gridDim.x = params.gridDimX;
  result->gridDim.y = params.gridDimY;
  result->gridDim.z = params.gridDimZ;
  result->blockDim.x = params.blockDimX;
  result->blockDim.y = params.blockDimY;
  result->blockDim.z = params.blockDimZ;
  result->sharedMemBytes = params.sharedMemBytes;
  result->kernelParams = params.kernelParams;
  result->extra = params.extra;
}

Outcome ToDriver(const Driver& d, const cudaMemcpy3DParms* params, CUDA_MEMCPY3D* result) {
  bool empty = false;
  if (params == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Describe(d, *params, result, &empty);
  // A node must copy something.
  return error == cudaSuccess && empty ? cudaErrorInvalidValue : error;
}

Outcome ToRuntime(const Driver& d, const CUDA_MEMCPY3D& params, cudaMemcpy3DParms* result) {
  size_t source_element = 1, target_element = 1;
  cudaError_t error = cudaSuccess;
  if (params.srcMemoryType == CU_MEMORYTYPE_ARRAY) {
    error = ElementBytes(d, (cudaArray_t)params.srcArray, &source_element);
  }
  if (error == cudaSuccess && params.dstMemoryType == CU_MEMORYTYPE_ARRAY) {
    error = ElementBytes(d, (cudaArray_t)params.dstArray, &target_element);
  }
  if (error != cudaSuccess) return error;
  *result = {};
  FARWARP_READ_SIDE(params, src, result, srcArray, srcPos, srcPtr, source_element);
  FARWARP_READ_SIDE(params, dst, result, dstArray, dstPos, dstPtr, target_element);
  result->extent.width = params.WidthInBytes / std::max(source_element, target_element);
  result->extent.height = params.Height;
  result->extent.depth = params.Depth;
  result->kind = Kind(params.srcMemoryType, params.dstMemoryType);
  return cudaSuccess;
}

Outcome LinearCopy(void* target, const void* source, size_t count, cudaMemcpyKind kind,
                   CUDA_MEMCPY3D* result) {
  CUmemorytype from, to;
  if (!Directions(kind, &from, &to)) return cudaErrorInvalidMemcpyDirection;
  if (count == 0) return cudaErrorInvalidValue;
  *result = {};
  result->srcMemoryType = from;
  result->dstMemoryType = to;
  if (from == CU_MEMORYTYPE_HOST) {
    result->srcHost = source;
  } else {
    result->srcDevice = Address(source);
  }
  if (to == CU_MEMORYTYPE_HOST) {
    result->dstHost = target;
  } else {
    result->dstDevice = Address(target);
  }
  result->srcPitch = result->dstPitch = result->WidthInBytes = count;
  result->srcHeight = result->dstHeight = result->Height = result->Depth = 1;
  return cudaSuccess;
}

Outcome ToDriver(const Driver& d, const cudaGraphNodeParams* params, CUgraphNodeParams* result) {
  if (params == nullptr) return cudaErrorInvalidValue;
  *result = {};
  result->type = static_cast<CUgraphNodeType>(params->type);
  // Structures with the same fields in the same places are copied as they are.
  const auto same = [](const auto& from, auto* to) {
    static_assert(sizeof(from) <= sizeof(*to));
    std::memcpy(to, &from, sizeof(from));
  };
  switch (params->type) {
    case cudaGraphNodeTypeKernel:
      return Kernel(d, params->kernel, &result->kernel);
    case cudaGraphNodeTypeMemcpy: {
      const Outcome converted = ToDriver(d, &params->memcpy.copyParams, &result->memcpy.copyParams);
      result->memcpy.flags = params->memcpy.flags;
      return converted.ok() ? CurrentContext(d, &result->memcpy.copyCtx) : converted;
    }
    case cudaGraphNodeTypeMemset:
      same(params->memset, &result->memset);
      return CurrentContext(d, &result->memset.ctx);
    case cudaGraphNodeTypeHost:
      same(params->host, &result->host);
      return cudaSuccess;
    case cudaGraphNodeTypeGraph:
      same(params->graph, &result->graph);
      return cudaSuccess;
    case cudaGraphNodeTypeEmpty:
      return cudaSuccess;
    case cudaGraphNodeTypeWaitEvent:
      same(params->eventWait, &result->eventWait);
      return cudaSuccess;
    case cudaGraphNodeTypeEventRecord:
      same(params->eventRecord, &result->eventRecord);
      return cudaSuccess;
    case cudaGraphNodeTypeMemAlloc:
      same(params->alloc, &result->alloc);
      return cudaSuccess;
    case cudaGraphNodeTypeMemFree:
      same(params->free, &result->free);
      return cudaSuccess;
    case cudaGraphNodeTypeConditional:
      same(params->conditional, &result->conditional);
      return CurrentContext(d, &result->conditional.ctx);
    default:
      return cudaErrorNotSupported;
  }
}

void CopyResults(const CUgraphNodeParams& from, cudaGraphNodeParams* to) {
  if (to->type == cudaGraphNodeTypeMemAlloc) to->alloc.dptr = Pointer(from.alloc.dptr);
  if (to->type == cudaGraphNodeTypeConditional) {
    to->conditional.phGraph_out = from.conditional.phGraph_out;
  }
}

}  // namespace farwarp::runtime
