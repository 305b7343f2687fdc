// cuMem*: device memory is named here and paid for with credit; page-locked host memory is plain
// host memory that we remember.
#include <algorithm>

#include "client/custom.h"
#include "client/driver/memory/managed.h"
#include "client/driver/memory/pools.h"
#include "client/driver/memory/vmm.h"
#include "client/driver/process.h"

namespace farwarp::client::custom {
namespace {

std::uint64_t Number(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

CUresult Allocate(CUdeviceptr* address, std::uint64_t bytes) {
  FARWARP_ENTER_CONTEXT(caller);
  if (address == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  std::uint64_t at = 0;
  const CUresult result = caller.device().memory.Allocate(bytes, caller.context_handle.bits(), &at);
  if (result == CUDA_SUCCESS) *address = at;
  return result;
}

// Waits if an asynchronous copy may still be on its way into a block that is about to go, or has
// yet to read it.
CUresult AwaitCopies(const Caller& caller, const HostRegistry::Block& block) {
  return caller.process->HostMemoryInUse(block.address, block.bytes)
             ? SynchronizeBusy(*caller.process, nullptr, caller.context_handle)
             : CUDA_SUCCESS;
}

constexpr unsigned kHostAllocFlags =
    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
constexpr unsigned kHostRegisterFlags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                        CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;

CUresult AllocateHost(void** memory, size_t bytes, unsigned flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (memory == nullptr || bytes == 0 || (flags & ~kHostAllocFlags) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  void* block = caller.process->host.Allocate(bytes, flags, caller.context_handle.bits());
  if (block == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *memory = block;
  return CUDA_SUCCESS;
}

CUresult RegisterHost(void* memory, size_t bytes, unsigned flags) {
  FARWARP_ENTER_CONTEXT(caller);
  std::uint64_t end = 0;
  if (memory == nullptr || bytes == 0 || (flags & ~kHostRegisterFlags) != 0 ||
      __builtin_add_overflow(Number(memory), bytes, &end)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  const auto outcome =
      caller.process->host.Register(Number(memory), bytes, flags, caller.context_handle.bits());
  return outcome == HostRegistry::Outcome::kDone ? CUDA_SUCCESS
                                                 : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

}  // namespace

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  FARWARP_ENTER_CONTEXT(caller);
  std::uint64_t free_bytes = 0, total_bytes = 0;
  const CUresult result = caller.device().memory.Info(&free_bytes, &total_bytes);
  if (result != CUDA_SUCCESS) return result;
  if (free != nullptr) *free = free_bytes;
  if (total != nullptr) *total = total_bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr* dptr, size_t bytesize) {
  return Allocate(dptr, bytesize);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* dptr, size_t* pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes) {
  if (dptr == nullptr || pPitch == nullptr || WidthInBytes == 0 || Height == 0 ||
      (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  constexpr size_t kPitch = DeviceHeap::kAlignment;
  size_t pitch = 0, bytes = 0;
  if (__builtin_add_overflow(WidthInBytes, kPitch - 1, &pitch)) return CUDA_ERROR_INVALID_VALUE;
  pitch = pitch / kPitch * kPitch;
  if (__builtin_mul_overflow(pitch, Height, &bytes)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = Allocate(dptr, bytes);
  if (result == CUDA_SUCCESS) *pPitch = pitch;
  return result;
}

CUresult cuMemFree_v2(CUdeviceptr dptr) {
  FARWARP_ENTER(caller);
  if (dptr == 0) return CUDA_SUCCESS;
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  if (CUresult result; caller.process->graphs().Free(dptr, &result)) return result;
  Device* device = caller.process->DeviceOf(dptr);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->managed().Find(dptr).address == dptr) {
    const CUresult result = SynchronizeBusy(*caller.process, device, caller.context_handle);
    if (result != CUDA_SUCCESS) return result;
    caller.process->managed().Free(dptr);
    return CUDA_SUCCESS;
  }
  const auto allocation = device->memory.Find(dptr);
  if (!allocation.has_value() || allocation->address != dptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = SynchronizeBusy(*caller.process, device, caller.context_handle);
      result != CUDA_SUCCESS)
    return result;
  if (!caller.process->pools().Forget(dptr)) return CUDA_ERROR_INVALID_VALUE;
  return device->memory.Free(dptr);
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
  FARWARP_ENTER(caller);
  std::uint64_t base = 0, bytes = 0;
  if (Device* device = caller.process->DeviceOf(dptr); device != nullptr) {
    const auto allocation = device->memory.Find(dptr);
    const auto mapping = caller.process->vmm().Find(dptr);
    if (!allocation.has_value() && !mapping.has_value()) return CUDA_ERROR_NOT_FOUND;
    base = allocation.has_value() ? allocation->address : mapping->address;
    bytes = allocation.has_value() ? allocation->bytes : mapping->bytes;
  } else if (const auto variable = caller.process->globals.Find(dptr); variable.has_value()) {
    base = variable->address;
    bytes = variable->bytes;
  } else {
    return CUDA_ERROR_NOT_FOUND;
  }
  if (pbase != nullptr) *pbase = base;
  if (psize != nullptr) *psize = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemAllocHost_v2(void** pp, size_t bytesize) {
  return AllocateHost(pp, bytesize, 0);
}
CUresult cuMemAllocHost(void** pp, unsigned int bytesize) {
  return AllocateHost(pp, bytesize, 0);
}
CUresult cuMemHostAlloc(void** pp, size_t bytesize, unsigned int Flags) {
  return AllocateHost(pp, bytesize, Flags);
}

CUresult cuMemFreeHost(void* p) {
  FARWARP_ENTER(caller);
  if (p == nullptr) return CUDA_SUCCESS;
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  const auto block = caller.process->host.Find(Number(p));
  if (!block.has_value() || block->address != Number(p) || !block->allocated) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = AwaitCopies(caller, *block); result != CUDA_SUCCESS) return result;
  return caller.process->host.Free(Number(p)) == HostRegistry::Outcome::kDone
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemHostRegister_v2(void* p, size_t bytesize, unsigned int Flags) {
  return RegisterHost(p, bytesize, Flags);
}
CUresult cuMemHostRegister(void* p, size_t bytesize, unsigned int Flags) {
  return RegisterHost(p, bytesize, Flags);
}
CUresult cuMemHostUnregister(void* p) {
  FARWARP_ENTER(caller);
  if (p == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult unsafe = caller.process->graphs().CheckUnsafe(); unsafe != CUDA_SUCCESS) {
    return unsafe;
  }
  const auto block = caller.process->host.Find(Number(p));
  if (!block.has_value() || block->address != Number(p) || block->allocated) {
    return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  }
  // The application may free it next.
  if (const CUresult result = AwaitCopies(caller, *block); result != CUDA_SUCCESS) return result;
  return caller.process->host.Unregister(Number(p)) == HostRegistry::Outcome::kDone
             ? CUDA_SUCCESS
             : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* pdptr, void* p, unsigned int Flags) {
  FARWARP_ENTER(caller);
  if (pdptr == nullptr || p == nullptr || Flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!caller.process->host.Find(Number(p)).has_value()) return CUDA_ERROR_INVALID_VALUE;
  *pdptr = 0;
  // The GPU is in another machine: CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY says so.
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemHostGetFlags(unsigned int* pFlags, void* p) {
  FARWARP_ENTER(caller);
  if (pFlags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto block = caller.process->host.Find(Number(p));
  if (!block.has_value()) return CUDA_ERROR_INVALID_VALUE;
  *pFlags = block->flags;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client::custom
