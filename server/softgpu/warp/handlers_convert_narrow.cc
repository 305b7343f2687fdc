// cvt to tf32, to and from pairs of floats of eight bits and less, and cvt.pack of integers.
#include <algorithm>

#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/narrow_value.h"

namespace farwarp::softgpu {
namespace {

enum : uint32_t { kReluBit = 1, kSatfiniteBit = 2 };

// tf32 is an f32 without its last 13 bits.
constexpr int kTf32Lost = 13;

enum class Tf32Rounding { kNearestEven, kNearestAway, kTowardZero };

template <Tf32Rounding rounding>
void ToTf32(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t how = ins.target;
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    constexpr uint32_t kInfinity = 0x7f800000u;
    constexpr uint32_t kLargest = 0x7f7fe000u;
    const uint32_t bits = a[lane];
    const uint32_t sign = bits & 0x80000000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > kInfinity) return 0x7fffffffu;
    if ((how & kReluBit) != 0 && sign != 0) return 0u;
    if (rounding == Tf32Rounding::kNearestAway && magnitude < kInfinity)
      magnitude = (magnitude + (1u << (kTf32Lost - 1))) & ~((1u << kTf32Lost) - 1);
    else
      magnitude = RoundOff(magnitude, kTf32Lost, rounding == Tf32Rounding::kTowardZero ? 3 : 0);
    if ((how & kSatfiniteBit) != 0) magnitude = std::min(magnitude, kLargest);
    return sign | magnitude;
  });
}

// What a pair's elements are: how many bits each takes, and how numbers become codes and back.
template <const NarrowFormat& format, int bits>
struct Pair {
  static constexpr int kBits = bits;
  static uint32_t From(float value, uint32_t how) {
    return RoundToNarrow(format, value, (how & kReluBit) != 0);
  }
  static float To(uint32_t code) { return WidenNarrow(format, code); }
};
using E4m3 = Pair<kE4m3Format, 8>;
using E5m2 = Pair<kE5m2Format, 8>;
using E2m3 = Pair<kE2m3Format, 8>;
using E3m2 = Pair<kE3m2Format, 8>;
using E2m1 = Pair<kE2m1Format, 4>;

// d = {a, b}, a in the upper half.
template <typename P>
void NarrowTwo(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  ForLanes<uint16_t>(warp, ins.d, [=](uint32_t lane) {
    return static_cast<uint16_t>(P::From(a[lane], ins.target) << P::kBits |
                                 P::From(b[lane], ins.target));
  });
}
template <typename P>
void NarrowHalves(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  ForLanes<uint16_t>(warp, ins.d, [=](uint32_t lane) {
    const uint32_t low = P::From(F16Format::Widen(a[2 * lane]), ins.target);
    const uint32_t high = P::From(F16Format::Widen(a[2 * lane + 1]), ins.target);
    return static_cast<uint16_t>(high << P::kBits | low);
  });
}
template <typename P>
void WidenToHalves(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const bool relu = (ins.target & kReluBit) != 0;
  const auto half = [=](uint32_t code) {
    const uint16_t bits = F16Format::Narrow(P::To(code & ((1u << P::kBits) - 1)));
    return uint32_t{relu && bits != kHalfNan && (bits & 0x8000) != 0 ? uint16_t{0} : bits};
  };
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    return half(a[lane]) | half(uint32_t{a[lane]} >> P::kBits) << 16;
  });
}
template <typename P>
Handler PairOf(const Instruction& i, bool from_narrow) {
  if (from_narrow) return i.types[0] == Type::kF16x2 ? WidenToHalves<P> : nullptr;
  if (!i.Has(Mod::kRn) || !i.Has(Mod::kSatfinite)) return nullptr;
  if (i.types[1] == Type::kF32) return i.operands.size() == 3 ? NarrowTwo<P> : nullptr;
  return i.types[1] == Type::kF16x2 && i.operands.size() == 2 ? NarrowHalves<P> : nullptr;
}

// ue8m0: 2 to the power of code - 127, without sign; 255 is NaN.
template <bool up>
uint32_t ToPowerOfTwo(float value, uint32_t how) {
  const uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0xff;
  uint32_t code = magnitude >> 23;
  // Subnormals lie between 2^-149 and 2^-126; code 0 is 2^-127.
  const bool above = code == 0 ? magnitude > 0x00400000u : (magnitude & 0x007fffffu) != 0;
  if (up && above) ++code;
  return (how & kSatfiniteBit) != 0 ? std::min(code, 0xfeu) : code;
}
template <bool up>
void PowersOfTwo(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  ForLanes<uint16_t>(warp, ins.d, [=](uint32_t lane) {
    return static_cast<uint16_t>(ToPowerOfTwo<up>(a[lane], ins.target) << 8 |
                                 ToPowerOfTwo<up>(b[lane], ins.target));
  });
}
template <bool up>
void PowersOfTwoFromHalves(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  ForLanes<uint16_t>(warp, ins.d, [=](uint32_t lane) {
    const uint32_t low = ToPowerOfTwo<up>(Bf16Format::Widen(a[2 * lane]), ins.target);
    const uint32_t high = ToPowerOfTwo<up>(Bf16Format::Widen(a[2 * lane + 1]), ins.target);
    return static_cast<uint16_t>(high << 8 | low);
  });
}
void PowersOfTwoToHalves(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const auto half = [](uint32_t code) -> uint32_t {
    return code == 0xff ? kHalfNan : code == 0 ? 0x0040u : code << 7;
  };
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    return half(a[lane] & 0xffu) | half(a[lane] >> 8u) << 16;
  });
}
Handler PowersOf(const Instruction& i, bool from_narrow) {
  if (from_narrow) return i.types[0] == Type::kBf16x2 ? PowersOfTwoToHalves : nullptr;
  const bool up = i.Has(Mod::kRp);
  if (!up && !i.Has(Mod::kRz)) return nullptr;
  if (i.types[1] == Type::kF32 && i.operands.size() == 3)
    return up ? PowersOfTwo<true> : PowersOfTwo<false>;
  if (i.types[1] == Type::kBf16x2 && i.operands.size() == 2)
    return up ? PowersOfTwoFromHalves<true> : PowersOfTwoFromHalves<false>;
  return nullptr;
}

// cvt.pack.sat: d = {c's lower bits, a, b}, each of a and b saturated to `bits` bits.
template <bool is_signed, int bits>
void PackSaturated(Warp& warp, const Ins& ins) {
  constexpr int32_t kLow = is_signed ? -(1 << (bits - 1)) : 0;
  constexpr int32_t kHigh = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
  constexpr uint32_t kMask = (1u << bits) - 1;
  const int32_t* const a = warp.Reg<int32_t>(ins.a);
  const int32_t* const b = warp.Reg<int32_t>(ins.b);
  const uint32_t* const c = ins.c == kNoSlot ? nullptr : warp.Reg<uint32_t>(ins.c);
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    const auto part = [=](int32_t value) {
      return static_cast<uint32_t>(std::clamp(value, kLow, kHigh)) & kMask;
    };
    const uint32_t upper = c == nullptr ? 0 : static_cast<uint32_t>(uint64_t{c[lane]} << 2 * bits);
    return upper | part(a[lane]) << bits | part(b[lane]);
  });
}
Handler PackOf(const Instruction& i) {
  if (i.types[1] != Type::kS32 || !i.Has(Mod::kSat)) return nullptr;
  if (i.operands.size() == 3) {
    return i.types[0] == Type::kS16   ? PackSaturated<true, 16>
           : i.types[0] == Type::kU16 ? PackSaturated<false, 16>
                                      : nullptr;
  }
  if (i.operands.size() != 4) return nullptr;
  switch (i.types[0]) {
    case Type::kS8:
      return PackSaturated<true, 8>;
    case Type::kU8:
      return PackSaturated<false, 8>;
    case Type::kS4:
      return PackSaturated<true, 4>;
    case Type::kU4:
      return PackSaturated<false, 4>;
    case Type::kS2:
      return PackSaturated<true, 2>;
    case Type::kU2:
      return PackSaturated<false, 2>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler FindNarrowConvert(const Instruction& i) {
  if (i.Has(Mod::kPack)) return PackOf(i);
  if (i.types[0] == Type::kTf32) {
    if (i.types[1] != Type::kF32) return nullptr;
    return i.Has(Mod::kRna)  ? ToTf32<Tf32Rounding::kNearestAway>
           : i.Has(Mod::kRn) ? ToTf32<Tf32Rounding::kNearestEven>
           : i.Has(Mod::kRz) ? ToTf32<Tf32Rounding::kTowardZero>
                             : nullptr;
  }
  const bool from_narrow = IsNarrowPair(i.types[1]);
  switch (from_narrow ? i.types[1] : i.types[0]) {
    case Type::kE4m3x2:
      return PairOf<E4m3>(i, from_narrow);
    case Type::kE5m2x2:
      return PairOf<E5m2>(i, from_narrow);
    case Type::kE2m3x2:
      return PairOf<E2m3>(i, from_narrow);
    case Type::kE3m2x2:
      return PairOf<E3m2>(i, from_narrow);
    case Type::kE2m1x2:
      return PairOf<E2m1>(i, from_narrow);
    case Type::kUe8m0x2:
      return PowersOf(i, from_narrow);
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
