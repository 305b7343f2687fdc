// Virtual memory management: address ranges, physical memory, and the mapping of one to the other.
//
// Two maps describe it: the driver's reservations are the ranges of cuMemAddressReserve, its
// allocations hold what is mapped there. A mapping keeps its physical memory alive after
// cuMemRelease, as CUDA does it. All devices share one address space, so access is per range, not
// per device.
#include <algorithm>
#include <bit>

#include "farwarp/base/log.h"
#include "server/softgpu/api/driver.h"

using namespace farwarp::softgpu;

namespace {

CUresult CheckProperties(Driver& driver, const CUmemAllocationProp* prop) {
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (prop->location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      if (driver.FindDevice(prop->location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
      break;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  return prop->requestedHandleTypes == CU_MEM_HANDLE_TYPE_NONE ? CUDA_SUCCESS
                                                               : CUDA_ERROR_NOT_SUPPORTED;
}

// The device whose memory an extent is.
int DeviceOf(Driver& driver, const PhysicalMemory::Extent& extent) {
  for (const auto& device : driver.devices) {
    const auto physical = device->Physical();
    if (physical.ok() && *physical == extent.owner) return device->ordinal();
  }
  return 0;
}

bool Granular(std::uint64_t value) {
  return value % kVmmGranularity == 0;
}

// The rights that a list of descriptors gives, taken together.
CUresult Rights(Driver& driver, const CUmemAccessDesc* desc, std::size_t count,
                AddressSpace::Access* access) {
  *access = AddressSpace::Access::kNone;
  for (std::size_t i = 0; i < count; ++i) {
    if (desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
      if (driver.FindDevice(desc[i].location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    } else if (desc[i].location.type != CU_MEM_LOCATION_TYPE_HOST) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    switch (desc[i].flags) {
      case CU_MEM_ACCESS_FLAGS_PROT_NONE:
        break;
      case CU_MEM_ACCESS_FLAGS_PROT_READ:
        *access = std::max(*access, AddressSpace::Access::kRead);
        break;
      case CU_MEM_ACCESS_FLAGS_PROT_READWRITE:
        *access = AddressSpace::Access::kReadWrite;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

bool AllMapped(const std::vector<Allocation>& parts) {
  return !parts.empty() && std::all_of(parts.begin(), parts.end(), [](const Allocation& part) {
    return part.kind == MemoryKind::kMapped;
  });
}

// The memory behind a mapping.
PhysicalMemory::Extent& ExtentOf(const Allocation& mapping) {
  return *static_cast<PhysicalMemory::Extent*>(mapping.physical.get());
}

}  // namespace

extern "C" {

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                       CUmemAllocationGranularity_flags option) {
  return CallDriver([&](Driver& driver) {
    if (granularity == nullptr || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult result = CheckProperties(driver, prop);
    if (result == CUDA_SUCCESS) *granularity = kVmmGranularity;
    return result;
  });
}

CUresult cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
  return CallDriver([&](Driver& driver) {
    if (ptr == nullptr || size == 0 || size % AddressSpace::kPage != 0 || flags != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (alignment != 0 && !std::has_single_bit(alignment)) return CUDA_ERROR_INVALID_VALUE;
    const std::uint64_t align = std::max<std::uint64_t>(alignment, kVmmGranularity);
    farwarp::Result<std::uint64_t> at = farwarp::Status::Unavailable("no address wanted");
    // As in CUDA the address is a wish: if it cannot be, another one is given.
    if (addr != 0) at = driver.space.Reserve(size, AddressSpace::kPage, addr);
    if (!at.ok()) at = driver.space.Reserve(size, align);
    if (!at.ok()) return CUDA_ERROR_OUT_OF_MEMORY;
    Allocation reserved;
    reserved.kind = MemoryKind::kMapped;
    reserved.address = *at;
    reserved.bytes = size;
    if (!driver.reservations.Insert(reserved)) {
      static_cast<void>(driver.space.Release(*at));
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *ptr = *at;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size) {
  return CallDriver([&](Driver& driver) {
    const std::optional<Allocation> found = driver.reservations.Find(ptr);
    if (!found || found->address != ptr || found->bytes != size) return CUDA_ERROR_INVALID_VALUE;
    if (driver.allocations.Overlaps(ptr, size)) return CUDA_ERROR_INVALID_VALUE;
    if (!driver.reservations.Remove(ptr)) return CUDA_ERROR_INVALID_VALUE;
    return driver.space.Release(ptr).ok() ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
  });
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  return CallDriver([&](Driver& driver) {
    if (handle == nullptr || flags != 0 || size == 0 || !Granular(size)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult valid = CheckProperties(driver, prop);
    if (valid != CUDA_SUCCESS) return valid;
    const auto physical = driver.FindDevice(prop->location.id)->Physical();
    if (!physical.ok()) {
      FARWARP_LOG(kError, "softgpu: %s", physical.status().message().c_str());
      return CUDA_ERROR_OPERATING_SYSTEM;
    }
    const auto extent = (*physical)->Allocate(size, true);
    if (!extent.ok()) return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = driver.memories.Add(*extent);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  return CallDriver([&](Driver& driver) {
    return driver.memories.Remove(handle) == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  });
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  return CallDriver([&](Driver& driver) {
    const std::shared_ptr<PhysicalMemory::Extent> extent = driver.memories.Find(handle);
    if (extent == nullptr || flags != 0 || size == 0 || !Granular(size) || !Granular(offset) ||
        ptr % AddressSpace::kPage != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (offset > extent->bytes || size > extent->bytes - offset) return CUDA_ERROR_INVALID_VALUE;
    if (!driver.reservations.Covers(ptr, size, false)) return CUDA_ERROR_INVALID_VALUE;
    Allocation mapping;
    mapping.kind = MemoryKind::kMapped;
    mapping.address = ptr;
    mapping.bytes = size;
    mapping.device = DeviceOf(driver, *extent);
    mapping.readable = mapping.writable = false;
    mapping.physical = extent;
    mapping.mapping_offset = offset;
    if (!driver.allocations.Insert(mapping)) return CUDA_ERROR_INVALID_VALUE;
    const farwarp::Status mapped = extent->owner->Map(*extent, ptr, size, offset, driver.in_use);
    if (mapped.ok()) return CUDA_SUCCESS;
    FARWARP_LOG(kError, "softgpu: %s", mapped.message().c_str());
    driver.allocations.Remove(ptr);
    return CUDA_ERROR_MAP_FAILED;
  });
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
  return CallDriver([&](Driver& driver) {
    const std::vector<Allocation> parts = driver.allocations.Exactly(ptr, size);
    if (!AllMapped(parts)) return CUDA_ERROR_INVALID_VALUE;
    // Mappings belong to no context. The caller's own work is waited for if its device may use the
    // range; what others still do with it ends with a fault of theirs.
    std::shared_ptr<Context> current;
    const bool may_use = std::any_of(parts.begin(), parts.end(),
                                     [](const Allocation& part) { return part.readable; });
    if (may_use && CurrentContext(driver, &current) == CUDA_SUCCESS) {
      driver.WaitForUsers(current->id());
    }
    // Out of the map first, so that no copy begins; see in_use.h.
    for (const Allocation& part : parts) driver.allocations.Remove(part.address);
    driver.in_use.WaitUntilUnused({ptr, size});
    CUresult result = CUDA_SUCCESS;
    for (const Allocation& part : parts) {
      PhysicalMemory::Extent& extent = ExtentOf(part);
      const farwarp::Status unmapped = extent.owner->Unmap(extent, part.address, part.bytes);
      if (unmapped.ok()) continue;
      FARWARP_LOG(kError, "softgpu: %s", unmapped.message().c_str());
      driver.allocations.Insert(part);
      result = CUDA_ERROR_UNMAP_FAILED;
    }
    return result;
  });
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc, size_t count) {
  return CallDriver([&](Driver& driver) {
    if (desc == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
    AddressSpace::Access access;
    const CUresult valid = Rights(driver, desc, count, &access);
    if (valid != CUDA_SUCCESS) return valid;
    const std::vector<Allocation> parts = driver.allocations.Exactly(ptr, size);
    if (!AllMapped(parts)) return CUDA_ERROR_INVALID_VALUE;
    for (const Allocation& part : parts) {
      PhysicalMemory::Extent& extent = ExtentOf(part);
      if (!extent.owner->Protect(extent, part.address, part.bytes, access).ok()) {
        return CUDA_ERROR_OPERATING_SYSTEM;
      }
      driver.allocations.Update(part.address, [&](Allocation& mapping) {
        mapping.readable = access != AddressSpace::Access::kNone;
        mapping.writable = access == AddressSpace::Access::kReadWrite;
      });
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr ptr) {
  return CallDriver([&](Driver& driver) {
    if (flags == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const std::optional<Allocation> found = driver.allocations.Find(ptr);
    if (!found || found->kind != MemoryKind::kMapped) return CUDA_ERROR_INVALID_VALUE;
    *flags = found->writable   ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
             : found->readable ? CU_MEM_ACCESS_FLAGS_PROT_READ
                               : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  return CallDriver([&](Driver& driver) {
    const std::shared_ptr<PhysicalMemory::Extent> extent = driver.memories.Find(handle);
    if (prop == nullptr || extent == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *prop = {};
    prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop->location = {CU_MEM_LOCATION_TYPE_DEVICE, DeviceOf(driver, *extent)};
    return CUDA_SUCCESS;
  });
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
  return CallDriver([&](Driver& driver) {
    const std::optional<Allocation> found =
        driver.allocations.Find(reinterpret_cast<std::uint64_t>(addr));
    if (handle == nullptr || !found || found->kind != MemoryKind::kMapped) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    // A handle of its own for the same memory; both must be released.
    *handle =
        driver.memories.Add(std::static_pointer_cast<PhysicalMemory::Extent>(found->physical));
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
