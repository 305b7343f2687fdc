// Device and host memory in the address space: how allocations get their addresses, pay for them
// and give them back. Thread-safe.
#pragma once

#include <cstdint>

#include "server/softgpu/api/driver.h"

namespace farwarp::softgpu {

// Alignment of everything cuMemAlloc returns, as CUDA guarantees it.
inline constexpr std::uint64_t kAllocationAlignment = 512;

// Makes memory of `kind` and registers it. `wanted` gives kind, device, context, flags and pool;
// address, size and charge are filled in. CUDA_ERROR_OUT_OF_MEMORY leaves nothing behind.
CUresult AllocateMemory(Driver& driver, Allocation wanted, std::uint64_t bytes,
                        std::uint64_t* address);
// Gives back what an allocation that is out of the map already occupied.
void FreeMemory(Driver& driver, const Allocation& allocation);

// What cuMemFree does: waits for the work of the context that allocated it, then frees it.
CUresult FreeDevicePointer(Driver& driver, CUdeviceptr pointer);

// Whether a copy may use [address, address + bytes) as host memory: it is allocated, or it is the
// application's own memory, outside of the address space.
bool IsHostRange(Driver& driver, std::uint64_t address, std::uint64_t bytes, bool write);
// Host memory that a copy may read after the call has returned.
bool IsPinned(Driver& driver, std::uint64_t address, std::uint64_t bytes);

}  // namespace farwarp::softgpu
