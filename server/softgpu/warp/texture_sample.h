// How texels become the values that texture instructions return: addressing, filtering and the
// conversion of formats, as the CUDA programming guide's appendix on texture fetching has it.
//
// Coordinates are turned into texels in f64, exactly; the weights of linear filtering have eight
// fractional bits, and the sum of the weighted texels is rounded once. Handlers and the functions
// here hold nothing that needs releasing: a read may end in a fault.
#pragma once

#include <cstdint>

#include "server/softgpu/memory/texture.h"

namespace farwarp::softgpu {

// Four components, as floats or as integers (bit patterns of 32 bits).
struct Texel {
  uint32_t bits[4];
};

enum class TextureShape : uint8_t { k1d, k2d, k3d, kA1d, kA2d, kCube, kACube };
// How many coordinates a shape has, the layer included.
constexpr uint32_t CoordinatesOf(TextureShape shape) {
  switch (shape) {
    case TextureShape::k1d:
      return 1;
    case TextureShape::k2d:
    case TextureShape::kA1d:
      return 2;
    case TextureShape::k3d:
    case TextureShape::kA2d:
    case TextureShape::kCube:
      return 3;
    case TextureShape::kACube:
      return 4;
  }
  return 1;
}

// Whether an instruction may read the texture as that shape. As devices do, all is allowed that has
// a meaning: the first row of an image, the first layer of many, layers as a volume.
constexpr bool ShapeFits(const TextureState& state, TextureShape shape) {
  const bool faces = shape == TextureShape::kCube || shape == TextureShape::kACube;
  return !faces || state.cube;
}

struct TexturePoint {
  TextureShape shape = TextureShape::k2d;
  bool integers = false;          // Coordinates count texels: `i`, else `f`.
  float f[3] = {0, 0, 0};         // Without the layer.
  int32_t i[3] = {0, 0, 0};       // Without the layer.
  uint32_t layer = 0;             // Of layered shapes.
  int32_t offset[3] = {0, 0, 0};  // Texels to add.
};

// A fetch. `as_float`: the instruction wants floats.
Texel Sample(const TextureState& state, const TexturePoint& point, bool as_float);
// Component `component` of the four texels that linear filtering would weigh: (0, 1), (1, 1),
// (1, 0), (0, 0).
Texel Gather(const TextureState& state, const TexturePoint& point, bool as_float,
             uint32_t component);

// Whether integers become floats when they are read.
bool ReadsFloats(const TextureState& state);

// Channel data type and order as kernels see them.
uint32_t ChannelTypeCode(const TextureState& state);
uint32_t ChannelOrderCode(const TextureState& state);

}  // namespace farwarp::softgpu
