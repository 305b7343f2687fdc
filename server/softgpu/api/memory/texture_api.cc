// Texture and surface objects. Their numbers are handles; what kernels read by them is published in
// the process's tables (memory/texture.h).
#include "farwarp/base/log.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/memory/array.h"

using namespace farwarp::softgpu;

namespace {

// Adds the object and publishes its state; the number, or 0 if there is no room.
template <typename Table, typename Object>
std::uint64_t Publish(Table& handles, TextureTable& table, const std::shared_ptr<Object>& object,
                      const TextureState& state) {
  const std::uint64_t handle = handles.Add(object);
  object->handle = handle;
  if (table.Publish(handle, state)) return handle;
  handles.Remove(handle);
  return 0;
}

template <typename Table, typename Body>
CUresult With(Table Driver::* handles, std::uint64_t handle, Body&& body) noexcept {
  return CallContext([&](Driver& driver, Context&) {
    const auto object = (driver.*handles).Find(handle);
    return object == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(*object);
  });
}

}  // namespace

extern "C" {

CUresult cuTexObjectCreate(CUtexObject* pTexObject, const CUDA_RESOURCE_DESC* pResDesc,
                           const CUDA_TEXTURE_DESC* pTexDesc,
                           const CUDA_RESOURCE_VIEW_DESC* pResViewDesc) {
  return CallContext([&](Driver& driver, Context& context) {
    if (pTexObject == nullptr || pResDesc == nullptr || pTexDesc == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (pResViewDesc != nullptr) {
      FARWARP_LOG(kWarn, "softgpu: resource views of textures are not supported");
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    TextureState state;
    const CUresult result = DescribeTexture(driver, *pResDesc, *pTexDesc, &state);
    if (result != CUDA_SUCCESS) return result;
    auto object = std::make_shared<TextureObject>();
    object->resource = *pResDesc;
    object->texture = *pTexDesc;
    object->context = context.id();
    const std::uint64_t handle = Publish(driver.textures, TextureTable::Textures(), object, state);
    if (handle == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    *pTexObject = handle;
    return CUDA_SUCCESS;
  });
}

CUresult cuTexObjectDestroy(CUtexObject texObject) {
  return CallContext([&](Driver& driver, Context&) {
    if (driver.textures.Remove(texObject) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    TextureTable::Textures().Withdraw(texObject);
    return CUDA_SUCCESS;
  });
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUtexObject texObject) {
  return With(&Driver::textures, texObject, [&](const TextureObject& object) {
    if (pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pResDesc = object.resource;
    return CUDA_SUCCESS;
  });
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC* pTexDesc, CUtexObject texObject) {
  return With(&Driver::textures, texObject, [&](const TextureObject& object) {
    if (pTexDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pTexDesc = object.texture;
    return CUDA_SUCCESS;
  });
}

// No texture has a view, so there is none to tell.
CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC* pResViewDesc,
                                        CUtexObject texObject) {
  return With(&Driver::textures, texObject, [&](const TextureObject&) {
    static_cast<void>(pResViewDesc);
    return CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuSurfObjectCreate(CUsurfObject* pSurfObject, const CUDA_RESOURCE_DESC* pResDesc) {
  return CallContext([&](Driver& driver, Context& context) {
    if (pSurfObject == nullptr || pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
    TextureState state;
    const CUresult result = DescribeSurface(driver, *pResDesc, &state);
    if (result != CUDA_SUCCESS) return result;
    auto object = std::make_shared<SurfaceObject>();
    object->resource = *pResDesc;
    object->context = context.id();
    const std::uint64_t handle = Publish(driver.surfaces, TextureTable::Surfaces(), object, state);
    if (handle == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    *pSurfObject = handle;
    return CUDA_SUCCESS;
  });
}

CUresult cuSurfObjectDestroy(CUsurfObject surfObject) {
  return CallContext([&](Driver& driver, Context&) {
    if (driver.surfaces.Remove(surfObject) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    TextureTable::Surfaces().Withdraw(surfObject);
    return CUDA_SUCCESS;
  });
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUsurfObject surfObject) {
  return With(&Driver::surfaces, surfObject, [&](const SurfaceObject& object) {
    if (pResDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pResDesc = object.resource;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
