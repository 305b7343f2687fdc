// Copies, once the application's way of saying it has been understood: two planes, an extent, a
// stream, and whether the caller may see the call return before the copy is done.
//
// What a call waits for: host to device, never (it returns when the bytes have left the buffer, or,
// if it is asynchronous from page-locked memory that a host function may still write to, before);
// device to host, until the bytes are there, unless it is asynchronous into page-locked memory;
// device to device, never.
//
// Thread-safe.
#pragma once

#include <cstdint>

#include "client/driver/copy/copy_geometry.h"
#include "client/driver/stream/stream.h"
#include "cuda/driver_api.h"

namespace farwarp::client {

class Process;
struct Caller;

enum class Side { kHost, kDevice };
enum class Timing { kSynchronous, kAsynchronous };

struct CopyRequest {
  CUstream stream = nullptr;
  NullStream null = NullStream::kLegacy;
  Timing timing = Timing::kSynchronous;
  Side to_side = Side::kHost;
  Side from_side = Side::kHost;
  wire::CopyPlane to{};
  wire::CopyPlane from{};
  wire::CopyExtent extent{};
  // For peer copies only: the contexts the application names.
  wire::Handle to_context;
  wire::Handle from_context;
};

CUresult Copy(const Caller& caller, CopyRequest request);
// What has been posted to the stream for a synchronous copy from host memory: the copy is done when
// the call returns, as far as any stream can tell.
CUresult EndSynchronousCopy(Process& process, const StreamUse& use);
// What CUDA_MEMCPY3D means; streams and timing are left alone.
CUresult ReadBox(Process& process, const CUDA_MEMCPY3D& copy, CopyRequest* request);
// CUDA_ERROR_INVALID_VALUE if a side is not what it must be.
CUresult CheckRequest(Process& process, const CopyRequest& request);
// The same for fills of `height` rows of `width` elements.
CUresult CheckFillShape(Process& process, std::uint64_t address, std::uint64_t pitch,
                        std::uint64_t width, std::uint64_t height, unsigned element_bytes);

// One row of `bytes`.
CopyRequest LinearCopy(std::uint64_t to, Side to_side, std::uint64_t from, Side from_side,
                       std::uint64_t bytes);

// Managed memory is the device's, whatever side the application calls it; true if there is any.
bool PlaceManaged(Process& process, CopyRequest* request);
// Where a unified address is.
Side SideOf(Process& process, std::uint64_t address);
// True if the rows of `plane` lie in one allocation or one variable.
bool CoversDevice(Process& process, const wire::CopyPlane& plane, const wire::CopyExtent& extent);

}  // namespace farwarp::client
