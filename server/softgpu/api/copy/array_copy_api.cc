// One-dimensional copies to and from CUDA arrays: boxes of one row.
#include "cuda/driver_api.h"
#include "proto/cuda/copy_box.h"
#include "server/softgpu/api/driver.h"

using namespace farwarp::softgpu;

namespace {

using farwarp::cuda::InArray;
using farwarp::cuda::OnDevice;
using farwarp::cuda::OnHost;
using farwarp::cuda::RowEnd;
using farwarp::cuda::RowOf;

CUresult Now(const RowEnd& to, const RowEnd& from, size_t bytes) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3D_v2(&row);
}
CUresult NowPerThread(const RowEnd& to, const RowEnd& from, size_t bytes) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3D_v2_ptds(&row);
}
CUresult Later(const RowEnd& to, const RowEnd& from, size_t bytes, CUstream stream) {
  const CUDA_MEMCPY3D row = RowOf(to, from, bytes);
  return cuMemcpy3DAsync_v2(&row, stream);
}

}  // namespace

extern "C" {

CUresult cuMemcpyDtoA_v2(CUarray dst, size_t offset, CUdeviceptr src, size_t n) {
  return Now(InArray(dst, offset), OnDevice(src), n);
}
CUresult cuMemcpyDtoA_v2_ptds(CUarray dst, size_t offset, CUdeviceptr src, size_t n) {
  return NowPerThread(InArray(dst, offset), OnDevice(src), n);
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr dst, CUarray src, size_t offset, size_t n) {
  return Now(OnDevice(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoD_v2_ptds(CUdeviceptr dst, CUarray src, size_t offset, size_t n) {
  return NowPerThread(OnDevice(dst), InArray(src, offset), n);
}
CUresult cuMemcpyHtoA_v2(CUarray dst, size_t offset, const void* src, size_t n) {
  return Now(InArray(dst, offset), OnHost(src), n);
}
CUresult cuMemcpyHtoA_v2_ptds(CUarray dst, size_t offset, const void* src, size_t n) {
  return NowPerThread(InArray(dst, offset), OnHost(src), n);
}
CUresult cuMemcpyAtoH_v2(void* dst, CUarray src, size_t offset, size_t n) {
  return Now(OnHost(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoH_v2_ptds(void* dst, CUarray src, size_t offset, size_t n) {
  return NowPerThread(OnHost(dst), InArray(src, offset), n);
}
CUresult cuMemcpyAtoA_v2(CUarray dst, size_t to, CUarray src, size_t from, size_t n) {
  return Now(InArray(dst, to), InArray(src, from), n);
}
CUresult cuMemcpyAtoA_v2_ptds(CUarray dst, size_t to, CUarray src, size_t from, size_t n) {
  return NowPerThread(InArray(dst, to), InArray(src, from), n);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray dst, size_t offset, const void* src, size_t n,
                              CUstream stream) {
  return Later(InArray(dst, offset), OnHost(src), n, stream);
}
CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray dst, size_t offset, const void* src, size_t n,
                                   CUstream stream) {
  return Later(InArray(dst, offset), OnHost(src), n, PerThread(stream));
}
CUresult cuMemcpyAtoHAsync_v2(void* dst, CUarray src, size_t offset, size_t n, CUstream stream) {
  return Later(OnHost(dst), InArray(src, offset), n, stream);
}
CUresult cuMemcpyAtoHAsync_v2_ptsz(void* dst, CUarray src, size_t offset, size_t n,
                                   CUstream stream) {
  return Later(OnHost(dst), InArray(src, offset), n, PerThread(stream));
}

}  // extern "C"
