// The driver API's many forms of a copy as one: a CUDA_MEMCPY3D. Rectangles are boxes of one slice,
// copies of one row to and from arrays are boxes of one row.
//
// Functions of their arguments; nothing is checked.
#pragma once

#include <cstddef>

#include "cuda/driver_api.h"

namespace farwarp::cuda {

// CUDA_MEMCPY2D, CUDA_MEMCPY3D or CUDA_MEMCPY3D_PEER, whose contexts are left out.
template <typename Parameters>
CUDA_MEMCPY3D BoxOf(const Parameters& copy) {
  CUDA_MEMCPY3D box{};
  box.srcXInBytes = copy.srcXInBytes;
  box.srcY = copy.srcY;
  box.srcMemoryType = copy.srcMemoryType;
  box.srcHost = copy.srcHost;
  box.srcDevice = copy.srcDevice;
  box.srcArray = copy.srcArray;
  box.srcPitch = copy.srcPitch;
  box.dstXInBytes = copy.dstXInBytes;
  box.dstY = copy.dstY;
  box.dstMemoryType = copy.dstMemoryType;
  box.dstHost = copy.dstHost;
  box.dstDevice = copy.dstDevice;
  box.dstArray = copy.dstArray;
  box.dstPitch = copy.dstPitch;
  box.WidthInBytes = copy.WidthInBytes;
  box.Height = copy.Height;
  box.Depth = 1;
  if constexpr (requires { copy.Depth; }) {
    box.srcZ = copy.srcZ;
    box.srcLOD = copy.srcLOD;
    box.srcHeight = copy.srcHeight;
    box.dstZ = copy.dstZ;
    box.dstLOD = copy.dstLOD;
    box.dstHeight = copy.dstHeight;
    box.Depth = copy.Depth;
  }
  return box;
}

// One end of a copy of one row; `offset` counts bytes in an array.
struct RowEnd {
  CUmemorytype type = CU_MEMORYTYPE_HOST;
  const void* host = nullptr;
  CUdeviceptr device = 0;
  CUarray array = nullptr;
  std::size_t offset = 0;
};
inline RowEnd OnHost(const void* pointer) {
  return {.host = pointer};
}
inline RowEnd OnDevice(CUdeviceptr pointer) {
  return {.type = CU_MEMORYTYPE_DEVICE, .device = pointer};
}
inline RowEnd InArray(CUarray array, std::size_t offset) {
  return {.type = CU_MEMORYTYPE_ARRAY, .array = array, .offset = offset};
}

inline CUDA_MEMCPY3D RowOf(const RowEnd& to, const RowEnd& from, std::size_t bytes) {
  CUDA_MEMCPY3D row{};
  row.srcMemoryType = from.type;
  row.srcHost = from.host;
  row.srcDevice = from.device;
  row.srcArray = from.array;
  row.srcXInBytes = from.offset;
  row.dstMemoryType = to.type;
  row.dstHost = const_cast<void*>(to.host);
  row.dstDevice = to.device;
  row.dstArray = to.array;
  row.dstXInBytes = to.offset;
  row.WidthInBytes = bytes;
  row.Height = row.Depth = 1;
  return row;
}

}  // namespace farwarp::cuda
