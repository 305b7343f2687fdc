#include "server/softgpu/api/memory/array.h"

#include <algorithm>
#include <cstring>

#include "farwarp/base/log.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/memory/device_memory.h"

namespace farwarp::softgpu {
namespace {

constexpr unsigned kKnownFlags = CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST |
                                 CUDA_ARRAY3D_CUBEMAP | CUDA_ARRAY3D_TEXTURE_GATHER;
constexpr unsigned kUnsupportedFlags = CUDA_ARRAY3D_DEPTH_TEXTURE | CUDA_ARRAY3D_COLOR_ATTACHMENT |
                                       CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING;
constexpr std::uint64_t kPitchAlignment = 32;  // CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT

// The same limits as the device's attributes.
bool WithinLimits(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  if ((d.Flags & CUDA_ARRAY3D_CUBEMAP) != 0) {
    const bool layered = (d.Flags & CUDA_ARRAY3D_LAYERED) != 0;
    return d.Width == d.Height && d.Width <= 32768 &&
           (layered ? d.Depth % 6 == 0 && d.Depth >= 6 && d.Depth <= 2046 : d.Depth == 6);
  }
  if ((d.Flags & CUDA_ARRAY3D_LAYERED) != 0) {
    return d.Depth >= 1 && d.Depth <= 2048 && d.Width <= 32768 && d.Height <= 32768;
  }
  if (d.Depth != 0) {
    return d.Height != 0 && d.Width <= 16384 && d.Height <= 16384 && d.Depth <= 16384;
  }
  return d.Width <= 131072 && d.Height <= 65536;
}

bool Flag(unsigned flags, unsigned flag) {
  return (flags & flag) != 0;
}

CUresult RefuseMipmaps() {
  FARWARP_LOG(kWarn, "softgpu: mipmapped arrays are not supported");
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult DescribeArray(Driver& driver, CUarray handle, TextureState* state,
                       std::shared_ptr<Array>* found) {
  *found = driver.arrays.Find(handle);
  if (*found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const Array& array = **found;
  const CUDA_ARRAY3D_DESCRIPTOR& d = array.descriptor;
  if (!TexelTypeOf(d.Format, d.NumChannels, &state->type)) return CUDA_ERROR_INVALID_VALUE;
  state->base = array.address;
  state->pitch = array.row_bytes;
  state->slice = array.slice_bytes;
  state->width = static_cast<std::uint32_t>(d.Width);
  state->height = static_cast<std::uint32_t>(d.Height);
  state->depth = static_cast<std::uint32_t>(d.Depth);
  state->channels = static_cast<std::uint8_t>(d.NumChannels);
  state->layered = Flag(d.Flags, CUDA_ARRAY3D_LAYERED);
  state->cube = Flag(d.Flags, CUDA_ARRAY3D_CUBEMAP);
  return CUDA_SUCCESS;
}

CUresult DescribeLinear(Driver& driver, const CUDA_RESOURCE_DESC& resource, TextureState* state) {
  const auto& linear = resource.res.linear;
  if (!TexelTypeOf(linear.format, linear.numChannels, &state->type)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  state->channels = static_cast<std::uint8_t>(linear.numChannels);
  const std::uint64_t texels = linear.sizeInBytes / state->texel_bytes();
  if (texels == 0 || texels > 268435456 || linear.devPtr % kTextureAlignment != 0 ||
      !driver.allocations.Covers(linear.devPtr, linear.sizeInBytes, false)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  state->base = linear.devPtr;
  state->width = static_cast<std::uint32_t>(texels);
  state->linear_memory = true;
  return CUDA_SUCCESS;
}

CUresult DescribePitched(Driver& driver, const CUDA_RESOURCE_DESC& resource, TextureState* state) {
  const auto& image = resource.res.pitch2D;
  if (!TexelTypeOf(image.format, image.numChannels, &state->type)) return CUDA_ERROR_INVALID_VALUE;
  state->channels = static_cast<std::uint8_t>(image.numChannels);
  if (image.width == 0 || image.height == 0 || image.width > 131072 || image.height > 65000 ||
      image.pitchInBytes > 2097120 || image.pitchInBytes % kPitchAlignment != 0 ||
      image.pitchInBytes < image.width * state->texel_bytes() ||
      image.devPtr % kTextureAlignment != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::uint64_t bytes =
      (image.height - 1) * image.pitchInBytes + image.width * state->texel_bytes();
  if (!driver.allocations.Covers(image.devPtr, bytes, false)) return CUDA_ERROR_INVALID_VALUE;
  state->base = image.devPtr;
  state->pitch = image.pitchInBytes;
  state->width = static_cast<std::uint32_t>(image.width);
  state->height = static_cast<std::uint32_t>(image.height);
  return CUDA_SUCCESS;
}

}  // namespace

bool TexelTypeOf(CUarray_format format, unsigned channels, TexelType* type) {
  if (channels != 1 && channels != 2 && channels != 4) return false;
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
      return *type = TexelType::kU8, true;
    case CU_AD_FORMAT_UNSIGNED_INT16:
      return *type = TexelType::kU16, true;
    case CU_AD_FORMAT_UNSIGNED_INT32:
      return *type = TexelType::kU32, true;
    case CU_AD_FORMAT_SIGNED_INT8:
      return *type = TexelType::kS8, true;
    case CU_AD_FORMAT_SIGNED_INT16:
      return *type = TexelType::kS16, true;
    case CU_AD_FORMAT_SIGNED_INT32:
      return *type = TexelType::kS32, true;
    case CU_AD_FORMAT_HALF:
      return *type = TexelType::kF16, true;
    case CU_AD_FORMAT_FLOAT:
      return *type = TexelType::kF32, true;
    default:
      return false;
  }
}

CUresult LayOutArray(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, Array* array) {
  if (Flag(descriptor.Flags, kUnsupportedFlags)) {
    FARWARP_LOG(kWarn, "softgpu: an array with flags 0x%x is not supported", descriptor.Flags);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  TexelType type;
  if ((descriptor.Flags & ~kKnownFlags) != 0 || descriptor.Width == 0 ||
      !TexelTypeOf(descriptor.Format, descriptor.NumChannels, &type) || !WithinLimits(descriptor)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  array->descriptor = descriptor;
  array->row_bytes = descriptor.Width * TexelTypeBytes(type) * descriptor.NumChannels;
  array->rows = std::max<std::uint64_t>(1, descriptor.Height);
  array->slices = std::max<std::uint64_t>(1, descriptor.Depth);
  array->slice_bytes = array->row_bytes * array->rows;  // The limits keep it far from overflowing.
  return CUDA_SUCCESS;
}

CUresult CreateArray(Driver& driver, Context& context, const CUDA_ARRAY3D_DESCRIPTOR& descriptor,
                     CUarray* handle) {
  auto array = std::make_shared<Array>();
  if (const CUresult result = LayOutArray(descriptor, array.get()); result != CUDA_SUCCESS) {
    return result;
  }
  array->context = context.id();
  Allocation wanted;
  wanted.kind = MemoryKind::kArray;
  wanted.device = context.device().ordinal();
  wanted.context = context.id();
  const CUresult result = AllocateMemory(driver, wanted, array->bytes(), &array->address);
  if (result == CUDA_SUCCESS) *handle = driver.arrays.Add(std::move(array));
  return result;
}

CUresult DescribeTexture(Driver& driver, const CUDA_RESOURCE_DESC& resource,
                         const CUDA_TEXTURE_DESC& texture, TextureState* state) {
  constexpr unsigned kKnown = CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES |
                              CU_TRSF_SRGB | CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION |
                              CU_TRSF_SEAMLESS_CUBEMAP;
  if ((texture.flags & ~kKnown) != 0 || resource.flags != 0 ||
      texture.filterMode > CU_TR_FILTER_MODE_LINEAR) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Array> array;
  if (resource.resType == CU_RESOURCE_TYPE_ARRAY) {
    result = DescribeArray(driver, resource.res.array.hArray, state, &array);
  } else if (resource.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
    result = RefuseMipmaps();
  } else if (resource.resType == CU_RESOURCE_TYPE_LINEAR) {
    result = DescribeLinear(driver, resource, state);
  } else if (resource.resType == CU_RESOURCE_TYPE_PITCH2D) {
    result = DescribePitched(driver, resource, state);
  }
  if (result != CUDA_SUCCESS) return result;
  for (int k = 0; k < 3; ++k) {
    switch (texture.addressMode[k]) {
      case CU_TR_ADDRESS_MODE_WRAP:
        state->address[k] = AddressMode::kWrap;
        break;
      case CU_TR_ADDRESS_MODE_CLAMP:
        state->address[k] = AddressMode::kClamp;
        break;
      case CU_TR_ADDRESS_MODE_MIRROR:
        state->address[k] = AddressMode::kMirror;
        break;
      case CU_TR_ADDRESS_MODE_BORDER:
        state->address[k] = AddressMode::kBorder;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  }
  state->normalized_coordinates = Flag(texture.flags, CU_TRSF_NORMALIZED_COORDINATES);
  state->linear_filter = texture.filterMode == CU_TR_FILTER_MODE_LINEAR && !state->linear_memory;
  state->to_float =
      !Flag(texture.flags, CU_TRSF_READ_AS_INTEGER) && TexelTypeBytes(state->type) < 4;
  state->srgb =
      Flag(texture.flags, CU_TRSF_SRGB) && state->type == TexelType::kU8 && state->to_float;
  std::memcpy(state->border, texture.borderColor, sizeof(state->border));
  // Directions are coordinates of cubemaps, whatever the flag says.
  if (state->cube) state->normalized_coordinates = true;
  if (state->cube && state->linear_filter && Flag(texture.flags, CU_TRSF_SEAMLESS_CUBEMAP)) {
    FARWARP_LOG(kWarn, "softgpu: filtering across the edges of a cubemap is not supported");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_SUCCESS;
}

CUresult DescribeSurface(Driver& driver, const CUDA_RESOURCE_DESC& resource, TextureState* state) {
  if (resource.resType != CU_RESOURCE_TYPE_ARRAY || resource.flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::shared_ptr<Array> array;
  const CUresult result = DescribeArray(driver, resource.res.array.hArray, state, &array);
  if (result != CUDA_SUCCESS) return result;
  return Flag(array->descriptor.Flags, CUDA_ARRAY3D_SURFACE_LDST) ? CUDA_SUCCESS
                                                                  : CUDA_ERROR_INVALID_VALUE;
}

void ForgetTextures(Driver& driver, std::uint64_t context) {
  const auto mine = [&](const auto& object) { return object.context == context; };
  for (const auto& one : driver.textures.RemoveIf(mine)) {
    TextureTable::Textures().Withdraw(one->handle);
  }
  for (const auto& one : driver.surfaces.RemoveIf(mine)) {
    TextureTable::Surfaces().Withdraw(one->handle);
  }
  driver.arrays.RemoveIf(mine);
}

}  // namespace farwarp::softgpu
