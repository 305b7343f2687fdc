// Device and managed memory: allocation, release, information, advice.
#include <algorithm>

#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/device_memory.h"

using namespace farwarp::softgpu;

namespace {

CUresult Allocate(Driver& driver, Context& context, MemoryKind kind, std::uint64_t bytes,
                  unsigned flags, CUdeviceptr* pointer) {
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
  Allocation wanted;
  wanted.kind = kind;
  wanted.device = context.device().ordinal();
  wanted.context = context.id();
  wanted.flags = flags;
  std::uint64_t address = 0;
  const CUresult result = AllocateMemory(driver, wanted, bytes, &address);
  if (result == CUDA_SUCCESS) *pointer = address;
  return result;
}

// Advice and prefetches concern managed memory and change nothing where host and device share it.
CUresult CheckManaged(Driver& driver, CUdeviceptr pointer, std::size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::optional<Allocation> found = driver.allocations.Find(pointer);
  if (!found || found->kind != MemoryKind::kManaged || bytes > found->end() - pointer) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

bool ValidLocation(Driver& driver, CUmemLocation location) {
  return location.type != CU_MEM_LOCATION_TYPE_DEVICE || driver.FindDevice(location.id) != nullptr;
}

CUmemLocation LocationOf(CUdevice device) {
  return {device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE,
          device == CU_DEVICE_CPU ? 0 : device};
}

}  // namespace

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr* dptr, size_t bytesize) {
  return CallContext([&](Driver& driver, Context& context) {
    return Allocate(driver, context, MemoryKind::kDevice, bytesize, 0, dptr);
  });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* dptr, size_t* pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes) {
  return CallContext([&](Driver& driver, Context& context) {
    if (pPitch == nullptr || WidthInBytes == 0 || Height == 0) return CUDA_ERROR_INVALID_VALUE;
    if (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    constexpr std::size_t kPitch = kTextureAlignment;
    std::size_t pitch, bytes;
    if (__builtin_add_overflow(WidthInBytes, kPitch - 1, &pitch)) return CUDA_ERROR_OUT_OF_MEMORY;
    pitch &= ~(kPitch - 1);
    if (__builtin_mul_overflow(pitch, Height, &bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = Allocate(driver, context, MemoryKind::kDevice, bytes, 0, dptr);
    if (result == CUDA_SUCCESS) *pPitch = pitch;
    return result;
  });
}

CUresult cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned int flags) {
  return CallContext([&](Driver& driver, Context& context) {
    if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return Allocate(driver, context, MemoryKind::kManaged, bytesize, flags, dptr);
  });
}

CUresult cuMemFree_v2(CUdeviceptr dptr) {
  return CallContext([&](Driver& driver, Context& context) {
    if (dptr == 0) return CUDA_SUCCESS;
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    if (CUresult result; GraphsOf(driver).Free(dptr, &result)) {
      return result != CUDA_SUCCESS ? result : context.Synchronize(nullptr);
    }
    return FreeDevicePointer(driver, dptr);
  });
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return CallContext([&](Driver&, Context& context) {
    if (free == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *free = context.device().budget().free();
    *total = context.device().budget().total();
    return CUDA_SUCCESS;
  });
}
CUresult cuMemGetInfo(unsigned int* free, unsigned int* total) {
  return CallContext([&](Driver&, Context& context) {
    if (free == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
    constexpr std::uint64_t kMost = 0xffffffff;
    *free = static_cast<unsigned>(std::min(context.device().budget().free(), kMost));
    *total = static_cast<unsigned>(std::min(context.device().budget().total(), kMost));
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
  return CallContext([&](Driver& driver, Context&) {
    const std::optional<Allocation> found = driver.allocations.Find(dptr);
    if (!found || found->kind == MemoryKind::kRegistered) return CUDA_ERROR_NOT_FOUND;
    if (pbase != nullptr) *pbase = found->address;
    if (psize != nullptr) *psize = found->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                               unsigned int flags, CUstream hStream) {
  return CallStream(hStream, [&](Driver& driver, Context&, std::shared_ptr<Stream>&) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (!ValidLocation(driver, location)) return CUDA_ERROR_INVALID_DEVICE;
    return CheckManaged(driver, devPtr, count);
  });
}
CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                            CUstream hStream) {
  return cuMemPrefetchAsync_v2(devPtr, count, LocationOf(dstDevice), 0, hStream);
}

CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
                        CUmemLocation location) {
  return CallContext([&](Driver& driver, Context&) {
    if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (!ValidLocation(driver, location)) return CUDA_ERROR_INVALID_DEVICE;
    return CheckManaged(driver, devPtr, count);
  });
}
CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
  return cuMemAdvise_v2(devPtr, count, advice, LocationOf(device));
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length,
                                unsigned int flags) {
  return CallStream(hStream, [&](Driver& driver, Context&, std::shared_ptr<Stream>& stream) {
    if (flags == CU_MEM_ATTACH_SINGLE && stream->kind() == StreamKind::kLegacy) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST &&
        flags != CU_MEM_ATTACH_SINGLE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const std::optional<Allocation> found = driver.allocations.Find(dptr);
    if (!found || found->kind != MemoryKind::kManaged || (length != 0 && length != found->bytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr devPtr, size_t count, CUmemLocation location,
                                    unsigned int flags, CUstream hStream) {
  return cuMemPrefetchAsync_v2(devPtr, count, location, flags, PerThread(hStream));
}
CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                                 CUstream hStream) {
  return cuMemPrefetchAsync(devPtr, count, dstDevice, PerThread(hStream));
}
CUresult cuStreamAttachMemAsync_ptsz(CUstream hStream, CUdeviceptr dptr, size_t length,
                                     unsigned int flags) {
  return cuStreamAttachMemAsync(PerThread(hStream), dptr, length, flags);
}

}  // extern "C"
