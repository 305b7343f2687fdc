// cuMemcpy*: the many spellings of a copy, brought into one form (copy.h).
#include <optional>

#include "client/custom.h"
#include "client/driver/copy/arrays.h"
#include "client/driver/copy/copy.h"
#include "client/driver/process.h"
#include "proto/cuda/copy_box.h"

namespace farwarp::client::custom {
namespace {

constexpr auto kLegacy = NullStream::kLegacy;
constexpr auto kPerThread = NullStream::kPerThread;

std::uint64_t Number(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

struct How {
  CUstream stream = nullptr;
  NullStream null = kLegacy;
  Timing timing = Timing::kSynchronous;
};
How Now(NullStream null) {
  return {nullptr, null, Timing::kSynchronous};
}
How Later(CUstream stream, NullStream null) {
  return {stream, null, Timing::kAsynchronous};
}

CUresult Run(const Caller& caller, CopyRequest request, const How& how) {
  request.stream = how.stream;
  request.null = how.null;
  request.timing = how.timing;
  return Copy(caller, request);
}

CUresult Linear(std::uint64_t to, Side to_side, std::uint64_t from, Side from_side, size_t bytes,
                const How& how) {
  FARWARP_ENTER_CONTEXT(caller);
  return Run(caller, LinearCopy(to, to_side, from, from_side, bytes), how);
}

CUresult HostToDevice(CUdeviceptr to, const void* from, size_t bytes, const How& how) {
  return Linear(to, Side::kDevice, Number(from), Side::kHost, bytes, how);
}
CUresult DeviceToHost(void* to, CUdeviceptr from, size_t bytes, const How& how) {
  return Linear(Number(to), Side::kHost, from, Side::kDevice, bytes, how);
}
CUresult DeviceToDevice(CUdeviceptr to, CUdeviceptr from, size_t bytes, const How& how) {
  return Linear(to, Side::kDevice, from, Side::kDevice, bytes, how);
}
CUresult Unified(CUdeviceptr to, CUdeviceptr from, size_t bytes, const How& how) {
  FARWARP_ENTER_CONTEXT(caller);
  const Side to_side = SideOf(*caller.process, to);
  const Side from_side = SideOf(*caller.process, from);
  return Run(caller, LinearCopy(to, to_side, from, from_side, bytes), how);
}

CUresult Peer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
              size_t bytes, const How& how) {
  FARWARP_ENTER_CONTEXT(caller);
  if (caller.process->contexts.Find(to_context) == nullptr ||
      caller.process->contexts.Find(from_context) == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  CopyRequest request = LinearCopy(to, Side::kDevice, from, Side::kDevice, bytes);
  request.to_context = wire::FromPointer(to_context);
  request.from_context = wire::FromPointer(from_context);
  return Run(caller, request, how);
}

// One side of a 2D or 3D copy. CUDA_ERROR_NOT_SUPPORTED for arrays.
CUresult ReadSide(Process& process, CUmemorytype type, const void* host, CUdeviceptr device,
                  CopySide* side, Side* where) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side->base = Number(host);
      *where = Side::kHost;
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_DEVICE:
      side->base = device;
      *where = Side::kDevice;
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_UNIFIED:
      side->base = device;
      *where = SideOf(process, device);
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_ARRAY:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// CUDA_MEMCPY2D has the fields of CUDA_MEMCPY3D for one slice; CUDA_MEMCPY3D_PEER adds contexts.
template <typename Parameters>
CUresult ReadShape(Process& process, const Parameters* copy, bool peer, CopyRequest* result_out) {
  CopyRequest request;
  CopySide from{.x_bytes = copy->srcXInBytes, .y = copy->srcY, .pitch = copy->srcPitch};
  CopySide to{.x_bytes = copy->dstXInBytes, .y = copy->dstY, .pitch = copy->dstPitch};
  request.extent = {copy->WidthInBytes, copy->Height, 1};
  if constexpr (requires { copy->Depth; }) {
    if (copy->srcLOD != 0 || copy->dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
    from.z = copy->srcZ;
    from.height = copy->srcHeight;
    to.z = copy->dstZ;
    to.height = copy->dstHeight;
    request.extent.slices = copy->Depth;
  }
  if constexpr (requires { copy->srcContext; }) {
    if (peer) {
      request.from_context = wire::FromPointer(copy->srcContext);
      request.to_context = wire::FromPointer(copy->dstContext);
    }
  }
  CUresult result = ReadSide(process, copy->srcMemoryType, copy->srcHost, copy->srcDevice, &from,
                             &request.from_side);
  if (result != CUDA_SUCCESS) return result;
  result =
      ReadSide(process, copy->dstMemoryType, copy->dstHost, copy->dstDevice, &to, &request.to_side);
  if (result != CUDA_SUCCESS) return result;
  const auto from_plane = PlaneOf(from, request.extent);
  const auto to_plane = PlaneOf(to, request.extent);
  if (!from_plane.has_value() || !to_plane.has_value()) return CUDA_ERROR_INVALID_VALUE;
  request.from = *from_plane;
  request.to = *to_plane;
  *result_out = request;
  return CUDA_SUCCESS;
}

template <typename Parameters>
CUresult Box(const Parameters* copy, const How& how, bool peer) {
  FARWARP_ENTER_CONTEXT(caller);
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (copy->srcMemoryType == CU_MEMORYTYPE_ARRAY || copy->dstMemoryType == CU_MEMORYTYPE_ARRAY) {
    return CopyWithArray(caller, cuda::BoxOf(*copy), how.stream, how.null, how.timing);
  }
  CopyRequest request;
  const CUresult result = ReadShape(*caller.process, copy, peer, &request);
  return result != CUDA_SUCCESS ? result : Run(caller, request, how);
}

}  // namespace

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
  return Unified(dst, src, ByteCount, Now(kLegacy));
}
CUresult cuMemcpy_ptds(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
  return Unified(dst, src, ByteCount, Now(kPerThread));
}
CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  return Unified(dst, src, ByteCount, Later(hStream, kLegacy));
}
CUresult cuMemcpyAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  return Unified(dst, src, ByteCount, Later(hStream, kPerThread));
}

CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                      CUcontext srcContext, size_t ByteCount) {
  return Peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, Now(kLegacy));
}
CUresult cuMemcpyPeer_ptds(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                           CUcontext srcContext, size_t ByteCount) {
  return Peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, Now(kPerThread));
}
CUresult cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                           CUcontext srcContext, size_t ByteCount, CUstream hStream) {
  return Peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, Later(hStream, kLegacy));
}
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                                CUcontext srcContext, size_t ByteCount, CUstream hStream) {
  return Peer(dstDevice, dstContext, srcDevice, srcContext, ByteCount, Later(hStream, kPerThread));
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
  return HostToDevice(dstDevice, srcHost, ByteCount, Now(kLegacy));
}
CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
  return HostToDevice(dstDevice, srcHost, ByteCount, Now(kPerThread));
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount,
                              CUstream hStream) {
  return HostToDevice(dstDevice, srcHost, ByteCount, Later(hStream, kLegacy));
}
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount,
                                   CUstream hStream) {
  return HostToDevice(dstDevice, srcHost, ByteCount, Later(hStream, kPerThread));
}

CUresult cuMemcpyDtoH_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
  return DeviceToHost(dstHost, srcDevice, ByteCount, Now(kLegacy));
}
CUresult cuMemcpyDtoH_v2_ptds(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
  return DeviceToHost(dstHost, srcDevice, ByteCount, Now(kPerThread));
}
CUresult cuMemcpyDtoHAsync_v2(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                              CUstream hStream) {
  return DeviceToHost(dstHost, srcDevice, ByteCount, Later(hStream, kLegacy));
}
CUresult cuMemcpyDtoHAsync_v2_ptsz(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
  return DeviceToHost(dstHost, srcDevice, ByteCount, Later(hStream, kPerThread));
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
  return DeviceToDevice(dstDevice, srcDevice, ByteCount, Now(kLegacy));
}
CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
  return DeviceToDevice(dstDevice, srcDevice, ByteCount, Now(kPerThread));
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                              CUstream hStream) {
  return DeviceToDevice(dstDevice, srcDevice, ByteCount, Later(hStream, kLegacy));
}
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
  return DeviceToDevice(dstDevice, srcDevice, ByteCount, Later(hStream, kPerThread));
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* pCopy) {
  return Box(pCopy, Now(kLegacy), false);
}
CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D* pCopy) {
  return Box(pCopy, Now(kPerThread), false);
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* pCopy) {
  return Box(pCopy, Now(kLegacy), false);
}
CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D* pCopy) {
  return Box(pCopy, Now(kPerThread), false);
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kLegacy), false);
}
CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kPerThread), false);
}
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* pCopy) {
  return Box(pCopy, Now(kLegacy), false);
}
CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D* pCopy) {
  return Box(pCopy, Now(kPerThread), false);
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kLegacy), false);
}
CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kPerThread), false);
}
CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* pCopy) {
  return Box(pCopy, Now(kLegacy), true);
}
CUresult cuMemcpy3DPeer_ptds(const CUDA_MEMCPY3D_PEER* pCopy) {
  return Box(pCopy, Now(kPerThread), true);
}
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kLegacy), true);
}
CUresult cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
  return Box(pCopy, Later(hStream, kPerThread), true);
}

}  // namespace farwarp::client::custom

namespace farwarp::client {

CUresult ReadBox(Process& process, const CUDA_MEMCPY3D& copy, CopyRequest* request) {
  const CUresult result = custom::ReadShape(process, &copy, false, request);
  if (result == CUDA_SUCCESS) PlaceManaged(process, request);
  return result;
}

}  // namespace farwarp::client
