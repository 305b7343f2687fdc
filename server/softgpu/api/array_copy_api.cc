// One-dimensional copies to and from CUDA arrays: boxes of one row.
#include "cuda/driver_api.h"
#include "server/softgpu/api/driver.h"

using namespace farwarp::softgpu;

namespace {

// One end of a copy; `offset` counts bytes in an array.
struct End {
  CUmemorytype type = CU_MEMORYTYPE_HOST;
  const void* host = nullptr;
  CUdeviceptr device = 0;
  CUarray array = nullptr;
  size_t offset = 0;
};
End Host(const void* pointer) {
  End end;
  end.host = pointer;
  return end;
}
End InMemory(CUdeviceptr pointer) {
  End end;
  end.type = CU_MEMORYTYPE_DEVICE;
  end.device = pointer;
  return end;
}
End InArray(CUarray array, size_t offset) {
  End end;
  end.type = CU_MEMORYTYPE_ARRAY;
  end.array = array;
  end.offset = offset;
  return end;
}

CUDA_MEMCPY3D RowOf(const End& to, const End& from, size_t bytes) {
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

CUresult Now(const End& to, const End& from, size_t bytes) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3D_v2(&row);
}
CUresult NowPerThread(const End& to, const End& from, size_t bytes) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3D_v2_ptds(&row);
}
CUresult Later(const End& to, const End& from, size_t bytes, CUstream stream) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3DAsync_v2(&row, stream);
}

}  // namespace

extern "C" {

CUresult cuMemcpyDtoA_v2(CUarray dst, size_t offset, CUdeviceptr src, size_t n) {
  return Now(InArray(dst, offset), InMemory(src), n);
}
CUresult cuMemcpyDtoA_v2_ptds(CUarray dst, size_t offset, CUdeviceptr src, size_t n) {
  return NowPerThread(InArray(dst, offset), InMemory(src), n);
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr dst, CUarray src, size_t offset, size_t n) {
  return Now(InMemory(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoD_v2_ptds(CUdeviceptr dst, CUarray src, size_t offset, size_t n) {
  return NowPerThread(InMemory(dst), InArray(src, offset), n);
}
CUresult cuMemcpyHtoA_v2(CUarray dst, size_t offset, const void* src, size_t n) {
  return Now(InArray(dst, offset), Host(src), n);
}
CUresult cuMemcpyHtoA_v2_ptds(CUarray dst, size_t offset, const void* src, size_t n) {
  return NowPerThread(InArray(dst, offset), Host(src), n);
}
CUresult cuMemcpyAtoH_v2(void* dst, CUarray src, size_t offset, size_t n) {
  return Now(Host(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoH_v2_ptds(void* dst, CUarray src, size_t offset, size_t n) {
  return NowPerThread(Host(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoA_v2(CUarray dst, size_t to, CUarray src, size_t from, size_t n) {
  return Now(InArray(dst, to), InArray(src, from), n);
}
CUresult cuMemcpyAtoA_v2_ptds(CUarray dst, size_t to, CUarray src, size_t from, size_t n) {
  return NowPerThread(InArray(dst, to), InArray(src, from), n);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray dst, size_t offset, const void* src, size_t n,
                              CUstream stream) {
  return Later(InArray(dst, offset), Host(src), n, stream);
}
CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray dst, size_t offset, const void* src, size_t n,
                                   CUstream stream) {
  return Later(InArray(dst, offset), Host(src), n, PerThread(stream));
}
CUresult cuMemcpyAtoHAsync_v2(void* dst, CUarray src, size_t offset, size_t n, CUstream stream) {
  return Later(Host(dst), InArray(src, offset), n, stream);
}
CUresult cuMemcpyAtoHAsync_v2_ptsz(void* dst, CUarray src, size_t offset, size_t n,
                                   CUstream stream) {
  return Later(Host(dst), InArray(src, offset), n, PerThread(stream));
}

}  // extern "C"
