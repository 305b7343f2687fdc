// Arrays, textures and surfaces.
#include <cstring>

#include "client/runtime/array_format.h"
#include "client/runtime/copy.h"

namespace farwarp::runtime {
namespace {

Outcome CreateArray(const Driver& d, cudaArray_t* array, const cudaChannelFormatDesc* format,
                    const cudaExtent& extent, unsigned flags) {
  if (array == nullptr || format == nullptr) return cudaErrorInvalidValue;
  CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
  if (!ToArrayFormat(*format, &descriptor.Format, &descriptor.NumChannels)) {
    return cudaErrorInvalidChannelDescriptor;
  }
  descriptor.Width = extent.width;
  descriptor.Height = extent.height;
  descriptor.Depth = extent.depth;
  descriptor.Flags = flags;
  return d.Array3DCreate(Convert<CUarray*>(array), &descriptor);
}

Outcome ToDriver(const cudaResourceDesc& resource, CUDA_RESOURCE_DESC* result) {
  *result = {};
  switch (resource.resType) {
    case cudaResourceTypeArray:
      result->resType = CU_RESOURCE_TYPE_ARRAY;
      result->res.array.hArray = DriverArray(resource.res.array.array);
      return cudaSuccess;
    case cudaResourceTypeMipmappedArray:
      result->resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
      result->res.mipmap.hMipmappedArray = DriverMipmappedArray(resource.res.mipmap.mipmap);
      return cudaSuccess;
    case cudaResourceTypeLinear: {
      auto& linear = result->res.linear;
      result->resType = CU_RESOURCE_TYPE_LINEAR;
      linear.devPtr = Address(resource.res.linear.devPtr);
      linear.sizeInBytes = resource.res.linear.sizeInBytes;
      return ToArrayFormat(resource.res.linear.desc, &linear.format, &linear.numChannels)
                 ? cudaSuccess
                 : cudaErrorInvalidChannelDescriptor;
    }
    case cudaResourceTypePitch2D: {
      auto& pitched = result->res.pitch2D;
      result->resType = CU_RESOURCE_TYPE_PITCH2D;
      pitched.devPtr = Address(resource.res.pitch2D.devPtr);
      pitched.width = resource.res.pitch2D.width;
      pitched.height = resource.res.pitch2D.height;
      pitched.pitchInBytes = resource.res.pitch2D.pitchInBytes;
      return ToArrayFormat(resource.res.pitch2D.desc, &pitched.format, &pitched.numChannels)
                 ? cudaSuccess
                 : cudaErrorInvalidChannelDescriptor;
    }
    default:
      return cudaErrorInvalidValue;
  }
}

Outcome ToRuntime(const CUDA_RESOURCE_DESC& resource, cudaResourceDesc* result) {
  *result = {};
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      result->resType = cudaResourceTypeArray;
      result->res.array.array = (cudaArray_t)resource.res.array.hArray;
      return cudaSuccess;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
      result->resType = cudaResourceTypeMipmappedArray;
      result->res.mipmap.mipmap = (cudaMipmappedArray_t)resource.res.mipmap.hMipmappedArray;
      return cudaSuccess;
    case CU_RESOURCE_TYPE_LINEAR: {
      const auto& linear = resource.res.linear;
      result->resType = cudaResourceTypeLinear;
      result->res.linear.devPtr = Pointer(linear.devPtr);
      result->res.linear.desc = ToChannelDescriptor(linear.format, linear.numChannels);
      result->res.linear.sizeInBytes = linear.sizeInBytes;
      return cudaSuccess;
    }
    case CU_RESOURCE_TYPE_PITCH2D: {
      const auto& pitched = resource.res.pitch2D;
      result->resType = cudaResourceTypePitch2D;
      result->res.pitch2D.devPtr = Pointer(pitched.devPtr);
      result->res.pitch2D.desc = ToChannelDescriptor(pitched.format, pitched.numChannels);
      result->res.pitch2D.width = pitched.width;
      result->res.pitch2D.height = pitched.height;
      result->res.pitch2D.pitchInBytes = pitched.pitchInBytes;
      return cudaSuccess;
    }
    default:
      return cudaErrorUnknown;
  }
}

CUDA_TEXTURE_DESC ToDriver(const cudaTextureDesc& texture) {
  CUDA_TEXTURE_DESC result = {};
  for (int i = 0; i < 3; ++i) {
    result.addressMode[i] = static_cast<CUaddress_mode>(texture.addressMode[i]);
  }
  result.filterMode = static_cast<CUfilter_mode>(texture.filterMode);
  unsigned flags = 0;
  // The runtime asks for numbers as they are, the driver for not being converted to floats.
  if (texture.readMode == cudaReadModeElementType) flags |= CU_TRSF_READ_AS_INTEGER;
  if (texture.normalizedCoords != 0) flags |= CU_TRSF_NORMALIZED_COORDINATES;
  if (texture.sRGB != 0) flags |= CU_TRSF_SRGB;
  if (texture.disableTrilinearOptimization != 0) flags |= CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION;
  if (texture.seamlessCubemap != 0) flags |= CU_TRSF_SEAMLESS_CUBEMAP;
  result.flags = flags;
  result.maxAnisotropy = texture.maxAnisotropy;
  result.mipmapFilterMode = static_cast<CUfilter_mode>(texture.mipmapFilterMode);
  result.mipmapLevelBias = texture.mipmapLevelBias;
  result.minMipmapLevelClamp = texture.minMipmapLevelClamp;
  result.maxMipmapLevelClamp = texture.maxMipmapLevelClamp;
  std::memcpy(result.borderColor, texture.borderColor, sizeof(result.borderColor));
  return result;
}

cudaTextureDesc ToRuntime(const CUDA_TEXTURE_DESC& texture) {
  cudaTextureDesc result = {};
  for (int i = 0; i < 3; ++i) {
    result.addressMode[i] = static_cast<cudaTextureAddressMode>(texture.addressMode[i]);
  }
  result.filterMode = static_cast<cudaTextureFilterMode>(texture.filterMode);
  const auto has = [&texture](unsigned flag) { return (texture.flags & flag) != 0; };
  result.readMode =
      has(CU_TRSF_READ_AS_INTEGER) ? cudaReadModeElementType : cudaReadModeNormalizedFloat;
  result.normalizedCoords = has(CU_TRSF_NORMALIZED_COORDINATES);
  result.sRGB = has(CU_TRSF_SRGB);
  result.disableTrilinearOptimization = has(CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION);
  result.seamlessCubemap = has(CU_TRSF_SEAMLESS_CUBEMAP);
  result.maxAnisotropy = texture.maxAnisotropy;
  result.mipmapFilterMode = static_cast<cudaTextureFilterMode>(texture.mipmapFilterMode);
  result.mipmapLevelBias = texture.mipmapLevelBias;
  result.minMipmapLevelClamp = texture.minMipmapLevelClamp;
  result.maxMipmapLevelClamp = texture.maxMipmapLevelClamp;
  std::memcpy(result.borderColor, texture.borderColor, sizeof(result.borderColor));
  return result;
}

CUDA_RESOURCE_VIEW_DESC ToDriver(const cudaResourceViewDesc& view) {
  CUDA_RESOURCE_VIEW_DESC result = {};
  result.format = static_cast<CUresourceViewFormat>(view.format);
  result.width = view.width;
  result.height = view.height;
  result.depth = view.depth;
  result.firstMipmapLevel = view.firstMipmapLevel;
  result.lastMipmapLevel = view.lastMipmapLevel;
  result.firstLayer = view.firstLayer;
  result.lastLayer = view.lastLayer;
  return result;
}

cudaResourceViewDesc ToRuntime(const CUDA_RESOURCE_VIEW_DESC& view) {
  cudaResourceViewDesc result = {};
  result.format = static_cast<cudaResourceViewFormat>(view.format);
  result.width = view.width;
  result.height = view.height;
  result.depth = view.depth;
  result.firstMipmapLevel = view.firstMipmapLevel;
  result.lastMipmapLevel = view.lastMipmapLevel;
  result.firstLayer = view.firstLayer;
  result.lastLayer = view.lastLayer;
  return result;
}

Outcome CreateTexture(const Driver& d, cudaTextureObject_t* object,
                      const cudaResourceDesc* resource, const cudaTextureDesc* texture,
                      const cudaResourceViewDesc* view) {
  if (object == nullptr || resource == nullptr || texture == nullptr) return cudaErrorInvalidValue;
  CUDA_RESOURCE_DESC driver_resource;
  const Outcome converted = ToDriver(*resource, &driver_resource);
  if (!converted.ok()) return converted;
  CUDA_TEXTURE_DESC driver_texture = ToDriver(*texture);
  // Channels of floats are read as they are without being asked to.
  cudaChannelFormatKind kind = cudaChannelFormatKindNone;
  if (resource->resType == cudaResourceTypeLinear) kind = resource->res.linear.desc.f;
  if (resource->resType == cudaResourceTypePitch2D) kind = resource->res.pitch2D.desc.f;
  if (resource->resType == cudaResourceTypeArray) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
    const Outcome asked = d.Array3DGetDescriptor(&descriptor, driver_resource.res.array.hArray);
    if (!asked.ok()) return asked;
    kind = ToChannelDescriptor(descriptor.Format, descriptor.NumChannels).f;
  }
  if (kind == cudaChannelFormatKindFloat) {
    driver_texture.flags &= ~static_cast<unsigned>(CU_TRSF_READ_AS_INTEGER);
  }
  CUDA_RESOURCE_VIEW_DESC driver_view;
  if (view != nullptr) driver_view = ToDriver(*view);
  return Pass(d.TexObjectCreate, object, &driver_resource, &driver_texture,
              view != nullptr ? &driver_view : nullptr);
}

}  // namespace
}  // namespace farwarp::runtime

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

RT_API(cudaMallocArray,
       (cudaArray_t * array, const cudaChannelFormatDesc* desc, size_t width, size_t height,
        unsigned int flags),
       { return CreateArray(d, array, desc, {width, height, 0}, flags); })
RT_API(cudaMalloc3DArray,
       (cudaArray_t * array, const cudaChannelFormatDesc* desc, cudaExtent extent,
        unsigned int flags),
       { return CreateArray(d, array, desc, extent, flags); })
RT_API(cudaMallocMipmappedArray,
       (cudaMipmappedArray_t * mipmappedArray, const cudaChannelFormatDesc* desc, cudaExtent extent,
        unsigned int numLevels, unsigned int flags),
       {
         if (mipmappedArray == nullptr || desc == nullptr) return cudaErrorInvalidValue;
         CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
         if (!ToArrayFormat(*desc, &descriptor.Format, &descriptor.NumChannels)) {
           return cudaErrorInvalidChannelDescriptor;
         }
         descriptor.Width = extent.width;
         descriptor.Height = extent.height;
         descriptor.Depth = extent.depth;
         descriptor.Flags = flags;
         return d.MipmappedArrayCreate(Convert<CUmipmappedArray*>(mipmappedArray), &descriptor,
                                       numLevels);
       })
RT_API(cudaFreeArray, (cudaArray_t array), {
  if (array == nullptr) return cudaSuccess;
  return d.ArrayDestroy(DriverArray(array));
})
RT_API(cudaFreeMipmappedArray, (cudaMipmappedArray_t mipmappedArray), {
  if (mipmappedArray == nullptr) return cudaSuccess;
  return d.MipmappedArrayDestroy(DriverMipmappedArray(mipmappedArray));
})
RT_API(cudaGetMipmappedArrayLevel,
       (cudaArray_t * levelArray, cudaMipmappedArray_const_t mipmappedArray, unsigned int level), {
         return d.MipmappedArrayGetLevel(Convert<CUarray*>(levelArray),
                                         DriverMipmappedArray(mipmappedArray), level);
       })
RT_API(cudaArrayGetInfo,
       (cudaChannelFormatDesc * desc, cudaExtent* extent, unsigned int* flags, cudaArray_t array), {
         CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
         const Outcome asked = d.Array3DGetDescriptor(&descriptor, DriverArray(array));
         if (!asked.ok()) return asked;
         if (desc != nullptr) {
           *desc = ToChannelDescriptor(descriptor.Format, descriptor.NumChannels);
         }
         if (extent != nullptr) *extent = {descriptor.Width, descriptor.Height, descriptor.Depth};
         if (flags != nullptr) *flags = descriptor.Flags;
         return cudaSuccess;
       })
RT_API(cudaGetChannelDesc, (cudaChannelFormatDesc * desc, cudaArray_const_t array), {
  if (desc == nullptr) return cudaErrorInvalidValue;
  CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
  const Outcome asked = d.Array3DGetDescriptor(&descriptor, DriverArray(array));
  if (asked.ok()) *desc = ToChannelDescriptor(descriptor.Format, descriptor.NumChannels);
  return asked;
})
RT_API(cudaArrayGetPlane, (cudaArray_t * pPlaneArray, cudaArray_t hArray, unsigned int planeIdx),
       { return d.ArrayGetPlane(Convert<CUarray*>(pPlaneArray), DriverArray(hArray), planeIdx); })
RT_API(cudaArrayGetMemoryRequirements,
       (cudaArrayMemoryRequirements * memoryRequirements, cudaArray_t array, int device), {
         CUdevice handle = 0;
         const cudaError_t error = Process::Get().Device(device, &handle);
         if (error != cudaSuccess) return error;
         return Pass(d.ArrayGetMemoryRequirements, memoryRequirements, array, handle);
       })
RT_API(cudaMipmappedArrayGetMemoryRequirements,
       (cudaArrayMemoryRequirements * memoryRequirements, cudaMipmappedArray_t mipmap, int device),
       {
         CUdevice handle = 0;
         const cudaError_t error = Process::Get().Device(device, &handle);
         if (error != cudaSuccess) return error;
         return Pass(d.MipmappedArrayGetMemoryRequirements, memoryRequirements, mipmap, handle);
       })
RT_API(cudaArrayGetSparseProperties,
       (cudaArraySparseProperties * sparseProperties, cudaArray_t array),
       { return Pass(d.ArrayGetSparseProperties, sparseProperties, array); })
RT_API(cudaMipmappedArrayGetSparseProperties,
       (cudaArraySparseProperties * sparseProperties, cudaMipmappedArray_t mipmap),
       { return Pass(d.MipmappedArrayGetSparseProperties, sparseProperties, mipmap); })

extern "C" FARWARP_EXPORT cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w,
                                                                      cudaChannelFormatKind f) {
  cudaChannelFormatDesc descriptor = {};
  descriptor.x = x;
  descriptor.y = y;
  descriptor.z = z;
  descriptor.w = w;
  descriptor.f = f;
  return descriptor;
}

RT_API(cudaCreateTextureObject,
       (cudaTextureObject_t * pTexObject, const cudaResourceDesc* pResDesc,
        const cudaTextureDesc* pTexDesc, const cudaResourceViewDesc* pResViewDesc),
       { return CreateTexture(d, pTexObject, pResDesc, pTexDesc, pResViewDesc); })
RT_API(cudaDestroyTextureObject, (cudaTextureObject_t texObject),
       { return d.TexObjectDestroy(texObject); })
RT_API(cudaGetTextureObjectResourceDesc,
       (cudaResourceDesc * pResDesc, cudaTextureObject_t texObject), {
         CUDA_RESOURCE_DESC resource = {};
         if (pResDesc == nullptr) return cudaErrorInvalidValue;
         const Outcome asked = d.TexObjectGetResourceDesc(&resource, texObject);
         return asked.ok() ? ToRuntime(resource, pResDesc) : asked;
       })
RT_API(cudaGetTextureObjectTextureDesc, (cudaTextureDesc * pTexDesc, cudaTextureObject_t texObject),
       {
         CUDA_TEXTURE_DESC texture = {};
         if (pTexDesc == nullptr) return cudaErrorInvalidValue;
         const Outcome asked = d.TexObjectGetTextureDesc(&texture, texObject);
         if (asked.ok()) *pTexDesc = ToRuntime(texture);
         return asked;
       })
RT_API(cudaGetTextureObjectResourceViewDesc,
       (cudaResourceViewDesc * pResViewDesc, cudaTextureObject_t texObject), {
         CUDA_RESOURCE_VIEW_DESC view = {};
         if (pResViewDesc == nullptr) return cudaErrorInvalidValue;
         const Outcome asked = d.TexObjectGetResourceViewDesc(&view, texObject);
         if (asked.ok()) *pResViewDesc = ToRuntime(view);
         return asked;
       })
RT_API(cudaCreateSurfaceObject,
       (cudaSurfaceObject_t * pSurfObject, const cudaResourceDesc* pResDesc), {
         CUDA_RESOURCE_DESC resource;
         if (pSurfObject == nullptr || pResDesc == nullptr) return cudaErrorInvalidValue;
         const Outcome converted = ToDriver(*pResDesc, &resource);
         if (!converted.ok()) return converted;
         return Pass(d.SurfObjectCreate, pSurfObject, &resource);
       })
RT_API(cudaDestroySurfaceObject, (cudaSurfaceObject_t surfObject),
       { return d.SurfObjectDestroy(surfObject); })
RT_API(cudaGetSurfaceObjectResourceDesc,
       (cudaResourceDesc * pResDesc, cudaSurfaceObject_t surfObject), {
         CUDA_RESOURCE_DESC resource = {};
         if (pResDesc == nullptr) return cudaErrorInvalidValue;
         const Outcome asked = d.SurfObjectGetResourceDesc(&resource, surfObject);
         return asked.ok() ? ToRuntime(resource, pResDesc) : asked;
       })
