// Copies of rectangles and boxes. Arrays are not supported yet.
#include "farwarp/base/log.h"
#include "server/softgpu/api/copy.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/graph_backend.h"

using namespace farwarp::softgpu;

namespace {

// Where one side of a copy begins.
CUresult Origin(CUmemorytype type, const void* host, CUdeviceptr device, std::uint64_t* address,
                Side* side) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      *address = reinterpret_cast<std::uint64_t>(host);
      *side = Side::kHost;
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_DEVICE:
      *address = device;
      *side = Side::kDevice;
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_UNIFIED:
      *address = device;
      *side = Side::kAny;
      return CUDA_SUCCESS;
    case CU_MEMORYTYPE_ARRAY:
      FARWARP_LOG(kWarn, "softgpu: copies with CUDA arrays are not supported yet");
      return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// address + x + y * pitch + z * slice, or false on overflow.
bool Advance(std::uint64_t* address, std::size_t x, std::size_t y, std::size_t pitch, std::size_t z,
             std::size_t slice) {
  std::uint64_t rows, slices;
  return !__builtin_mul_overflow(y, pitch, &rows) && !__builtin_mul_overflow(z, slice, &slices) &&
         !__builtin_add_overflow(*address, x, address) &&
         !__builtin_add_overflow(*address, rows, address) &&
         !__builtin_add_overflow(*address, slices, address);
}

CUresult Describe(const CUDA_MEMCPY2D& p, Copy* copy) {
  CUresult result = Origin(p.srcMemoryType, p.srcHost, p.srcDevice, &copy->from, &copy->from_side);
  if (result != CUDA_SUCCESS) return result;
  result = Origin(p.dstMemoryType, p.dstHost, p.dstDevice, &copy->to, &copy->to_side);
  if (result != CUDA_SUCCESS) return result;
  copy->width = p.WidthInBytes;
  copy->height = p.Height;
  // 0 stands for rows without a gap.
  copy->from_pitch = p.srcPitch != 0 ? p.srcPitch : p.WidthInBytes;
  copy->to_pitch = p.dstPitch != 0 ? p.dstPitch : p.WidthInBytes;
  if (copy->from_pitch < p.srcXInBytes || copy->to_pitch < p.dstXInBytes ||
      !Advance(&copy->from, p.srcXInBytes, p.srcY, copy->from_pitch, 0, 0) ||
      !Advance(&copy->to, p.dstXInBytes, p.dstY, copy->to_pitch, 0, 0)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER share these fields.
template <typename Parameters>
CUresult DescribeBox(const Parameters& p, Copy* copy) {
  CUresult result = Origin(p.srcMemoryType, p.srcHost, p.srcDevice, &copy->from, &copy->from_side);
  if (result != CUDA_SUCCESS) return result;
  result = Origin(p.dstMemoryType, p.dstHost, p.dstDevice, &copy->to, &copy->to_side);
  if (result != CUDA_SUCCESS) return result;
  if (p.srcLOD != 0 || p.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  copy->width = p.WidthInBytes;
  copy->height = p.Height;
  copy->depth = p.Depth;
  copy->from_pitch = p.srcPitch != 0 ? p.srcPitch : p.WidthInBytes;
  copy->to_pitch = p.dstPitch != 0 ? p.dstPitch : p.WidthInBytes;
  const std::size_t from_rows = p.srcHeight != 0 ? p.srcHeight : p.Height;
  const std::size_t to_rows = p.dstHeight != 0 ? p.dstHeight : p.Height;
  if (__builtin_mul_overflow(copy->from_pitch, from_rows, &copy->from_slice) ||
      __builtin_mul_overflow(copy->to_pitch, to_rows, &copy->to_slice)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (copy->depth > 1 && (from_rows < p.Height || to_rows < p.Height)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!Advance(&copy->from, p.srcXInBytes, p.srcY, copy->from_pitch, p.srcZ, copy->from_slice) ||
      !Advance(&copy->to, p.dstXInBytes, p.dstY, copy->to_pitch, p.dstZ, copy->to_slice)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

// The same as a box of one slice.
CUDA_MEMCPY3D BoxOf(const CUDA_MEMCPY2D& p) {
  CUDA_MEMCPY3D box{};
  box.srcXInBytes = p.srcXInBytes;
  box.srcY = p.srcY;
  box.srcMemoryType = p.srcMemoryType;
  box.srcHost = p.srcHost;
  box.srcDevice = p.srcDevice;
  box.srcArray = p.srcArray;
  box.srcPitch = p.srcPitch;
  box.dstXInBytes = p.dstXInBytes;
  box.dstY = p.dstY;
  box.dstMemoryType = p.dstMemoryType;
  box.dstHost = p.dstHost;
  box.dstDevice = p.dstDevice;
  box.dstArray = p.dstArray;
  box.dstPitch = p.dstPitch;
  box.WidthInBytes = p.WidthInBytes;
  box.Height = p.Height;
  box.Depth = 1;
  return box;
}
CUDA_MEMCPY3D BoxOf(const CUDA_MEMCPY3D& p) {
  return p;
}
CUDA_MEMCPY3D BoxOf(const CUDA_MEMCPY3D_PEER& p) {
  // The contexts do not matter in one address space; the rest has the same names.
  CUDA_MEMCPY3D box{};
  box.srcXInBytes = p.srcXInBytes;
  box.srcY = p.srcY;
  box.srcZ = p.srcZ;
  box.srcLOD = p.srcLOD;
  box.srcMemoryType = p.srcMemoryType;
  box.srcHost = p.srcHost;
  box.srcDevice = p.srcDevice;
  box.srcArray = p.srcArray;
  box.srcPitch = p.srcPitch;
  box.srcHeight = p.srcHeight;
  box.dstXInBytes = p.dstXInBytes;
  box.dstY = p.dstY;
  box.dstZ = p.dstZ;
  box.dstLOD = p.dstLOD;
  box.dstMemoryType = p.dstMemoryType;
  box.dstHost = p.dstHost;
  box.dstDevice = p.dstDevice;
  box.dstArray = p.dstArray;
  box.dstPitch = p.dstPitch;
  box.dstHeight = p.dstHeight;
  box.WidthInBytes = p.WidthInBytes;
  box.Height = p.Height;
  box.Depth = p.Depth;
  return box;
}

CUresult Run(const CUDA_MEMCPY2D* parameters, CUstream stream, bool synchronous) noexcept {
  return CallStream(stream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (parameters == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult captured; CaptureCopy(stream, BoxOf(*parameters), synchronous, &captured)) {
      return captured;
    }
    Copy copy;
    const CUresult result = Describe(*parameters, &copy);
    return result != CUDA_SUCCESS ? result : RunCopy(driver, context, s, copy, synchronous);
  });
}

template <typename Parameters>
CUresult RunBox(const Parameters* parameters, CUstream stream, bool synchronous) noexcept {
  return CallStream(stream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (parameters == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult captured; CaptureCopy(stream, BoxOf(*parameters), synchronous, &captured)) {
      return captured;
    }
    Copy copy;
    const CUresult result = DescribeBox(*parameters, &copy);
    return result != CUDA_SUCCESS ? result : RunCopy(driver, context, s, copy, synchronous);
  });
}

}  // namespace

namespace farwarp::softgpu {

CUresult DescribeCopy(const CUDA_MEMCPY3D& params, Copy* copy) {
  return DescribeBox(params, copy);
}

}  // namespace farwarp::softgpu

extern "C" {

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* p) {
  return Run(p, CU_STREAM_LEGACY, true);
}
CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D* p) {
  return Run(p, CU_STREAM_PER_THREAD, true);
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* p) {
  return Run(p, CU_STREAM_LEGACY, true);
}
CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D* p) {
  return Run(p, CU_STREAM_PER_THREAD, true);
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* p, CUstream s) {
  return Run(p, s, false);
}
CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D* p, CUstream s) {
  return Run(p, PerThread(s), false);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* p) {
  return RunBox(p, CU_STREAM_LEGACY, true);
}
CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D* p) {
  return RunBox(p, CU_STREAM_PER_THREAD, true);
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* p, CUstream s) {
  return RunBox(p, s, false);
}
CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D* p, CUstream s) {
  return RunBox(p, PerThread(s), false);
}

CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* p) {
  return RunBox(p, CU_STREAM_LEGACY, true);
}
CUresult cuMemcpy3DPeer_ptds(const CUDA_MEMCPY3D_PEER* p) {
  return RunBox(p, CU_STREAM_PER_THREAD, true);
}
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* p, CUstream s) {
  return RunBox(p, s, false);
}
CUresult cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER* p, CUstream s) {
  return RunBox(p, PerThread(s), false);
}

}  // extern "C"
