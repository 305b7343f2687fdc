// CUDA arrays: creation, release, information. Copies are in copy_shapes_api.cc.
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"
#include "server/softgpu/api/memory/array.h"
#include "server/softgpu/api/memory/device_memory.h"

using namespace farwarp::softgpu;

namespace {

CUresult Create(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR& descriptor) noexcept {
  return CallContext([&](Driver& driver, Context& context) {
    if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    return CreateArray(driver, context, descriptor, handle);
  });
}

// Runs body(const Array&) on a live array.
template <typename Body>
CUresult WithArray(CUarray handle, Body&& body) noexcept {
  return CallContext([&](Driver& driver, Context&) {
    const std::shared_ptr<Array> array = driver.arrays.Find(handle);
    return array == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(*array);
  });
}

}  // namespace

extern "C" {

CUresult cuArrayCreate_v2(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR* pAllocateArray) {
  if (pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  descriptor.Width = pAllocateArray->Width;
  descriptor.Height = pAllocateArray->Height;
  descriptor.Format = pAllocateArray->Format;
  descriptor.NumChannels = pAllocateArray->NumChannels;
  return Create(pHandle, descriptor);
}

CUresult cuArray3DCreate_v2(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pAllocateArray) {
  if (pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return Create(pHandle, *pAllocateArray);
}

CUresult cuArrayDestroy(CUarray hArray) {
  return CallContext([&](Driver& driver, Context&) {
    if (const CUresult unsafe = CheckUnsafe(); unsafe != CUDA_SUCCESS) return unsafe;
    const std::shared_ptr<Array> array = driver.arrays.Find(hArray);
    if (array == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    driver.WaitForUsers(array->context);
    if (driver.arrays.Remove(hArray) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (const auto memory = driver.allocations.Remove(array->address, MemoryKind::kArray)) {
      FreeMemory(driver, *memory);
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  return WithArray(hArray, [&](const Array& array) {
    if (pArrayDescriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const CUDA_ARRAY3D_DESCRIPTOR& d = array.descriptor;
    *pArrayDescriptor = {d.Width, d.Height, d.Format, d.NumChannels};
    return CUDA_SUCCESS;
  });
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  return WithArray(hArray, [&](const Array& array) {
    if (pArrayDescriptor == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pArrayDescriptor = array.descriptor;
    return CUDA_SUCCESS;
  });
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* memoryRequirements,
                                      CUarray array, CUdevice device) {
  return WithArray(array, [&](const Array& found) {
    if (memoryRequirements == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (Driver::Get()->FindDevice(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    *memoryRequirements = {};
    memoryRequirements->size =
        (found.bytes() + AddressSpace::kPage - 1) & ~(AddressSpace::kPage - 1);
    memoryRequirements->alignment = AddressSpace::kPage;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
