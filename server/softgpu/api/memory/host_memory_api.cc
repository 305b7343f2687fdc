// Pinned host memory. What the driver allocates lies in the address space, so kernels can use it at
// its own address. Memory that the application registers stays where it is: copies treat it as
// pinned, but kernels cannot reach it.
#include "farwarp/base/log.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/device_memory.h"

using namespace farwarp::softgpu;

namespace {

constexpr unsigned kAllocFlags =
    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
constexpr unsigned kRegisterFlags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                    CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;

std::uint64_t Address(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

bool IsHostMemory(const std::optional<Allocation>& found) {
  return found && (found->kind == MemoryKind::kPinned || found->kind == MemoryKind::kRegistered);
}

}  // namespace

extern "C" {

CUresult cuMemHostAlloc(void** pp, size_t bytesize, unsigned int Flags) {
  return CallContext([&](Driver& driver, Context& context) {
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    if (pp == nullptr || bytesize == 0 || (Flags & ~kAllocFlags) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    Allocation wanted;
    wanted.kind = MemoryKind::kPinned;
    wanted.device = context.device().ordinal();
    wanted.context = context.id();
    // Every allocation can be used by every context and is mapped, as with unified addressing.
    wanted.flags = Flags | CU_MEMHOSTALLOC_DEVICEMAP;
    std::uint64_t address = 0;
    const CUresult result = AllocateMemory(driver, wanted, bytesize, &address);
    if (result == CUDA_SUCCESS) *pp = reinterpret_cast<void*>(address);
    return result;
  });
}

CUresult cuMemAllocHost_v2(void** pp, size_t bytesize) {
  return cuMemHostAlloc(pp, bytesize, 0);
}
CUresult cuMemAllocHost(void** pp, unsigned int bytesize) {
  return cuMemHostAlloc(pp, bytesize, 0);
}

CUresult cuMemFreeHost(void* p) {
  return CallContext([&](Driver& driver, Context&) {
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    if (p == nullptr) return CUDA_SUCCESS;
    const std::optional<Allocation> found = driver.allocations.Find(Address(p));
    if (!found || found->address != Address(p) || found->kind != MemoryKind::kPinned) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    driver.WaitForUsers(found->context);
    const auto removed = driver.allocations.Remove(Address(p), MemoryKind::kPinned);
    if (!removed) return CUDA_ERROR_INVALID_VALUE;
    FreeMemory(driver, *removed);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostRegister_v2(void* p, size_t bytesize, unsigned int Flags) {
  return CallContext([&](Driver& driver, Context& context) {
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    if (p == nullptr || bytesize == 0 || (Flags & ~kRegisterFlags) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    Allocation wanted;
    wanted.kind = MemoryKind::kRegistered;
    wanted.address = Address(p);
    wanted.bytes = bytesize;
    wanted.device = context.device().ordinal();
    wanted.context = context.id();
    wanted.flags = Flags;
    if (wanted.end() < wanted.address) return CUDA_ERROR_INVALID_VALUE;
    return driver.allocations.Insert(wanted) ? CUDA_SUCCESS
                                             : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  });
}
CUresult cuMemHostRegister(void* p, size_t bytesize, unsigned int Flags) {
  return cuMemHostRegister_v2(p, bytesize, Flags);
}

CUresult cuMemHostUnregister(void* p) {
  return CallContext([&](Driver& driver, Context&) {
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    if (p == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const std::optional<Allocation> found = driver.allocations.Find(Address(p));
    if (!found || found->address != Address(p) || found->kind != MemoryKind::kRegistered) {
      return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    driver.WaitForUsers(found->context);
    const auto removed = driver.allocations.Remove(Address(p), MemoryKind::kRegistered);
    if (!removed) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    FreeMemory(driver, *removed);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* pdptr, void* p, unsigned int Flags) {
  return CallContext([&](Driver& driver, Context&) {
    if (pdptr == nullptr || Flags != 0) return CUDA_ERROR_INVALID_VALUE;
    const std::optional<Allocation> found = driver.allocations.Find(Address(p));
    if (!IsHostMemory(found)) return CUDA_ERROR_INVALID_VALUE;
    if (found->kind == MemoryKind::kRegistered) {
      FARWARP_LOG(kWarn,
                  "softgpu: kernels cannot use registered memory, only memory allocated by "
                  "cuMemHostAlloc");
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    *pdptr = Address(p);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostGetFlags(unsigned int* pFlags, void* p) {
  return CallContext([&](Driver& driver, Context&) {
    const std::optional<Allocation> found = driver.allocations.Find(Address(p));
    if (pFlags == nullptr || !found || found->kind != MemoryKind::kPinned) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *pFlags = found->flags;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
