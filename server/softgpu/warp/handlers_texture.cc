// tex, tld4, txq, suq: reads through texture numbers. Lanes are served one by one; those that
// follow each other with the same number share what it stands for.
#include <bit>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/texture_form.h"
#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {
namespace {

// What the last lane's number stood for.
class Current {
 public:
  explicit Current(const TextureTable& table) : table_(table) {}
  const TextureState& Of(Warp& warp, uint64_t handle, uint32_t lane) {
    if (known_ && handle == handle_) return state_;
    if (!table_.Read(handle, &state_))
      RaiseFault(warp, FaultKind::kIllegalAddress, handle, 1u << lane,
                 "no such texture or surface");
    handle_ = handle;
    known_ = true;
    return state_;
  }

 private:
  const TextureTable& table_;
  TextureState state_;
  uint64_t handle_ = 0;
  bool known_ = false;
};

TexturePoint PointOf(Warp& warp, const TextureForm& form, const uint32_t* slots, uint32_t lane) {
  TexturePoint point;
  point.shape = form.shape;
  point.integers = form.integers;
  const bool layered = form.shape == TextureShape::kA1d || form.shape == TextureShape::kA2d ||
                       form.shape == TextureShape::kACube;
  if (layered) point.layer = warp.Reg<uint32_t>(*slots++)[lane];
  const uint32_t count = CoordinatesOf(form.shape) - (layered ? 1 : 0);
  for (uint32_t k = 0; k < count; ++k) {
    const uint32_t bits = warp.Reg<uint32_t>(slots[k])[lane];
    point.i[k] = static_cast<int32_t>(bits);
    point.f[k] = std::bit_cast<float>(bits);
  }
  if (!form.offsets) return point;
  for (uint32_t k = 0; k < count; ++k) point.offset[k] = warp.Reg<int32_t>(slots[count + k])[lane];
  return point;
}

uint16_t HalfOf(uint32_t bits) {
  return std::bit_cast<uint16_t>(static_cast<_Float16>(std::bit_cast<float>(bits)));
}

void StoreTexel(Warp& warp, TextureData data, const Texel& texel, const uint32_t* slots,
                uint32_t lane) {
  if (data == TextureData::kF16x2) {
    for (uint32_t k = 0; k < 2; ++k)
      warp.Reg<uint32_t>(slots[k])[lane] =
          uint32_t{HalfOf(texel.bits[2 * k])} | uint32_t{HalfOf(texel.bits[2 * k + 1])} << 16;
    return;
  }
  for (uint32_t k = 0; k < 4; ++k) {
    if (data == TextureData::kF16) {
      warp.Reg<uint16_t>(slots[k])[lane] = HalfOf(texel.bits[k]);
    } else {
      warp.Reg<uint32_t>(slots[k])[lane] = texel.bits[k];
    }
  }
}

uint32_t Answer(const TextureState& state, TextureQuery query) {
  switch (query) {
    case TextureQuery::kWidth:
      return state.width;
    case TextureQuery::kHeight:
      return state.height;
    case TextureQuery::kDepth:
      return state.layered || state.cube ? 0 : state.depth;
    case TextureQuery::kChannelType:
      return ChannelTypeCode(state);
    case TextureQuery::kChannelOrder:
      return ChannelOrderCode(state);
    case TextureQuery::kNormalized:
      return state.normalized_coordinates ? 1 : 0;
    case TextureQuery::kUnnormalized:
      return state.normalized_coordinates ? 0 : 1;
    case TextureQuery::kLayers:
      return !state.layered ? 0 : state.cube ? state.depth / 6 : state.depth;
    case TextureQuery::kLevels:
    case TextureQuery::kSamples:
      return 1;
    case TextureQuery::kFilter:
      return state.linear_filter ? 1 : 0;
    case TextureQuery::kAddress0:
    case TextureQuery::kAddress1:
    case TextureQuery::kAddress2: {
      // PTX numbers them: wrap, mirror, clamp_ogl, clamp_to_edge, clamp_to_border.
      constexpr uint32_t kCodes[] = {0, 3, 1, 4};
      const auto axis =
          static_cast<uint32_t>(query) - static_cast<uint32_t>(TextureQuery::kAddress0);
      return kCodes[static_cast<uint32_t>(state.address[axis])];
    }
    case TextureQuery::kLayout:
      return 0;
  }
  return 0;
}

void QueryOf(Warp& warp, const Ins& ins, const TextureTable& table) {
  Current current(table);
  const uint64_t* const handles = warp.Reg<uint64_t>(ins.a);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const uint32_t answer =
        Answer(current.Of(warp, handles[lane], lane), static_cast<TextureQuery>(ins.imm));
    warp.Reg<uint32_t>(ins.d)[lane] = answer;
  }
}

}  // namespace

void TextureFetch(Warp& warp, const Ins& ins) {
  const auto form = std::bit_cast<TextureForm>(ins.imm);
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  const uint32_t* const results = slots + ins.target;
  const bool as_float = form.data != TextureData::kInteger;
  const uint64_t* const handles = warp.Reg<uint64_t>(ins.a);
  Current current(TextureTable::Textures());
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const TextureState& state = current.Of(warp, handles[lane], lane);
    if (!ShapeFits(state, form.shape))
      RaiseFault(warp, FaultKind::kIllegalAddress, handles[lane], 1u << lane,
                 "the texture is no cubemap");
    const TexturePoint point = PointOf(warp, form, slots, lane);
    const Texel texel = form.gather ? Gather(state, point, as_float, form.component)
                                    : Sample(state, point, as_float);
    StoreTexel(warp, form.data, texel, results, lane);
  }
}

void QueryTexture(Warp& warp, const Ins& ins) {
  QueryOf(warp, ins, TextureTable::Textures());
}
void QuerySurface(Warp& warp, const Ins& ins) {
  QueryOf(warp, ins, TextureTable::Surfaces());
}

}  // namespace farwarp::softgpu
