// Arithmetic on 16-bit floats, alone and in pairs: each operation rounds once, as if from the exact
// result. Sums and products go through f32, which holds enough bits for that; fma through f64 and
// rounding to odd.
#include <type_traits>

#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

struct Add {
  template <typename Format>
  static uint16_t Run(uint16_t a, uint16_t b) {
    return Format::Narrow(Format::Widen(a) + Format::Widen(b));
  }
};
struct Sub {
  template <typename Format>
  static uint16_t Run(uint16_t a, uint16_t b) {
    return Format::Narrow(Format::Widen(a) - Format::Widen(b));
  }
};
struct Mul {
  template <typename Format>
  static uint16_t Run(uint16_t a, uint16_t b) {
    return Format::Narrow(Format::Widen(a) * Format::Widen(b));
  }
};
struct Fma {
  template <typename Format>
  static uint16_t Run(uint16_t a, uint16_t b, uint16_t c) {
    const double product =
        static_cast<double>(Format::Widen(a)) * static_cast<double>(Format::Widen(b));
    return Format::Narrow(ToOdd(AddToOdd(product, static_cast<double>(Format::Widen(c)))));
  }
};
struct Abs {
  template <typename Format>
  static uint16_t Run(uint16_t a) {
    return a & 0x7fff;
  }
};
struct Neg {
  template <typename Format>
  static uint16_t Run(uint16_t a) {
    return a ^ 0x8000;
  }
};
struct Ex2 {
  template <typename Format>
  static uint16_t Run(uint16_t a) {
    return Format::Narrow(ToOdd(std::exp2(static_cast<double>(Format::Widen(a)))));
  }
};
struct Tanh {
  template <typename Format>
  static uint16_t Run(uint16_t a) {
    return Format::Narrow(ToOdd(std::tanh(static_cast<double>(Format::Widen(a)))));
  }
};

template <bool maximum, bool nan, bool xorsign>
struct MinMax {
  template <typename Format>
  static uint16_t Run(uint16_t a, uint16_t b) {
    const auto sign = static_cast<uint16_t>((a ^ b) & 0x8000);
    if (xorsign) {
      a &= 0x7fff;
      b &= 0x7fff;
    }
    const float x = Format::Widen(a);
    const float y = Format::Widen(b);
    const bool x_nan = x != x;
    const bool y_nan = y != y;
    const bool a_first = maximum ? x > y : x < y;
    // -0 is less than +0: at equality the sign decides.
    const bool tie = x == y && ((a & 0x8000) != 0) != maximum;
    uint16_t best = a_first || tie ? a : b;
    best = x_nan ? b : y_nan ? a : best;
    if (xorsign) best = static_cast<uint16_t>((best & 0x7fff) | sign);
    return (x_nan && y_nan) || (nan && (x_nan || y_nan)) ? kHalfNan : best;
  }
};

enum class Limit { kNone, kSaturate, kRelu };

// An operation with the modifiers that PTX can put around it.
template <typename Op, typename Format, bool ftz, Limit limit>
struct With {
  static uint16_t In(uint16_t x) { return ftz ? FlushHalf<Format>(x) : x; }
  static uint16_t Out(uint16_t x) {
    if (ftz) x = FlushHalf<Format>(x);
    const bool nan = (x & 0x7fff) > Format::kExponent;
    if (limit == Limit::kSaturate)
      return nan || (x & 0x8000) != 0 ? uint16_t{0} : x > Format::kOne ? Format::kOne : x;
    if (limit == Limit::kRelu) return nan ? kHalfNan : (x & 0x8000) != 0 ? uint16_t{0} : x;
    return x;
  }
  template <typename... Operands>
  static uint16_t Run(Operands... operands) {
    return Out(Op::template Run<Format>(In(operands)...));
  }
};

// f16 and bf16 are 32 of them, pairs are 64.
template <typename W, int arity, bool pairs>
void HalfLanes(Warp& warp, const Ins& ins) {
  constexpr uint32_t kCount = pairs ? 2 * kLanes : kLanes;
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const uint16_t* const b = arity > 1 ? warp.Reg<uint16_t>(ins.b) : a;
  const uint16_t* const c = arity > 2 ? warp.Reg<uint16_t>(ins.c) : a;
  uint16_t results[kCount];
#pragma clang loop vectorize(assume_safety)
  for (uint32_t k = 0; k < kCount; ++k) {
    if constexpr (arity == 1)
      results[k] = W::Run(a[k]);
    else if constexpr (arity == 2)
      results[k] = W::Run(a[k], b[k]);
    else
      results[k] = W::Run(a[k], b[k], c[k]);
  }
  if constexpr (pairs) {
    ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) {
      return results[2 * lane] | uint32_t{results[2 * lane + 1]} << 16;
    });
  } else {
    ForLanes<uint16_t>(warp, ins.d, [&](uint32_t lane) { return results[lane]; });
  }
}

template <typename Op, typename Format, bool ftz, Limit limit, int arity>
Handler Shape(bool pairs) {
  using W = With<Op, Format, ftz, limit>;
  return pairs ? HalfLanes<W, arity, true> : HalfLanes<W, arity, false>;
}
template <typename Op, int arity, bool limits>
Handler OfType(const Instruction& i) {
  const bool pairs = i.type() == Type::kF16x2 || i.type() == Type::kBf16x2;
  const bool ftz = i.Has(Mod::kFtz);
  if (i.type() == Type::kBf16 || i.type() == Type::kBf16x2) {
    if (i.Has(Mod::kSat)) return nullptr;
    if (limits && i.Has(Mod::kRelu))
      return Shape<Op, Bf16Format, false, Limit::kRelu, arity>(pairs);
    if (ftz && i.opcode == Opcode::kEx2)
      return Shape<Op, Bf16Format, true, Limit::kNone, arity>(pairs);
    return ftz ? nullptr : Shape<Op, Bf16Format, false, Limit::kNone, arity>(pairs);
  }
  if constexpr (limits) {
    if (i.Has(Mod::kSat))
      return ftz ? Shape<Op, F16Format, true, Limit::kSaturate, arity>(pairs)
                 : Shape<Op, F16Format, false, Limit::kSaturate, arity>(pairs);
    if (i.Has(Mod::kRelu))
      return ftz ? Shape<Op, F16Format, true, Limit::kRelu, arity>(pairs)
                 : Shape<Op, F16Format, false, Limit::kRelu, arity>(pairs);
  }
  return ftz ? Shape<Op, F16Format, true, Limit::kNone, arity>(pairs)
             : Shape<Op, F16Format, false, Limit::kNone, arity>(pairs);
}

template <bool maximum>
Handler MinMaxOf(const Instruction& i) {
  if (i.operands.size() != 3) return nullptr;
  if (i.Has(Mod::kNanProp))
    return i.Has(Mod::kXorsign) ? OfType<MinMax<maximum, true, true>, 2, false>(i)
                                : OfType<MinMax<maximum, true, false>, 2, false>(i);
  return i.Has(Mod::kXorsign) ? OfType<MinMax<maximum, false, true>, 2, false>(i)
                              : OfType<MinMax<maximum, false, false>, 2, false>(i);
}

}  // namespace

Handler FindHalf(const Instruction& i) {
  if (i.Has(Mod::kOob) || i.Has(Mod::kRz) || i.Has(Mod::kRm) || i.Has(Mod::kRp)) return nullptr;
  switch (i.opcode) {
    case Opcode::kAdd:
      return OfType<Add, 2, true>(i);
    case Opcode::kSub:
      return OfType<Sub, 2, true>(i);
    case Opcode::kMul:
      return OfType<Mul, 2, true>(i);
    case Opcode::kFma:
      return OfType<Fma, 3, true>(i);
    case Opcode::kAbs:
      return OfType<Abs, 1, false>(i);
    case Opcode::kNeg:
      return OfType<Neg, 1, false>(i);
    case Opcode::kMin:
      return MinMaxOf<false>(i);
    case Opcode::kMax:
      return MinMaxOf<true>(i);
    case Opcode::kEx2:
      return OfType<Ex2, 1, false>(i);
    case Opcode::kTanh:
      return OfType<Tanh, 1, false>(i);
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
