// Array: a CUDA array: texels row by row in memory of its own, one slice behind another; and what
// the driver remembers of a texture or a surface object. Rows have no gaps, so an array costs what
// its texels need, rounded up to a page.
//
// Ownership: the driver's tables hold them; a call that works on one keeps it alive. The memory is
// an Allocation of kind kArray and may be given back earlier: what still uses it then faults, as
// with freed device memory. Value-like after construction; thread-safe.
#pragma once

#include <cstdint>
#include <memory>

#include "cuda/driver_api.h"
#include "server/softgpu/memory/texture.h"

namespace farwarp::softgpu {

class Driver;
class Context;

class Array {
 public:
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  std::uint64_t address = 0;
  std::uint64_t row_bytes = 0;
  std::uint64_t slice_bytes = 0;
  std::uint64_t rows = 1;    // Of a slice.
  std::uint64_t slices = 1;  // Depth, layers or faces.
  std::uint64_t context = 0;

  std::uint64_t bytes() const noexcept { return slice_bytes * slices; }
};

struct TextureObject {
  CUDA_RESOURCE_DESC resource{};
  CUDA_TEXTURE_DESC texture{};
  std::uint64_t context = 0;
  std::uint64_t handle = 0;  // Its number, known once it is in the table.
};
struct SurfaceObject {
  CUDA_RESOURCE_DESC resource{};
  std::uint64_t context = 0;
  std::uint64_t handle = 0;
};

// False: a format or a number of channels that textures do not have here.
bool TexelTypeOf(CUarray_format format, unsigned channels, TexelType* type);

// Checks a descriptor against the device's limits and fills in the layout, without memory.
CUresult LayOutArray(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, Array* array);
CUresult CreateArray(Driver& driver, Context& context, const CUDA_ARRAY3D_DESCRIPTOR& descriptor,
                     CUarray* handle);

// What kernels will read.
CUresult DescribeTexture(Driver& driver, const CUDA_RESOURCE_DESC& resource,
                         const CUDA_TEXTURE_DESC& texture, TextureState* state);
CUresult DescribeSurface(Driver& driver, const CUDA_RESOURCE_DESC& resource, TextureState* state);

// Withdraws the textures and surfaces of a context that ends, and forgets its arrays.
void ForgetTextures(Driver& driver, std::uint64_t context);

}  // namespace farwarp::softgpu
