// cuMemAllocManaged, and hints about where managed memory should be, which change nothing that a
// program can see.
#include "client/custom.h"
#include "client/driver/memory/managed.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

CUresult CheckRange(const Caller& caller, CUdeviceptr address, size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const Managed::Range range = caller.process->managed().Find(address);
  return range.address != 0 && bytes <= range.bytes - (address - range.address)
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult CheckPlace(const Caller& caller, CUmemLocationType type, int id) {
  if (type == CU_MEM_LOCATION_TYPE_DEVICE && caller.process->FindDevice(id) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  return CUDA_SUCCESS;
}

// To the device: what the program wrote goes there now. To the host: its first touch brings it.
CUresult Prefetch(CUdeviceptr address, size_t bytes, CUmemLocationType type, int id,
                  CUstream stream, NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  CUresult result = CheckRange(caller, address, bytes);
  if (result == CUDA_SUCCESS) result = CheckPlace(caller, type, id);
  if (result == CUDA_SUCCESS) {
    result = caller.process->graphs().CheckStream(stream, null == NullStream::kPerThread);
  }
  if (result == CUDA_SUCCESS && type == CU_MEM_LOCATION_TYPE_DEVICE) {
    result = caller.process->managed().BeforeWork(caller);
  }
  StreamUse use;
  return result != CUDA_SUCCESS ? result : ResolveStream(caller, stream, null, &use);
}

CUresult Advise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocationType type,
                int id) {
  FARWARP_ENTER_CONTEXT(caller);
  if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUresult result = CheckRange(caller, address, bytes);
  const bool placed = advice != CU_MEM_ADVISE_SET_READ_MOSTLY &&
                      advice != CU_MEM_ADVISE_UNSET_READ_MOSTLY &&
                      advice != CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION;
  return result != CUDA_SUCCESS || !placed ? result : CheckPlace(caller, type, id);
}

// What it would let the host do while kernels run elsewhere, it may do anyway: a touch waits.
CUresult Attach(CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags,
                NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  const bool single = flags == CU_MEM_ATTACH_SINGLE;
  if (!single && flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // 0 says all of it, too.
  const Managed::Range range = caller.process->managed().Find(address);
  if (range.address == 0 || (bytes != 0 && bytes != range.bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUresult captured =
      caller.process->graphs().CheckStream(stream, null == NullStream::kPerThread);
  if (captured != CUDA_SUCCESS) return captured;
  StreamUse use;
  const CUresult result = ResolveStream(caller, stream, null, &use);
  if (result != CUDA_SUCCESS) return result;
  return single && use.legacy() ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUmemLocationType TypeOf(CUdevice device) {
  return device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
}

}  // namespace

CUresult cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned int flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (dptr == nullptr || bytesize == 0 ||
      (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  return caller.process->managed().Allocate(caller, bytesize, dptr);
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length,
                                unsigned int flags) {
  return Attach(hStream, dptr, length, flags, NullStream::kLegacy);
}
CUresult cuStreamAttachMemAsync_ptsz(CUstream hStream, CUdeviceptr dptr, size_t length,
                                     unsigned int flags) {
  return Attach(hStream, dptr, length, flags, NullStream::kPerThread);
}

CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                            CUstream hStream) {
  return Prefetch(devPtr, count, TypeOf(dstDevice), dstDevice, hStream, NullStream::kLegacy);
}
CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                                 CUstream hStream) {
  return Prefetch(devPtr, count, TypeOf(dstDevice), dstDevice, hStream, NullStream::kPerThread);
}
CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                               unsigned int flags, CUstream hStream) {
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return Prefetch(devPtr, count, location.type, location.id, hStream, NullStream::kLegacy);
}
CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                                    unsigned int flags, CUstream hStream) {
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return Prefetch(devPtr, count, location.type, location.id, hStream, NullStream::kPerThread);
}
CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
  return Advise(devPtr, count, advice, TypeOf(device), device);
}
CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
                        CUmemLocation location) {
  return Advise(devPtr, count, advice, location.type, location.id);
}

}  // namespace farwarp::client::custom
