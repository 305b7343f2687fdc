// Floating-point arithmetic: f32 and f64 with exact rounding modes; the approximate functions are
// at least as accurate as PTX asks for, but their bits are not a GPU's.
#include "server/softgpu/warp/float_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

struct Add {
  template <typename T>
  static T Run(T a, T b) {
    return a + b;
  }
};
struct Sub {
  template <typename T>
  static T Run(T a, T b) {
    return a - b;
  }
};
struct Mul {
  template <typename T>
  static T Run(T a, T b) {
    return a * b;
  }
};
struct Div {
  template <typename T>
  static T Run(T a, T b) {
    return a / b;
  }
};
struct Fma {
  template <typename T>
  static T Run(T a, T b, T c) {
    if constexpr (sizeof(T) == 4)
      return __builtin_fmaf(a, b, c);
    else
      return __builtin_fma(a, b, c);
  }
};
// The NaN that min and max give when there is no number to give.
template <typename T>
inline T CanonicalNanOf() {
  if constexpr (sizeof(T) == 4)
    return CanonicalNan();
  else
    return std::numeric_limits<T>::quiet_NaN();
}
template <bool nan, bool maximum>
struct MinMax {
  template <typename T>
  static T Run(T a, T b) {
    const bool a_nan = a != a;
    const bool b_nan = b != b;
    if ((nan && (a_nan || b_nan)) || (a_nan && b_nan)) return CanonicalNanOf<T>();
    const bool a_first = maximum ? a > b : a < b;
    // -0 is less than +0: at equality the sign decides.
    const bool tie = a == b && (std::signbit(static_cast<double>(a)) != maximum);
    const T least = a_first || tie ? a : b;
    return a_nan ? b : b_nan ? a : least;
  }
};
struct Abs {
  template <typename T>
  static T Run(T a) {
    return a < T{0} || (a == T{0}) ? (a == T{0} ? T{0} : -a) : a;
  }
};
struct Neg {
  template <typename T>
  static T Run(T a) {
    return -a;
  }
};
struct Sqrt {
  template <typename T>
  static T Run(T a) {
    if constexpr (sizeof(T) == 4)
      return __builtin_sqrtf(a);
    else
      return __builtin_sqrt(a);
  }
};
struct Rcp {
  template <typename T>
  static T Run(T a) {
    return T{1} / a;
  }
};
struct Rsqrt {
  template <typename T>
  static T Run(T a) {
    if constexpr (sizeof(T) == 4)
      return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a)));
    else
      return 1.0 / __builtin_sqrt(a);
  }
};
struct Sin {
  static float Run(float a) { return sinf(a); }
};
struct Cos {
  static float Run(float a) { return cosf(a); }
};
struct Lg2 {
  static float Run(float a) { return log2f(a); }
};
struct Ex2 {
  static float Run(float a) { return exp2f(a); }
};
struct Tanh {
  static float Run(float a) { return tanhf(a); }
};
struct Copysign {
  template <typename T>
  static T Run(T a, T b) {
    if constexpr (sizeof(T) == 4)
      return __builtin_copysignf(b, a);
    else
      return __builtin_copysign(b, a);
  }
};

// An operation with the modifiers that PTX can put around it.
template <typename Op, typename T, bool ftz, bool sat>
struct With {
  static T Finish(T x) { return sat ? Clamp01(FlushIf(ftz, x)) : FlushIf(ftz, x); }
  static T Run(T a) { return Finish(Op::Run(FlushIf(ftz, a))); }
  static T Run(T a, T b) { return Finish(Op::Run(FlushIf(ftz, a), FlushIf(ftz, b))); }
  static T Run(T a, T b, T c) {
    return Finish(Op::Run(FlushIf(ftz, a), FlushIf(ftz, b), FlushIf(ftz, c)));
  }
};

template <typename Op, typename T, bool ftz, bool sat, int arity>
Handler Shape(int rounding) {
  using W = With<Op, T, ftz, sat>;
  if constexpr (arity == 1)
    return RoundedBy<Unary<W, T, T>>(rounding);
  else if constexpr (arity == 2)
    return RoundedBy<Binary<W, T, T, T>>(rounding);
  else
    return RoundedBy<Ternary<W, T, T, T, T>>(rounding);
}
template <typename Op, int arity>
Handler ArithmeticOf(const Instruction& i) {
  const int rounding = RoundingOf(i);
  const bool sat = i.Has(Mod::kSat);
  switch (i.type()) {
    case Type::kF32:
      if (i.Has(Mod::kFtz))
        return sat ? Shape<Op, float, true, true, arity>(rounding)
                   : Shape<Op, float, true, false, arity>(rounding);
      return sat ? Shape<Op, float, false, true, arity>(rounding)
                 : Shape<Op, float, false, false, arity>(rounding);
    case Type::kF64:
      return sat ? nullptr : Shape<Op, double, false, false, arity>(rounding);
    default:
      return nullptr;
  }
}
template <typename Op>
Handler ApproximateOf(const Instruction& i) {
  if (i.type() != Type::kF32) return nullptr;
  return i.Has(Mod::kFtz) ? Unary<With<Op, float, true, false>, float, float>
                          : Unary<With<Op, float, false, false>, float, float>;
}
Handler MinMaxOf(const Instruction& i) {
  if (i.Has(Mod::kRelu)) return nullptr;
  if (i.Has(Mod::kXorsign) || i.operands.size() == 4)
    return i.type() == Type::kF32 ? FindExtendedMinMax(i) : nullptr;
  const bool maximum = i.opcode == Opcode::kMax;
  if (i.Has(Mod::kNanProp))
    return maximum ? ArithmeticOf<MinMax<true, true>, 2>(i)
                   : ArithmeticOf<MinMax<true, false>, 2>(i);
  return maximum ? ArithmeticOf<MinMax<false, true>, 2>(i)
                 : ArithmeticOf<MinMax<false, false>, 2>(i);
}

}  // namespace

Handler FindFloat(const Instruction& i) {
  if (i.type_count == 2) return FindMixedPrecision(i);
  switch (i.type()) {
    case Type::kF16:
    case Type::kF16x2:
    case Type::kBf16:
    case Type::kBf16x2:
      return FindHalf(i);
    case Type::kF32x2:
      return FindFloatPairs(i);
    default:
      break;
  }
  switch (i.opcode) {
    case Opcode::kAdd:
      return ArithmeticOf<Add, 2>(i);
    case Opcode::kSub:
      return ArithmeticOf<Sub, 2>(i);
    case Opcode::kMul:
      return ArithmeticOf<Mul, 2>(i);
    case Opcode::kMad:
    case Opcode::kFma:
      return ArithmeticOf<Fma, 3>(i);
    case Opcode::kDiv:
      return ArithmeticOf<Div, 2>(i);
    case Opcode::kMin:
    case Opcode::kMax:
      return MinMaxOf(i);
    case Opcode::kAbs:
      return ArithmeticOf<Abs, 1>(i);
    case Opcode::kNeg:
      return ArithmeticOf<Neg, 1>(i);
    case Opcode::kSqrt:
      return ArithmeticOf<Sqrt, 1>(i);
    case Opcode::kRcp:
      return ArithmeticOf<Rcp, 1>(i);
    case Opcode::kRsqrt:
      return ArithmeticOf<Rsqrt, 1>(i);
    case Opcode::kSin:
      return ApproximateOf<Sin>(i);
    case Opcode::kCos:
      return ApproximateOf<Cos>(i);
    case Opcode::kLg2:
      return ApproximateOf<Lg2>(i);
    case Opcode::kEx2:
      return ApproximateOf<Ex2>(i);
    case Opcode::kTanh:
      return ApproximateOf<Tanh>(i);
    case Opcode::kCopysign:
      return ArithmeticOf<Copysign, 2>(i);
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
