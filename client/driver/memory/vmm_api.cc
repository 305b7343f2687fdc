// cuMemAddressReserve, cuMemCreate, cuMemMap and their kin.
#include "client/custom.h"
#include "client/driver/memory/vmm.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

CUresult CheckProperties(const Caller& caller, const CUmemAllocationProp* prop) {
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Memory cannot be shared with processes on other machines, nor lie in the program's memory.
  if (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return caller.process->FindDevice(prop->location.id) != nullptr ? CUDA_SUCCESS
                                                                  : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                       CUmemAllocationGranularity_flags option) {
  FARWARP_ENTER(caller);
  if (granularity == nullptr || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUresult result = CheckProperties(caller, prop);
  if (result == CUDA_SUCCESS) *granularity = Vmm::kGranularity;
  return result;
}
CUresult cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
  FARWARP_ENTER(caller);
  if (ptr == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  caller.context = caller.process->contexts.Find(caller.context_handle);
  return caller.process->vmm().Reserve(caller, size, alignment, addr, ptr);
}
CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size) {
  FARWARP_ENTER(caller);
  return caller.process->vmm().Unreserve(ptr, size);
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  FARWARP_ENTER(caller);
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = CheckProperties(caller, prop);
  return result != CUDA_SUCCESS ? result : caller.process->vmm().Create(*prop, size, handle);
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  FARWARP_ENTER(caller);
  return caller.process->vmm().Release(handle);
}
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  FARWARP_ENTER(caller);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->vmm().Map(ptr, size, offset, handle);
}
CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
  FARWARP_ENTER(caller);
  return caller.process->vmm().Unmap(ptr, size);
}
CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc, size_t count) {
  FARWARP_ENTER(caller);
  if (desc == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->vmm().SetAccess(ptr, size, desc, count);
}
CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr ptr) {
  FARWARP_ENTER(caller);
  if (flags == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->FindDevice(location->id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return caller.process->vmm().GetAccess(ptr, location->id, flags);
}
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
  FARWARP_ENTER(caller);
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->vmm().Retain(reinterpret_cast<std::uint64_t>(addr), handle);
}
CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  FARWARP_ENTER(caller);
  if (prop == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->vmm().Properties(handle, prop);
}

}  // namespace farwarp::client::custom
