// cuArray*, cuTexObject*, cuSurfObject*, and copies of one row to and from arrays.
#include "client/custom.h"
#include "client/driver/copy/arrays.h"
#include "client/driver/process.h"
#include "proto/cuda/copy_box.h"

namespace farwarp::client::custom {
namespace {

constexpr auto kLegacy = NullStream::kLegacy;
constexpr auto kPerThread = NullStream::kPerThread;
constexpr auto kNow = Timing::kSynchronous;
constexpr auto kLater = Timing::kAsynchronous;

using cuda::InArray;
using cuda::OnDevice;
using cuda::OnHost;
using cuda::RowEnd;

CUresult Row(const RowEnd& to, const RowEnd& from, size_t bytes, CUstream stream, NullStream null,
             Timing timing) {
  FARWARP_ENTER_CONTEXT(caller);
  return CopyWithArray(caller, cuda::RowOf(to, from, bytes), stream, null, timing);
}

}  // namespace

CUresult cuArray3DCreate_v2(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pAllocateArray) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->arrays().Create(caller, *pAllocateArray, pHandle);
}
CUresult cuArrayCreate_v2(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR* pAllocateArray) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  descriptor.Width = pAllocateArray->Width;
  descriptor.Height = pAllocateArray->Height;
  descriptor.Format = pAllocateArray->Format;
  descriptor.NumChannels = pAllocateArray->NumChannels;
  return caller.process->arrays().Create(caller, descriptor, pHandle);
}
CUresult cuArrayDestroy(CUarray hArray) {
  FARWARP_ENTER_CONTEXT(caller);
  return caller.process->arrays().Destroy(caller, hArray);
}
CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto array = caller.process->arrays().Find(hArray);
  if (!array.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (pArrayDescriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = array->descriptor;
  *pArrayDescriptor = {d.Width, d.Height, d.Format, d.NumChannels};
  return CUDA_SUCCESS;
}
CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto array = caller.process->arrays().Find(hArray);
  if (!array.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (pArrayDescriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pArrayDescriptor = array->descriptor;
  return CUDA_SUCCESS;
}
CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* memoryRequirements,
                                      CUarray array, CUdevice device) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto found = caller.process->arrays().Find(array);
  if (!found.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (memoryRequirements == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (caller.process->FindDevice(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *memoryRequirements = {};
  memoryRequirements->size = found->bytes;
  memoryRequirements->alignment = size_t{1} << 16;
  return CUDA_SUCCESS;
}

CUresult cuTexObjectCreate(CUtexObject* pTexObject, const CUDA_RESOURCE_DESC* pResDesc,
                           const CUDA_TEXTURE_DESC* pTexDesc,
                           const CUDA_RESOURCE_VIEW_DESC* pResViewDesc) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pTexObject == nullptr || pResDesc == nullptr || pTexDesc == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Views are of mipmapped arrays or change a format: neither is remoted.
  if (pResViewDesc != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  return caller.process->arrays().CreateTexture(caller, *pResDesc, *pTexDesc, pTexObject);
}
CUresult cuTexObjectDestroy(CUtexObject texObject) {
  FARWARP_ENTER_CONTEXT(caller);
  return caller.process->arrays().DestroyTexture(caller, texObject);
}
CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUtexObject texObject) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto texture = caller.process->arrays().FindTexture(caller, texObject);
  if (!texture.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pResDesc = texture->resource;
  return CUDA_SUCCESS;
}
CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC* pTexDesc, CUtexObject texObject) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto texture = caller.process->arrays().FindTexture(caller, texObject);
  if (!texture.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (pTexDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pTexDesc = texture->texture;
  return CUDA_SUCCESS;
}
// No texture has a view, so there is none to tell.
CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC* pResViewDesc,
                                        CUtexObject texObject) {
  FARWARP_ENTER_CONTEXT(caller);
  static_cast<void>(pResViewDesc);
  return caller.process->arrays().FindTexture(caller, texObject).has_value()
             ? CUDA_ERROR_INVALID_VALUE
             : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuSurfObjectCreate(CUsurfObject* pSurfObject, const CUDA_RESOURCE_DESC* pResDesc) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pSurfObject == nullptr || pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return caller.process->arrays().CreateSurface(caller, *pResDesc, pSurfObject);
}
CUresult cuSurfObjectDestroy(CUsurfObject surfObject) {
  FARWARP_ENTER_CONTEXT(caller);
  return caller.process->arrays().DestroySurface(caller, surfObject);
}
CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUsurfObject surfObject) {
  FARWARP_ENTER_CONTEXT(caller);
  const auto resource = caller.process->arrays().FindSurface(caller, surfObject);
  if (!resource.has_value()) return CUDA_ERROR_INVALID_HANDLE;
  if (pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pResDesc = *resource;
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                         size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), OnDevice(srcDevice), ByteCount, nullptr, kLegacy, kNow);
}
CUresult cuMemcpyDtoA_v2_ptds(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
                              size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), OnDevice(srcDevice), ByteCount, nullptr, kPerThread,
             kNow);
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                         size_t ByteCount) {
  return Row(OnDevice(dstDevice), InArray(srcArray, srcOffset), ByteCount, nullptr, kLegacy, kNow);
}
CUresult cuMemcpyAtoD_v2_ptds(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
                              size_t ByteCount) {
  return Row(OnDevice(dstDevice), InArray(srcArray, srcOffset), ByteCount, nullptr, kPerThread,
             kNow);
}
CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void* srcHost,
                         size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), OnHost(srcHost), ByteCount, nullptr, kLegacy, kNow);
}
CUresult cuMemcpyHtoA_v2_ptds(CUarray dstArray, size_t dstOffset, const void* srcHost,
                              size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), OnHost(srcHost), ByteCount, nullptr, kPerThread, kNow);
}
CUresult cuMemcpyAtoH_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  return Row(OnHost(dstHost), InArray(srcArray, srcOffset), ByteCount, nullptr, kLegacy, kNow);
}
CUresult cuMemcpyAtoH_v2_ptds(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  return Row(OnHost(dstHost), InArray(srcArray, srcOffset), ByteCount, nullptr, kPerThread, kNow);
}
CUresult cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
                         size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), InArray(srcArray, srcOffset), ByteCount, nullptr,
             kLegacy, kNow);
}
CUresult cuMemcpyAtoA_v2_ptds(CUarray dstArray, size_t dstOffset, CUarray srcArray,
                              size_t srcOffset, size_t ByteCount) {
  return Row(InArray(dstArray, dstOffset), InArray(srcArray, srcOffset), ByteCount, nullptr,
             kPerThread, kNow);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void* srcHost,
                              size_t ByteCount, CUstream hStream) {
  return Row(InArray(dstArray, dstOffset), OnHost(srcHost), ByteCount, hStream, kLegacy, kLater);
}
CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray dstArray, size_t dstOffset, const void* srcHost,
                                   size_t ByteCount, CUstream hStream) {
  return Row(InArray(dstArray, dstOffset), OnHost(srcHost), ByteCount, hStream, kPerThread, kLater);
}
CUresult cuMemcpyAtoHAsync_v2(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
                              CUstream hStream) {
  return Row(OnHost(dstHost), InArray(srcArray, srcOffset), ByteCount, hStream, kLegacy, kLater);
}
CUresult cuMemcpyAtoHAsync_v2_ptsz(void* dstHost, CUarray srcArray, size_t srcOffset,
                                   size_t ByteCount, CUstream hStream) {
  return Row(OnHost(dstHost), InArray(srcArray, srcOffset), ByteCount, hStream, kPerThread, kLater);
}

}  // namespace farwarp::client::custom
