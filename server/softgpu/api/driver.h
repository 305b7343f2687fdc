// Driver: the state of the process's imitated CUDA driver, made by the first cuInit, and the
// prologue that every entry point shares.
//
// Ownership: never destroyed, since worker threads may run until the process ends. Threads:
// thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "cuda/driver_api.h"
#include "server/softgpu/api/config.h"
#include "server/softgpu/api/context/context.h"
#include "server/softgpu/api/device.h"
#include "server/softgpu/api/handle_table.h"
#include "server/softgpu/api/memory/array.h"
#include "server/softgpu/api/stream/event.h"
#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/memory/allocation_map.h"
#include "server/softgpu/memory/in_use.h"

namespace farwarp::softgpu {

class LoadedModule;
class Function;
class Library;
class LibraryKernel;
class LinkState;
struct MemoryPool;

// The version of CUDA whose driver API this library offers.
inline constexpr int kDriverVersion = CUDA_VERSION;

class Driver {
 public:
  Driver(SoftGpuConfig config, AddressSpace& space);

  // cuInit. The first call decides; later ones return its result.
  static CUresult Init() noexcept;
  // nullptr before a successful Init, and in a child process that was forked after it.
  static Driver* Get() noexcept;

  Device* FindDevice(CUdevice device) noexcept;
  // The pool of threads that run kernels; made at the first launch.
  WorkerPool& workers();

  std::shared_ptr<Context> NewContext(Device& device, unsigned flags, bool primary);
  // Ends the context and all that belongs to it, once its work is over (Context::Finish).
  void DestroyContext(const std::shared_ptr<Context>& context);
  // Waits for all work of the context with this id, if it lives: what a call that frees memory of
  // that context does first. Work of other contexts is not waited for; what still uses the memory
  // ends with a fault (in_use.h).
  void WaitForUsers(std::uint64_t context);

  const SoftGpuConfig config;
  AddressSpace& space;
  AllocationMap allocations;
  InUse in_use;                // What copies touch at this moment.
  AllocationMap reservations;  // Of cuMemAddressReserve; what is mapped there is an allocation.
  Executor executor;
  HandleTable<Context, CUcontext, HandleKind::kContext> contexts;
  HandleTable<Stream, CUstream, HandleKind::kStream> streams;
  HandleTable<Event, CUevent, HandleKind::kEvent> events;
  HandleTable<LoadedModule, CUmodule, HandleKind::kModule> modules;
  HandleTable<Function, CUfunction, HandleKind::kFunction> functions;
  HandleTable<Library, CUlibrary, HandleKind::kLibrary> libraries;
  HandleTable<LibraryKernel, CUkernel, HandleKind::kKernel> kernels;
  HandleTable<LinkState, CUlinkState, HandleKind::kLink> links;
  HandleTable<PhysicalMemory::Extent, CUmemGenericAllocationHandle, HandleKind::kMemory> memories;
  HandleTable<MemoryPool, CUmemoryPool, HandleKind::kPool> pools;
  HandleTable<Array, CUarray, HandleKind::kArray> arrays;
  HandleTable<TextureObject, CUtexObject, HandleKind::kTexture> textures;
  HandleTable<SurfaceObject, CUsurfObject, HandleKind::kSurface> surfaces;
  std::vector<std::unique_ptr<Device>> devices;

 private:
  std::atomic<std::uint64_t> next_context_{1};
  std::once_flag workers_once_;
  std::unique_ptr<WorkerPool> workers_;
};

// The calling thread's context: CUDA_ERROR_INVALID_CONTEXT if it has none,
// CUDA_ERROR_CONTEXT_IS_DESTROYED if that is gone. Does not look at the sticky error.
CUresult CurrentContext(Driver& driver, std::shared_ptr<Context>* context);

// Runs body(Driver&) if the driver is ready and calls are allowed here. Exceptions become results.
template <typename Body>
CUresult CallDriver(Body&& body) noexcept {
  try {
    Driver* driver = Driver::Get();
    if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
    if (Executor::InHostFunction()) return CUDA_ERROR_NOT_PERMITTED;
    return body(*driver);
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
}

// Runs body(Driver&, Context&) in the calling thread's context, or returns its sticky error.
template <typename Body>
CUresult CallContext(Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    std::shared_ptr<Context> context;
    if (const CUresult result = CurrentContext(driver, &context); result != CUDA_SUCCESS) {
      return result;
    }
    if (const CUresult error = context->error(); error != CUDA_SUCCESS) return error;
    return body(driver, *context);
  });
}

// Finds the stream that a handle means: 0 and CU_STREAM_LEGACY are the current context's legacy
// stream, CU_STREAM_PER_THREAD the calling thread's own. `context` becomes the stream's.
CUresult FindStream(Driver& driver, CUstream handle, std::shared_ptr<Stream>* stream,
                    std::shared_ptr<Context>* context);

// Runs body(Driver&, Context&, shared_ptr<Stream>&) for a stream, or returns the sticky error of
// its context.
template <typename Body>
CUresult CallStream(CUstream handle, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    std::shared_ptr<Stream> stream;
    std::shared_ptr<Context> context;
    if (const CUresult result = FindStream(driver, handle, &stream, &context);
        result != CUDA_SUCCESS) {
      return result;
    }
    if (const CUresult error = context->error(); error != CUDA_SUCCESS) return error;
    return body(driver, *context, stream);
  });
}

// What a default-stream handle means in the per-thread (_ptsz, _ptds) entry points.
inline CUstream PerThread(CUstream handle) noexcept {
  return handle == nullptr ? CU_STREAM_PER_THREAD : handle;
}

}  // namespace farwarp::softgpu
