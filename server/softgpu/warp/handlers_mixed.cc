// Operations whose operands have several shapes: sums of f32 and 16-bit floats, pairs of f32, pairs
// of 16-bit integers, and minima of three f32.
#include <algorithm>
#include <limits>

#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// d = a ± c, with a of 16 bits and c of 32.
template <typename Format, bool minus, bool sat>
void AddMixed(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  ForLanes<float>(warp, ins.d, [=](uint32_t lane) {
    const float sum = minus ? Format::Widen(a[lane]) - b[lane] : Format::Widen(a[lane]) + b[lane];
    return sat ? Clamp01(sum) : sum;
  });
}
// d = a * b + c, with a and b of 16 bits.
template <typename Format, bool sat>
void FmaMixed(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const uint16_t* const b = warp.Reg<uint16_t>(ins.b);
  const float* const c = warp.Reg<float>(ins.c);
  ForLanes<float>(warp, ins.d, [=](uint32_t lane) {
    const float sum = __builtin_fmaf(Format::Widen(a[lane]), Format::Widen(b[lane]), c[lane]);
    return sat ? Clamp01(sum) : sum;
  });
}
template <typename Format, bool sat>
Handler MixedOf(const Instruction& i) {
  const int rounding = RoundingOf(i);
  if (i.opcode == Opcode::kAdd) return RoundedBy<AddMixed<Format, false, sat>>(rounding);
  if (i.opcode == Opcode::kSub) return RoundedBy<AddMixed<Format, true, sat>>(rounding);
  return i.opcode == Opcode::kFma ? RoundedBy<FmaMixed<Format, sat>>(rounding) : nullptr;
}

enum class Pairwise { kAdd, kSub, kMul, kFma };

template <Pairwise op, bool ftz>
void FloatPairs(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  const float* const c = op == Pairwise::kFma ? warp.Reg<float>(ins.c) : a;
  float results[2 * kLanes];
#pragma clang loop vectorize(assume_safety)
  for (uint32_t k = 0; k < 2 * kLanes; ++k) {
    const float x = FlushIf(ftz, a[k]);
    const float y = FlushIf(ftz, b[k]);
    const float result = op == Pairwise::kAdd   ? x + y
                         : op == Pairwise::kSub ? x - y
                         : op == Pairwise::kMul ? x * y
                                                : __builtin_fmaf(x, y, FlushIf(ftz, c[k]));
    results[k] = FlushIf(ftz, result);
  }
  ForLanes<uint64_t>(warp, ins.d, [&](uint32_t lane) {
    return uint64_t{std::bit_cast<uint32_t>(results[2 * lane])} |
           uint64_t{std::bit_cast<uint32_t>(results[2 * lane + 1])} << 32;
  });
}
template <Pairwise op>
Handler FloatPairsOf(const Instruction& i) {
  const int rounding = RoundingOf(i);
  return i.Has(Mod::kFtz) ? RoundedBy<FloatPairs<op, true>>(rounding)
                          : RoundedBy<FloatPairs<op, false>>(rounding);
}

// min and max of f32 with .xorsign.abs, and of three operands.
template <bool maximum, bool nan>
inline float Better(float a, float b) {
  const bool a_nan = a != a;
  const bool b_nan = b != b;
  if ((a_nan && b_nan) || (nan && (a_nan || b_nan))) return CanonicalNan();
  if (a_nan) return b;
  if (b_nan) return a;
  if (a == b) return std::signbit(a) != maximum ? a : b;
  return (maximum ? a > b : a < b) ? a : b;
}
template <bool maximum, bool nan, bool ftz>
void MinMaxXorsign(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  ForLanes<float>(warp, ins.d, [=](uint32_t lane) {
    const float x = FlushIf(ftz, a[lane]);
    const float y = FlushIf(ftz, b[lane]);
    const float best = Better<maximum, nan>(std::fabs(x), std::fabs(y));
    if (best != best) return CanonicalNan();
    return std::signbit(x) != std::signbit(y) ? -best : best;
  });
}
template <bool maximum, bool nan, bool ftz, bool magnitude>
void MinMaxOfThree(Warp& warp, const Ins& ins) {
  const float* const a = warp.Reg<float>(ins.a);
  const float* const b = warp.Reg<float>(ins.b);
  const float* const c = warp.Reg<float>(ins.c);
  ForLanes<float>(warp, ins.d, [=](uint32_t lane) {
    const auto in = [](float x) {
      const float y = FlushIf(ftz, x);
      return magnitude ? std::fabs(y) : y;
    };
    return Better<maximum, nan>(Better<maximum, nan>(in(a[lane]), in(b[lane])), in(c[lane]));
  });
}
template <bool maximum, bool nan, bool ftz>
Handler ExtendedMinMax(const Instruction& i) {
  if (i.operands.size() == 4)
    return i.Has(Mod::kAbs) ? MinMaxOfThree<maximum, nan, ftz, true>
                            : MinMaxOfThree<maximum, nan, ftz, false>;
  return MinMaxXorsign<maximum, nan, ftz>;
}

enum class PairOp { kAdd, kMin, kMax };

template <typename T, PairOp op, bool relu>
void IntegerPairs(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  const auto one = [=](uint32_t k) {
    T result = op == PairOp::kAdd   ? static_cast<T>(a[k] + b[k])
               : op == PairOp::kMin ? std::min(a[k], b[k])
                                    : std::max(a[k], b[k]);
    if (relu) result = std::max(result, T{0});
    return static_cast<uint32_t>(static_cast<uint16_t>(result));
  };
  ForLanes<uint32_t>(warp, ins.d,
                     [=](uint32_t lane) { return one(2 * lane) | one(2 * lane + 1) << 16; });
}
template <PairOp op>
Handler IntegerPairsOf(const Instruction& i) {
  if (i.Has(Mod::kRelu))
    return i.type() == Type::kS16x2 ? IntegerPairs<int16_t, op, true> : nullptr;
  return i.type() == Type::kS16x2 ? IntegerPairs<int16_t, op, false>
                                  : IntegerPairs<uint16_t, op, false>;
}

template <bool maximum>
void MinMaxRelu(Warp& warp, const Ins& ins) {
  const int32_t* const a = warp.Reg<int32_t>(ins.a);
  const int32_t* const b = warp.Reg<int32_t>(ins.b);
  ForLanes<int32_t>(warp, ins.d, [=](uint32_t lane) {
    return std::max(0, maximum ? std::max(a[lane], b[lane]) : std::min(a[lane], b[lane]));
  });
}

}  // namespace

Handler FindMixedPrecision(const Instruction& i) {
  const bool sat = i.Has(Mod::kSat);
  if (i.types[0] != Type::kF32 || i.Has(Mod::kFtz)) return nullptr;
  if (i.types[1] == Type::kF16)
    return sat ? MixedOf<F16Format, true>(i) : MixedOf<F16Format, false>(i);
  if (i.types[1] == Type::kBf16)
    return sat ? MixedOf<Bf16Format, true>(i) : MixedOf<Bf16Format, false>(i);
  return nullptr;
}

Handler FindFloatPairs(const Instruction& i) {
  if (i.Has(Mod::kSat)) return nullptr;
  switch (i.opcode) {
    case Opcode::kAdd:
      return FloatPairsOf<Pairwise::kAdd>(i);
    case Opcode::kSub:
      return FloatPairsOf<Pairwise::kSub>(i);
    case Opcode::kMul:
      return FloatPairsOf<Pairwise::kMul>(i);
    case Opcode::kFma:
      return FloatPairsOf<Pairwise::kFma>(i);
    default:
      return nullptr;
  }
}

Handler FindExtendedMinMax(const Instruction& i) {
  const bool nan = i.Has(Mod::kNanProp);
  const bool ftz = i.Has(Mod::kFtz);
  const auto of = [&]<bool maximum>() -> Handler {
    if (nan)
      return ftz ? ExtendedMinMax<maximum, true, true>(i) : ExtendedMinMax<maximum, true, false>(i);
    return ftz ? ExtendedMinMax<maximum, false, true>(i) : ExtendedMinMax<maximum, false, false>(i);
  };
  return i.opcode == Opcode::kMax ? of.operator()<true>() : of.operator()<false>();
}

Handler FindIntegerPairs(const Instruction& i) {
  switch (i.opcode) {
    case Opcode::kAdd:
      return IntegerPairsOf<PairOp::kAdd>(i);
    case Opcode::kMin:
      return IntegerPairsOf<PairOp::kMin>(i);
    case Opcode::kMax:
      return IntegerPairsOf<PairOp::kMax>(i);
    default:
      return nullptr;
  }
}

Handler FindReluMinMax(const Instruction& i) {
  if (i.type() != Type::kS32) return nullptr;
  return i.opcode == Opcode::kMax ? MinMaxRelu<true> : MinMaxRelu<false>;
}

}  // namespace farwarp::softgpu
