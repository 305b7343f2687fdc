// Allocation, pinned and managed memory, memory pools, and what is known about a pointer.
#include <algorithm>

#include "client/runtime/api.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

// Allocations of nothing succeed and give a null pointer, which the driver would refuse.
Outcome Allocate(const Driver& d, void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  CUdeviceptr address = 0;
  const Outcome allocated = d.MemAlloc(&address, bytes);
  if (allocated.ok()) *pointer = Pointer(address);
  return allocated;
}

Outcome AllocatePitched(const Driver& d, void** pointer, size_t* pitch, size_t width,
                        size_t height) {
  if (pointer == nullptr || pitch == nullptr) return cudaErrorInvalidValue;
  if (width == 0 || height == 0) {
    *pointer = nullptr;
    *pitch = 0;
    return cudaSuccess;
  }
  CUdeviceptr address = 0;
  size_t row = 0;
  // The largest element that the driver aligns for, so that any element may be read whole.
  constexpr unsigned kElementBytes = 16;
  const Outcome allocated = d.MemAllocPitch(&address, &row, width, height, kElementBytes);
  if (!allocated.ok()) return allocated;
  *pointer = Pointer(address);
  *pitch = row;
  return allocated;
}

Outcome AllocateHost(const Driver& d, void** pointer, size_t bytes, unsigned flags) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  constexpr unsigned kKnown =
      cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if ((flags & ~kKnown) != 0) return cudaErrorInvalidValue;
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  // The runtime's pinned memory is usable by every device.
  return d.MemHostAlloc(pointer, bytes, flags | CU_MEMHOSTALLOC_PORTABLE);
}

Outcome DescribePointer(const Driver& d, cudaPointerAttributes* attributes, const void* pointer) {
  if (attributes == nullptr) return cudaErrorInvalidValue;
  unsigned type = 0, managed = 0;
  int ordinal = 0;
  CUdeviceptr device_pointer = 0;
  void* host_pointer = nullptr;
  CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                  CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                  CU_POINTER_ATTRIBUTE_HOST_POINTER};
  void* values[] = {&type, &managed, &ordinal, &device_pointer, &host_pointer};
  const Outcome asked = d.PointerGetAttributes(5, wanted, values, Address(pointer));
  if (!asked.ok() && asked.error != cudaErrorInvalidValue) return asked;
  cudaPointerAttributes result = {};
  if (!asked.ok() || type == 0) {
    // Memory that CUDA does not know.
    result.type = cudaMemoryTypeUnregistered;
    result.device = cudaInvalidDeviceId;
    result.hostPointer = const_cast<void*>(pointer);
  } else {
    result.type = managed != 0                 ? cudaMemoryTypeManaged
                  : type == CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost
                                               : cudaMemoryTypeDevice;
    result.device = ordinal;
    result.devicePointer = Pointer(device_pointer);
    result.hostPointer = host_pointer;
  }
  *attributes = result;
  return cudaSuccess;
}

// Device numbers of the runtime and of the driver agree, so that locations pass as they are.
CUdevice HandleOf(int device) {
  CUdevice handle = -1;
  return Process::Get().Device(device, &handle) == cudaSuccess ? handle : -1;
}

}  // namespace

RT_API(cudaMalloc, (void** devPtr, size_t size), { return Allocate(d, devPtr, size); })

RT_API(cudaFree, (void* devPtr), {
  if (devPtr == nullptr) return cudaSuccess;
  return d.MemFree(Address(devPtr));
})

RT_API(cudaMallocPitch, (void** devPtr, size_t* pitch, size_t width, size_t height),
       { return AllocatePitched(d, devPtr, pitch, width, height); })

RT_API(cudaMalloc3D, (cudaPitchedPtr * pitchedDevPtr, cudaExtent extent), {
  if (pitchedDevPtr == nullptr) return cudaErrorInvalidValue;
  size_t rows = 0;
  if (__builtin_mul_overflow(extent.height, extent.depth, &rows)) {
    return cudaErrorMemoryAllocation;
  }
  cudaPitchedPtr result = {};
  const Outcome allocated = AllocatePitched(d, &result.ptr, &result.pitch, extent.width, rows);
  result.xsize = extent.width;
  result.ysize = extent.height;
  if (allocated.ok()) *pitchedDevPtr = result;
  return allocated;
})

RT_API(cudaMallocHost, (void** ptr, size_t size), { return AllocateHost(d, ptr, size, 0); })
RT_API(cudaHostAlloc, (void** pHost, size_t size, unsigned int flags),
       { return AllocateHost(d, pHost, size, flags); })
RT_API(cudaFreeHost, (void* ptr), {
  if (ptr == nullptr) return cudaSuccess;
  return d.MemFreeHost(ptr);
})
RT_API(cudaHostRegister, (void* ptr, size_t size, unsigned int flags),
       { return d.MemHostRegister(ptr, size, flags | CU_MEMHOSTREGISTER_PORTABLE); })
RT_API(cudaHostUnregister, (void* ptr), { return d.MemHostUnregister(ptr); })
RT_API(cudaHostGetDevicePointer, (void** pDevice, void* pHost, unsigned int flags), {
  if (pDevice == nullptr) return cudaErrorInvalidValue;
  CUdeviceptr address = 0;
  const Outcome found = d.MemHostGetDevicePointer(&address, pHost, flags);
  if (found.ok()) *pDevice = Pointer(address);
  return found;
})
RT_API(cudaHostGetFlags, (unsigned int* pFlags, void* pHost),
       { return d.MemHostGetFlags(pFlags, pHost); })

RT_API(cudaMallocManaged, (void** devPtr, size_t size, unsigned int flags), {
  if (devPtr == nullptr || size == 0) return cudaErrorInvalidValue;
  return Pass(d.MemAllocManaged, devPtr, size, flags);
})
RT_API(cudaMemGetInfo, (size_t* free, size_t* total), {
  size_t free_bytes = 0, total_bytes = 0;
  const Outcome asked = d.MemGetInfo(&free_bytes, &total_bytes);
  if (asked.ok() && free != nullptr) *free = free_bytes;
  if (asked.ok() && total != nullptr) *total = total_bytes;
  return asked;
})
RT_API(cudaPointerGetAttributes, (cudaPointerAttributes * attributes, const void* ptr),
       { return DescribePointer(d, attributes, ptr); })

RT_API_PTSZ(cudaMallocAsync, (void** devPtr, size_t size, cudaStream_t hStream), {
  if (devPtr == nullptr) return cudaErrorInvalidValue;
  if (size == 0) {
    *devPtr = nullptr;
    return cudaSuccess;
  }
  return Pass(d.MemAllocAsync, devPtr, size, hStream);
})
RT_API_PTSZ(cudaMallocFromPoolAsync,
            (void** ptr, size_t size, cudaMemPool_t memPool, cudaStream_t stream),
            { return Pass(d.MemAllocFromPoolAsync, ptr, size, memPool, stream); })
RT_API_PTSZ(cudaFreeAsync, (void* devPtr, cudaStream_t hStream), {
  if (devPtr == nullptr) return cudaSuccess;
  return d.MemFreeAsync(Address(devPtr), hStream);
})

RT_API(cudaMemAdvise,
       (const void* devPtr, size_t count, cudaMemoryAdvise advice, cudaMemLocation location),
       { return Pass(d.MemAdvise, devPtr, count, advice, location); })
RT_API_PTSZ(cudaMemPrefetchAsync,
            (const void* devPtr, size_t count, cudaMemLocation location, unsigned int flags,
             cudaStream_t stream),
            { return Pass(d.MemPrefetchAsync, devPtr, count, location, flags, stream); })
RT_API_PTSZ(cudaMemPrefetchBatchAsync,
            (void** dptrs, size_t* sizes, size_t count, cudaMemLocation* prefetchLocs,
             size_t* prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
             cudaStream_t stream),
            {
              return Pass(d.MemPrefetchBatchAsync, dptrs, sizes, count, prefetchLocs,
                          prefetchLocIdxs, numPrefetchLocs, flags, stream);
            })
RT_API_PTSZ(cudaMemDiscardBatchAsync,
            (void** dptrs, size_t* sizes, size_t count, unsigned long long flags,
             cudaStream_t stream),
            { return Pass(d.MemDiscardBatchAsync, dptrs, sizes, count, flags, stream); })
RT_API_PTSZ(cudaMemDiscardAndPrefetchBatchAsync,
            (void** dptrs, size_t* sizes, size_t count, cudaMemLocation* prefetchLocs,
             size_t* prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags,
             cudaStream_t stream),
            {
              return Pass(d.MemDiscardAndPrefetchBatchAsync, dptrs, sizes, count, prefetchLocs,
                          prefetchLocIdxs, numPrefetchLocs, flags, stream);
            })
RT_API(cudaMemRangeGetAttribute,
       (void* data, size_t dataSize, cudaMemRangeAttribute attribute, const void* devPtr,
        size_t count),
       { return Pass(d.MemRangeGetAttribute, data, dataSize, attribute, devPtr, count); })
RT_API(cudaMemRangeGetAttributes,
       (void** data, size_t* dataSizes, cudaMemRangeAttribute* attributes, size_t numAttributes,
        const void* devPtr, size_t count),
       {
         return Pass(d.MemRangeGetAttributes, data, dataSizes, attributes, numAttributes, devPtr,
                     count);
       })

RT_API_INIT(cudaDeviceGetDefaultMemPool, (cudaMemPool_t * memPool, int device),
            { return d.DeviceGetDefaultMemPool(memPool, HandleOf(device)); })
RT_API_INIT(cudaDeviceSetMemPool, (int device, cudaMemPool_t memPool),
            { return d.DeviceSetMemPool(HandleOf(device), memPool); })
RT_API_INIT(cudaDeviceGetMemPool, (cudaMemPool_t * memPool, int device),
            { return d.DeviceGetMemPool(memPool, HandleOf(device)); })
RT_API(cudaMemPoolTrimTo, (cudaMemPool_t memPool, size_t minBytesToKeep),
       { return d.MemPoolTrimTo(memPool, minBytesToKeep); })
RT_API(cudaMemPoolSetAttribute, (cudaMemPool_t memPool, cudaMemPoolAttr attr, void* value),
       { return Pass(d.MemPoolSetAttribute, memPool, attr, value); })
RT_API(cudaMemPoolGetAttribute, (cudaMemPool_t memPool, cudaMemPoolAttr attr, void* value),
       { return Pass(d.MemPoolGetAttribute, memPool, attr, value); })
RT_API(cudaMemPoolSetAccess,
       (cudaMemPool_t memPool, const cudaMemAccessDesc* descList, size_t count),
       { return Pass(d.MemPoolSetAccess, memPool, descList, count); })
RT_API(cudaMemPoolGetAccess,
       (cudaMemAccessFlags * flags, cudaMemPool_t memPool, cudaMemLocation* location),
       { return Pass(d.MemPoolGetAccess, flags, memPool, location); })
RT_API(cudaMemPoolCreate, (cudaMemPool_t * memPool, const cudaMemPoolProps* poolProps),
       { return Pass(d.MemPoolCreate, memPool, poolProps); })
RT_API(cudaMemPoolDestroy, (cudaMemPool_t memPool), { return d.MemPoolDestroy(memPool); })
RT_API(cudaMemGetDefaultMemPool,
       (cudaMemPool_t * memPool, cudaMemLocation* location, cudaMemAllocationType type),
       { return Pass(d.MemGetDefaultMemPool, memPool, location, type); })
RT_API(cudaMemGetMemPool,
       (cudaMemPool_t * memPool, cudaMemLocation* location, cudaMemAllocationType type),
       { return Pass(d.MemGetMemPool, memPool, location, type); })
RT_API(cudaMemSetMemPool,
       (cudaMemLocation * location, cudaMemAllocationType type, cudaMemPool_t memPool),
       { return Pass(d.MemSetMemPool, location, type, memPool); })
RT_API(cudaMemPoolExportToShareableHandle,
       (void* shareableHandle, cudaMemPool_t memPool, cudaMemAllocationHandleType handleType,
        unsigned int flags),
       {
         return Pass(d.MemPoolExportToShareableHandle, shareableHandle, memPool, handleType, flags);
       })
RT_API(cudaMemPoolImportFromShareableHandle,
       (cudaMemPool_t * memPool, void* shareableHandle, cudaMemAllocationHandleType handleType,
        unsigned int flags),
       {
         return Pass(d.MemPoolImportFromShareableHandle, memPool, shareableHandle, handleType,
                     flags);
       })
RT_API(cudaMemPoolExportPointer, (cudaMemPoolPtrExportData * exportData, void* ptr),
       { return Pass(d.MemPoolExportPointer, exportData, ptr); })
RT_API(cudaMemPoolImportPointer,
       (void** ptr, cudaMemPool_t memPool, cudaMemPoolPtrExportData* exportData),
       { return Pass(d.MemPoolImportPointer, ptr, memPool, exportData); })

RT_API(cudaIpcGetEventHandle, (cudaIpcEventHandle_t * handle, cudaEvent_t event),
       { return Pass(d.IpcGetEventHandle, handle, event); })
RT_API(cudaIpcOpenEventHandle, (cudaEvent_t * event, cudaIpcEventHandle_t handle),
       { return Pass(d.IpcOpenEventHandle, event, handle); })
RT_API(cudaIpcGetMemHandle, (cudaIpcMemHandle_t * handle, void* devPtr),
       { return Pass(d.IpcGetMemHandle, handle, devPtr); })
RT_API(cudaIpcOpenMemHandle, (void** devPtr, cudaIpcMemHandle_t handle, unsigned int flags),
       { return Pass(d.IpcOpenMemHandle, devPtr, handle, flags); })
RT_API(cudaIpcCloseMemHandle, (void* devPtr), { return Pass(d.IpcCloseMemHandle, devPtr); })
