// One-dimensional copies: host, device, peer and unified addresses.
#include "server/softgpu/api/copy/copy.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;

namespace {

std::uint64_t Address(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

CUmemorytype TypeOf(Side side) {
  switch (side) {
    case Side::kHost:
      return CU_MEMORYTYPE_HOST;
    case Side::kDevice:
      return CU_MEMORYTYPE_DEVICE;
    case Side::kAny:
      break;
  }
  return CU_MEMORYTYPE_UNIFIED;
}

// The copy as a node of a graph.
CUDA_MEMCPY3D RowOf(std::uint64_t to, Side to_side, std::uint64_t from, Side from_side,
                    std::size_t bytes) {
  CUDA_MEMCPY3D row{};
  row.srcMemoryType = TypeOf(from_side);
  row.srcHost = from_side == Side::kHost ? reinterpret_cast<const void*>(from) : nullptr;
  row.srcDevice = from_side == Side::kHost ? 0 : from;
  row.dstMemoryType = TypeOf(to_side);
  row.dstHost = to_side == Side::kHost ? reinterpret_cast<void*>(to) : nullptr;
  row.dstDevice = to_side == Side::kHost ? 0 : to;
  row.srcPitch = row.dstPitch = row.WidthInBytes = bytes;
  row.srcHeight = row.dstHeight = row.Height = row.Depth = 1;
  return row;
}

CUresult Linear(std::uint64_t to, Side to_side, std::uint64_t from, Side from_side,
                std::size_t bytes, CUstream stream, bool synchronous) noexcept {
  return CallStream(stream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (CUresult captured;
        CaptureCopy(stream, RowOf(to, to_side, from, from_side, bytes), synchronous, &captured)) {
      return captured;
    }
    Copy copy;
    copy.to = to;
    copy.from = from;
    copy.to_side = to_side;
    copy.from_side = from_side;
    copy.width = bytes;
    return RunCopy(driver, context, s, copy, synchronous);
  });
}

// Peer copies name the contexts of their addresses; with one address space only their validity
// matters.
CUresult Peer(std::uint64_t to, CUcontext to_context, std::uint64_t from, CUcontext from_context,
              std::size_t bytes, CUstream stream, bool synchronous) noexcept {
  const CUresult valid = CallDriver([&](Driver& driver) {
    const auto known = [&](CUcontext handle) {
      return handle != nullptr && driver.contexts.Find(handle) != nullptr;
    };
    return known(to_context) && known(from_context) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
  });
  if (valid != CUDA_SUCCESS) return valid;
  return Linear(to, Side::kDevice, from, Side::kDevice, bytes, stream, synchronous);
}

constexpr bool kSync = true;
constexpr bool kAsync = false;

}  // namespace

extern "C" {

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  return Linear(dst, Side::kAny, src, Side::kAny, n, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemcpy_ptds(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  return Linear(dst, Side::kAny, src, Side::kAny, n, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s) {
  return Linear(dst, Side::kAny, src, Side::kAny, n, s, kAsync);
}
CUresult cuMemcpyAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s) {
  return cuMemcpyAsync(dst, src, n, PerThread(s));
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dst, const void* src, size_t n) {
  return Linear(dst, Side::kDevice, Address(src), Side::kHost, n, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dst, const void* src, size_t n) {
  return Linear(dst, Side::kDevice, Address(src), Side::kHost, n, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void* src, size_t n, CUstream s) {
  return Linear(dst, Side::kDevice, Address(src), Side::kHost, n, s, kAsync);
}
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr dst, const void* src, size_t n, CUstream s) {
  return cuMemcpyHtoDAsync_v2(dst, src, n, PerThread(s));
}

CUresult cuMemcpyDtoH_v2(void* dst, CUdeviceptr src, size_t n) {
  return Linear(Address(dst), Side::kHost, src, Side::kDevice, n, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemcpyDtoH_v2_ptds(void* dst, CUdeviceptr src, size_t n) {
  return Linear(Address(dst), Side::kHost, src, Side::kDevice, n, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemcpyDtoHAsync_v2(void* dst, CUdeviceptr src, size_t n, CUstream s) {
  return Linear(Address(dst), Side::kHost, src, Side::kDevice, n, s, kAsync);
}
CUresult cuMemcpyDtoHAsync_v2_ptsz(void* dst, CUdeviceptr src, size_t n, CUstream s) {
  return cuMemcpyDtoHAsync_v2(dst, src, n, PerThread(s));
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  return Linear(dst, Side::kDevice, src, Side::kDevice, n, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dst, CUdeviceptr src, size_t n) {
  return Linear(dst, Side::kDevice, src, Side::kDevice, n, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s) {
  return Linear(dst, Side::kDevice, src, Side::kDevice, n, s, kAsync);
}
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s) {
  return cuMemcpyDtoDAsync_v2(dst, src, n, PerThread(s));
}

CUresult cuMemcpyPeer(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t n) {
  return Peer(dst, to, src, from, n, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemcpyPeer_ptds(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from,
                           size_t n) {
  return Peer(dst, to, src, from, n, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from, size_t n,
                           CUstream s) {
  return Peer(dst, to, src, from, n, s, kAsync);
}
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from,
                                size_t n, CUstream s) {
  return cuMemcpyPeerAsync(dst, to, src, from, n, PerThread(s));
}

}  // extern "C"
