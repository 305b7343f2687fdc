// What the decoder tells the texture and surface handlers about an instruction: Ins::imm. One value
// per instruction; slots are coordinates, then offsets of texels, then the data's registers; a is
// the register with the texture's or surface's number.
#pragma once

#include <bit>
#include <cstdint>

#include "server/softgpu/warp/texture_sample.h"

namespace farwarp::softgpu {

enum class TextureData : uint8_t { kF32, kInteger, kF16, kF16x2 };

struct TextureForm {
  TextureShape shape = TextureShape::k2d;
  bool integers = false;  // Coordinates are s32.
  TextureData data = TextureData::kF32;
  bool gather = false;
  uint8_t component = 0;  // Of a gather.
  bool offsets = false;   // One for each coordinate but the layer.
  uint8_t padding[2] = {0, 0};
};

enum class OutOfRange : uint8_t { kTrap, kClamp, kZero };
enum class SurfaceOp : uint8_t { kNone, kAdd, kMin, kMax, kAnd, kOr };

struct SurfaceForm {
  TextureShape shape = TextureShape::k2d;
  OutOfRange out_of_range = OutOfRange::kTrap;
  uint8_t bytes = 4;  // Of one element.
  uint8_t count = 1;  // Elements.
  uint8_t register_bytes = 4;
  bool formatted = false;  // x counts texels, and the format converts.
  SurfaceOp op = SurfaceOp::kNone;
  bool is_signed = false;
};

enum class TextureQuery : uint8_t {
  kWidth,
  kHeight,
  kDepth,
  kChannelType,
  kChannelOrder,
  kNormalized,
  kLayers,
  kLevels,
  kSamples,
  kFilter,
  kAddress0,
  kAddress1,
  kAddress2,
  kUnnormalized,
  kLayout,
};

static_assert(sizeof(TextureForm) == 8 && sizeof(SurfaceForm) == 8);
template <typename Form>
uint64_t PackForm(const Form& form) {
  return std::bit_cast<uint64_t>(form);
}

}  // namespace farwarp::softgpu
