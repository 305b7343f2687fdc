// Stream-ordered allocation and memory pools.
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/device_memory.h"
#include "server/softgpu/api/memory/memory_pool.h"

using namespace farwarp::softgpu;
namespace graph = farwarp::graph;

namespace {

CUresult AllocateFrom(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                      CUmemoryPool handle, std::size_t bytes, CUdeviceptr* pointer) {
  if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::shared_ptr<MemoryPool> pool = driver.pools.Find(handle);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!pool->books.Charge(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation wanted;
  wanted.kind = MemoryKind::kDevice;
  wanted.device = pool->device;
  wanted.context = context.id();
  wanted.pool = HandleBits(handle);
  std::uint64_t address = 0;
  CUresult result = AllocateMemory(driver, wanted, bytes, &address);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    // What earlier calls freed in this stream is free only when the stream gets there.
    context.Synchronize(stream.get());
    result = AllocateMemory(driver, wanted, bytes, &address);
  }
  if (result != CUDA_SUCCESS) {
    pool->books.Discharge(bytes);
    return result;
  }
  pool->books.NoteHigh();
  *pointer = address;
  return CUDA_SUCCESS;
}

// During capture an allocation is a node, whose address the graph owns.
bool CaptureAlloc(Driver& driver, Context& context, CUstream stream, std::size_t bytes,
                  CUdeviceptr* pointer, CUresult* result) {
  graph::Graphs& graphs = GraphsOf(driver);
  if (!graphs.capturing()) return false;
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, context.device().ordinal()};
  params.bytesize = bytes;
  return graphs.CaptureAlloc(stream, false, params, pointer, result);
}

void FreeNow(Driver& driver, CUdeviceptr pointer) {
  const auto removed = driver.allocations.Remove(pointer, MemoryKind::kDevice);
  if (removed) FreeMemory(driver, *removed);
}

template <typename Body>
CUresult CallPool(CUmemoryPool handle, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    const std::shared_ptr<MemoryPool> pool = driver.pools.Find(handle);
    return pool == nullptr ? CUDA_ERROR_INVALID_VALUE : body(driver, *pool);
  });
}

}  // namespace

extern "C" {

CUresult cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (CUresult captured; CaptureAlloc(driver, context, hStream, bytesize, dptr, &captured)) {
      return captured;
    }
    return AllocateFrom(driver, context, s, context.device().current_pool.load(), bytesize, dptr);
  });
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                 CUstream hStream) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (CUresult captured; CaptureAlloc(driver, context, hStream, bytesize, dptr, &captured)) {
      return captured;
    }
    return AllocateFrom(driver, context, s, pool, bytesize, dptr);
  });
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
  return CallStream(hStream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (dptr == 0) return CUDA_SUCCESS;
    graph::Graphs& graphs = GraphsOf(driver);
    if (CUresult result;
        (graphs.capturing() && graphs.CaptureFree(hStream, false, dptr, &result)) ||
        graphs.Free(dptr, &result)) {
      return result;
    }
    const std::optional<Allocation> found = driver.allocations.Find(dptr);
    if (!found || found->address != dptr || found->kind != MemoryKind::kDevice) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    context.EnqueueAlways(s, Lane::kCopy, [&driver, dptr] { FreeNow(driver, dptr); });
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice dev) {
  return CallDriver([&](Driver& driver) {
    const Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (pool_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pool_out = device->default_pool;
    return CUDA_SUCCESS;
  });
}
CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
  return CallDriver([&](Driver& driver) {
    const Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pool = device->current_pool;
    return CUDA_SUCCESS;
  });
}
CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
  return CallPool(pool, [&](Driver& driver, MemoryPool& found) {
    Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (found.device != dev) return CUDA_ERROR_INVALID_VALUE;
    device->current_pool = pool;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
  return CallDriver([&](Driver& driver) {
    if (pool == nullptr || poolProps == nullptr ||
        poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (driver.FindDevice(poolProps->location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    *pool = driver.pools.Add(
        std::make_shared<MemoryPool>(poolProps->location.id, false, poolProps->maxSize));
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  return CallPool(pool, [&](Driver& driver, MemoryPool& found) {
    if (found.is_default) return CUDA_ERROR_INVALID_VALUE;
    Device* device = driver.FindDevice(found.device);
    CUmemoryPool current = pool;
    device->current_pool.compare_exchange_strong(current, device->default_pool);
    driver.pools.Remove(pool);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t) {
  return CallPool(pool, [](Driver&, MemoryPool&) { return CUDA_SUCCESS; });
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  return CallPool(pool, [&](Driver&, MemoryPool& found) {
    return value == nullptr ? CUDA_ERROR_INVALID_VALUE : found.books.Get(attr, value);
  });
}
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  return CallPool(pool, [&](Driver&, MemoryPool& found) {
    return value == nullptr ? CUDA_ERROR_INVALID_VALUE : found.books.Set(attr, value);
  });
}

// All devices share one address space, so every device may use every pool.
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
  return CallPool(pool, [&](Driver& driver, MemoryPool&) {
    if (map == nullptr) return CUDA_ERROR_INVALID_VALUE;
    for (std::size_t i = 0; i < count; ++i) {
      if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
      if (driver.FindDevice(map[i].location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    }
    return CUDA_SUCCESS;
  });
}
CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool memPool,
                            CUmemLocation* location) {
  return CallPool(memPool, [&](Driver& driver, MemoryPool&) {
    if (flags == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (driver.FindDevice(location->id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
  return cuMemAllocAsync(dptr, bytesize, PerThread(hStream));
}
CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                      CUstream hStream) {
  return cuMemAllocFromPoolAsync(dptr, bytesize, pool, PerThread(hStream));
}
CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream) {
  return cuMemFreeAsync(dptr, PerThread(hStream));
}

}  // extern "C"
