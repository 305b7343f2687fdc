// Copies of rectangles and boxes, in memory and in arrays.
#include "proto/cuda/copy_box.h"
#include "server/softgpu/api/copy/copy.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/array.h"

using namespace farwarp::softgpu;

namespace {

// One side of a copy as the parameters have it. A pitch or a height of 0 stands for no gaps.
struct Origin {
  CUmemorytype type;
  const void* host;
  CUdeviceptr device;
  CUarray array;
  std::size_t x, y, z;
  std::size_t pitch;
  std::size_t height;
};
// What becomes of it.
struct Place {
  std::uint64_t address = 0;
  Side side = Side::kDevice;
  std::size_t pitch = 0;
  std::size_t slice = 0;
};

// address + x + y * pitch + z * slice, or false on overflow.
bool Advance(std::uint64_t* address, std::size_t x, std::size_t y, std::size_t pitch, std::size_t z,
             std::size_t slice) {
  std::uint64_t rows, slices;
  return !__builtin_mul_overflow(y, pitch, &rows) && !__builtin_mul_overflow(z, slice, &slices) &&
         !__builtin_add_overflow(*address, x, address) &&
         !__builtin_add_overflow(*address, rows, address) &&
         !__builtin_add_overflow(*address, slices, address);
}

bool Fits(std::uint64_t at, std::uint64_t count, std::uint64_t size) {
  return at <= size && count <= size - at;
}

// The box must lie inside the array: pitch and height are the array's own.
CUresult FindInArray(const Origin& origin, const Copy& box, Place* place) {
  const std::shared_ptr<Array> array = Driver::Get()->arrays.Find(origin.array);
  if (array == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!Fits(origin.x, box.width, array->row_bytes) || !Fits(origin.y, box.height, array->rows) ||
      !Fits(origin.z, box.depth, array->slices)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  place->pitch = array->row_bytes;
  place->slice = array->slice_bytes;
  place->address = array->address + origin.x + origin.y * place->pitch + origin.z * place->slice;
  return CUDA_SUCCESS;
}

CUresult Find(const Origin& origin, const Copy& box, Place* place) {
  switch (origin.type) {
    case CU_MEMORYTYPE_HOST:
      place->address = reinterpret_cast<std::uint64_t>(origin.host);
      place->side = Side::kHost;
      break;
    case CU_MEMORYTYPE_DEVICE:
      place->address = origin.device;
      break;
    case CU_MEMORYTYPE_UNIFIED:
      place->address = origin.device;
      place->side = Side::kAny;
      break;
    case CU_MEMORYTYPE_ARRAY:
      return FindInArray(origin, box, place);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  place->pitch = origin.pitch != 0 ? origin.pitch : box.width;
  const std::size_t rows = origin.height != 0 ? origin.height : box.height;
  if (__builtin_mul_overflow(place->pitch, rows, &place->slice) ||
      (box.depth > 1 && rows < box.height) ||
      !Advance(&place->address, origin.x, origin.y, place->pitch, origin.z, place->slice)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult Describe(const Origin& from, const Origin& to, Copy* copy) {
  Place source, target;
  CUresult result = Find(from, *copy, &source);
  if (result == CUDA_SUCCESS) result = Find(to, *copy, &target);
  if (result != CUDA_SUCCESS) return result;
  copy->from = source.address;
  copy->from_side = source.side;
  copy->from_pitch = source.pitch;
  copy->from_slice = source.slice;
  copy->to = target.address;
  copy->to_side = target.side;
  copy->to_pitch = target.pitch;
  copy->to_slice = target.slice;
  return CUDA_SUCCESS;
}

CUresult Describe(const CUDA_MEMCPY2D& p, Copy* copy) {
  copy->width = p.WidthInBytes;
  copy->height = p.Height;
  const auto beyond = [&](CUmemorytype type, std::size_t pitch, std::size_t x) {
    return type != CU_MEMORYTYPE_ARRAY && (pitch != 0 ? pitch : p.WidthInBytes) < x;
  };
  if (beyond(p.srcMemoryType, p.srcPitch, p.srcXInBytes) ||
      beyond(p.dstMemoryType, p.dstPitch, p.dstXInBytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return Describe({p.srcMemoryType, p.srcHost, p.srcDevice, p.srcArray, p.srcXInBytes, p.srcY, 0,
                   p.srcPitch, 0},
                  {p.dstMemoryType, p.dstHost, p.dstDevice, p.dstArray, p.dstXInBytes, p.dstY, 0,
                   p.dstPitch, 0},
                  copy);
}

// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER share these fields.
template <typename Parameters>
CUresult DescribeBox(const Parameters& p, Copy* copy) {
  if (p.srcLOD != 0 || p.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  copy->width = p.WidthInBytes;
  copy->height = p.Height;
  copy->depth = p.Depth;
  return Describe({p.srcMemoryType, p.srcHost, p.srcDevice, p.srcArray, p.srcXInBytes, p.srcY,
                   p.srcZ, p.srcPitch, p.srcHeight},
                  {p.dstMemoryType, p.dstHost, p.dstDevice, p.dstArray, p.dstXInBytes, p.dstY,
                   p.dstZ, p.dstPitch, p.dstHeight},
                  copy);
}

CUresult Run(const CUDA_MEMCPY2D* parameters, CUstream stream, bool synchronous) noexcept {
  return CallStream(stream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    if (parameters == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult captured;
        CaptureCopy(stream, farwarp::cuda::BoxOf(*parameters), synchronous, &captured)) {
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
    if (CUresult captured;
        CaptureCopy(stream, farwarp::cuda::BoxOf(*parameters), synchronous, &captured)) {
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
