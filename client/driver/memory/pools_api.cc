// cuMemAllocAsync, cuMemFreeAsync, cuMemPool*: answered here, without a reply from the server.
#include "client/custom.h"
#include "client/driver/memory/pools.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

constexpr auto kLegacy = NullStream::kLegacy;
constexpr auto kPerThread = NullStream::kPerThread;

// During capture an allocation is a node, whose address the graph owns.
bool Captured(const Caller& caller, CUdeviceptr* address, size_t bytes, CUstream stream,
              NullStream null, CUresult* result) {
  graph::Graphs& graphs = caller.process->graphs();
  if (!graphs.capturing()) return false;
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, caller.context->ordinal};
  params.bytesize = bytes;
  return graphs.CaptureAlloc(stream, null == kPerThread, params, address, result);
}

// `pool` null: the current one of the stream's device.
CUresult Allocate(CUdeviceptr* address, size_t bytes, CUmemoryPool pool, CUstream stream,
                  NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  if (CUresult captured; Captured(caller, address, bytes, stream, null, &captured)) {
    return captured;
  }
  StreamUse use;
  const CUresult result = ResolveStream(caller, stream, null, &use);
  if (result != CUDA_SUCCESS) return result;
  Pools& pools = caller.process->pools();
  if (pool == nullptr) pool = pools.Current(use.context->ordinal);
  return pools.Allocate(caller, use, pool, bytes, address);
}

CUresult Free(CUdeviceptr address, CUstream stream, NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  StreamUse use;
  CUresult result = ResolveStream(caller, stream, null, &use);
  if (result != CUDA_SUCCESS || address == 0) return result;
  graph::Graphs& graphs = caller.process->graphs();
  if (graphs.capturing() && graphs.CaptureFree(stream, null == kPerThread, address, &result)) {
    return result;
  }
  if (graphs.Free(address, &result)) return result;
  return caller.process->pools().Free(caller, use, address);
}

}  // namespace

CUresult cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
  return Allocate(dptr, bytesize, nullptr, hStream, kLegacy);
}
CUresult cuMemAllocAsync_ptsz(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
  return Allocate(dptr, bytesize, nullptr, hStream, kPerThread);
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                 CUstream hStream) {
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return Allocate(dptr, bytesize, pool, hStream, kLegacy);
}
CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                      CUstream hStream) {
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return Allocate(dptr, bytesize, pool, hStream, kPerThread);
}
CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
  return Free(dptr, hStream, kLegacy);
}
CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream) {
  return Free(dptr, hStream, kPerThread);
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice dev) {
  FARWARP_ENTER(caller);
  if (caller.process->FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (pool_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pool_out = caller.process->pools().Default(dev);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
  FARWARP_ENTER(caller);
  if (caller.process->FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pool = caller.process->pools().Current(dev);
  return CUDA_SUCCESS;
}
CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
  FARWARP_ENTER(caller);
  if (caller.process->FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return caller.process->pools().SetCurrent(dev, pool);
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
  FARWARP_ENTER(caller);
  if (pool == nullptr || poolProps == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->pools().Create(*poolProps, pool);
}
CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  FARWARP_ENTER(caller);
  return caller.process->pools().Destroy(pool);
}
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t) {
  FARWARP_ENTER(caller);
  if (caller.process->pools().Find(pool) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  caller.process->pools().Sweep();
  return CUDA_SUCCESS;
}
CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  FARWARP_ENTER(caller);
  const auto found = caller.process->pools().Find(pool);
  if (found == nullptr || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return found->books.Get(attr, value);
}
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  FARWARP_ENTER(caller);
  const auto found = caller.process->pools().Find(pool);
  if (found == nullptr || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return found->books.Set(attr, value);
}

// A device can use its own pools; others reach them by copies.
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
  FARWARP_ENTER(caller);
  const auto found = caller.process->pools().Find(pool);
  if (found == nullptr || map == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
    if (caller.process->FindDevice(map[i].location.id) == nullptr) {
      return CUDA_ERROR_INVALID_DEVICE;
    }
    const bool own = map[i].location.id == found->ordinal;
    if (own && map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE) return CUDA_ERROR_INVALID_VALUE;
    if (!own && map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_SUCCESS;
}
CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool memPool,
                            CUmemLocation* location) {
  FARWARP_ENTER(caller);
  const auto found = caller.process->pools().Find(memPool);
  if (found == nullptr || flags == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->FindDevice(location->id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *flags = location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id == found->ordinal
               ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
               : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client::custom
