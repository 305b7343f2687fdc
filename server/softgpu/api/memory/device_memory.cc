#include "server/softgpu/api/memory/device_memory.h"

#include <cinttypes>

#include "farwarp/base/log.h"
#include "server/softgpu/api/memory/memory_pool.h"

namespace farwarp::softgpu {
namespace {

std::uint64_t UpToPage(std::uint64_t bytes) {
  return (bytes + AddressSpace::kPage - 1) & ~(AddressSpace::kPage - 1);
}

bool IsCharged(MemoryKind kind) {
  return kind == MemoryKind::kDevice || kind == MemoryKind::kVariable || kind == MemoryKind::kArray;
}

}  // namespace

CUresult AllocateMemory(Driver& driver, Allocation wanted, std::uint64_t bytes,
                        std::uint64_t* address) {
  if (bytes == 0 || bytes > driver.space.bytes() / 2) return CUDA_ERROR_OUT_OF_MEMORY;
  Device* device = driver.FindDevice(wanted.device);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const std::uint64_t whole = UpToPage(bytes);
  if (IsCharged(wanted.kind)) {
    if (!device->budget().Charge(whole)) {
      FARWARP_LOG(kInfo, "softgpu: device %d has %" PRIu64 " bytes left, %" PRIu64 " wanted",
                  wanted.device, device->budget().free(), whole);
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
    wanted.charged_bytes = whole;
  }
  // The page behind each allocation stays inaccessible: running over the end of one is a fault.
  const Result<std::uint64_t> at = driver.space.Reserve(whole + AddressSpace::kPage);
  if (at.ok() && driver.space.Commit(*at, whole).ok()) {
    wanted.address = *at;
    wanted.bytes = bytes;
    if (driver.allocations.Insert(wanted)) {
      *address = *at;
      return CUDA_SUCCESS;
    }
  }
  if (at.ok()) static_cast<void>(driver.space.Release(*at));
  device->budget().Refund(wanted.charged_bytes);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

void FreeMemory(Driver& driver, const Allocation& allocation) {
  if (allocation.kind == MemoryKind::kRegistered || allocation.kind == MemoryKind::kMapped) {
    return driver.in_use.WaitUntilUnused({allocation.address, allocation.bytes});
  }
  driver.in_use.WaitUntilUnused({allocation.address, allocation.bytes});
  if (const Status released = driver.space.Release(allocation.address); !released.ok()) {
    FARWARP_LOG(kError, "softgpu: %s", released.message().c_str());
  }
  if (const auto pool = driver.pools.Find(reinterpret_cast<CUmemoryPool>(allocation.pool))) {
    pool->books.Discharge(allocation.bytes);
  }
  if (Device* device = driver.FindDevice(allocation.device)) {
    device->budget().Refund(allocation.charged_bytes);
  }
}

CUresult FreeDevicePointer(Driver& driver, CUdeviceptr pointer) {
  const std::optional<Allocation> found = driver.allocations.Find(pointer);
  if (!found || found->address != pointer ||
      (found->kind != MemoryKind::kDevice && found->kind != MemoryKind::kManaged)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  driver.WaitForUsers(found->context);
  const std::optional<Allocation> removed = driver.allocations.Remove(pointer, found->kind);
  if (!removed) return CUDA_ERROR_INVALID_VALUE;  // Another thread was faster.
  FreeMemory(driver, *removed);
  return CUDA_SUCCESS;
}

bool IsHostRange(Driver& driver, std::uint64_t address, std::uint64_t bytes, bool write) {
  if (bytes == 0) return true;
  if (address == 0 || address + bytes < address) return false;
  const std::uint64_t low = driver.space.base();
  const std::uint64_t high = low + driver.space.bytes();
  if (address + bytes <= low || address >= high) return true;
  return driver.allocations.Covers(address, bytes, write);
}

bool IsPinned(Driver& driver, std::uint64_t address, std::uint64_t bytes) {
  const std::optional<Allocation> found = driver.allocations.Find(address);
  return found && bytes <= found->end() - address;
}

}  // namespace farwarp::softgpu
