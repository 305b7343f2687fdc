// Comparisons: setp (predicates), set (values), slct, testp.
#include "server/softgpu/warp/float_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

enum class Compare { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };

template <Compare op, typename T>
inline bool Holds(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (op) {
    case Compare::kEq:
      return a == b;
    case Compare::kNe:
      return a != b && !unordered;
    case Compare::kLt:
      return a < b;
    case Compare::kLe:
      return a <= b;
    case Compare::kGt:
      return a > b;
    case Compare::kGe:
      return a >= b;
    case Compare::kEqu:
      return a == b || unordered;
    case Compare::kNeu:
      return a != b || unordered;
    case Compare::kLtu:
      return a < b || unordered;
    case Compare::kLeu:
      return a <= b || unordered;
    case Compare::kGtu:
      return a > b || unordered;
    case Compare::kGeu:
      return a >= b || unordered;
    case Compare::kNum:
      return !unordered;
    case Compare::kNan:
      return unordered;
  }
  return false;
}

template <Compare op, typename T, bool ftz>
inline uint32_t CompareLanes(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  uint32_t bits[kLanes];
#pragma clang loop vectorize(assume_safety)
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    bits[lane] = Holds<op, T>(FlushIf(ftz, a[lane]), FlushIf(ftz, b[lane])) ? 1u << lane : 0;
  }
  uint32_t mask = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) mask |= bits[lane];
  return mask;
}

// How the comparison and the predicate operand c combine: target.
enum Combine : uint32_t { kPlain = 0, kWithAnd, kWithOr, kWithXor };
inline uint32_t Combined(uint32_t how, uint32_t result, uint32_t c) {
  return how == kWithAnd   ? result & c
         : how == kWithOr  ? result | c
         : how == kWithXor ? result ^ c
                           : result;
}

// d: result, e: its complement under the same combination (p|q), or kNoSlot. imm & 1: c is negated.
template <Compare op, typename T, bool ftz>
void SetPredicate(Warp& warp, const Ins& ins) {
  const uint32_t result = CompareLanes<op, T, ftz>(warp, ins);
  const uint32_t c =
      ins.c == kNoSlot ? 0 : *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
  if (ins.d != kNoSlot) StorePredicate(warp, ins.d, Combined(ins.target, result, c));
  if (ins.e != kNoSlot) StorePredicate(warp, ins.e, Combined(ins.target, ~result, c));
}
// set: all ones or 1.0; imm & 2: the result is a float.
template <Compare op, typename T, bool ftz>
void SetValue(Warp& warp, const Ins& ins) {
  uint32_t result = CompareLanes<op, T, ftz>(warp, ins);
  const uint32_t c =
      ins.c == kNoSlot ? 0 : *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
  result = Combined(ins.target, result, c);
  const uint32_t yes = (ins.imm & 2) != 0 ? std::bit_cast<uint32_t>(1.0f) : ~0u;
  ForLanes<uint32_t>(warp, ins.d,
                     [=](uint32_t lane) { return (result >> lane & 1) != 0 ? yes : 0u; });
}

template <Compare op, bool value>
Handler OfType(const Instruction& i, Type type) {
#define FARWARP_PICK(T, ftz) (value ? SetValue<op, T, ftz> : SetPredicate<op, T, ftz>)
  switch (type) {
    case Type::kU16:
    case Type::kB16:
      return FARWARP_PICK(uint16_t, false);
    case Type::kS16:
      return FARWARP_PICK(int16_t, false);
    case Type::kU32:
    case Type::kB32:
      return FARWARP_PICK(uint32_t, false);
    case Type::kS32:
      return FARWARP_PICK(int32_t, false);
    case Type::kU64:
    case Type::kB64:
      return FARWARP_PICK(uint64_t, false);
    case Type::kS64:
      return FARWARP_PICK(int64_t, false);
    case Type::kF16:
      return FARWARP_PICK(Half, false);
    case Type::kF32:
      return i.Has(Mod::kFtz) ? FARWARP_PICK(float, true) : FARWARP_PICK(float, false);
    case Type::kF64:
      return FARWARP_PICK(double, false);
    default:
      return nullptr;
  }
#undef FARWARP_PICK
}

template <bool value>
Handler ByComparison(const Instruction& i, Type type) {
  if (i.Has(Mod::kEq)) return OfType<Compare::kEq, value>(i, type);
  if (i.Has(Mod::kNe)) return OfType<Compare::kNe, value>(i, type);
  if (i.Has(Mod::kLt) || i.Has(Mod::kLo)) return OfType<Compare::kLt, value>(i, type);
  if (i.Has(Mod::kLe) || i.Has(Mod::kLs)) return OfType<Compare::kLe, value>(i, type);
  if (i.Has(Mod::kGt) || i.Has(Mod::kHi)) return OfType<Compare::kGt, value>(i, type);
  if (i.Has(Mod::kGe) || i.Has(Mod::kHs)) return OfType<Compare::kGe, value>(i, type);
  if (i.Has(Mod::kEqu)) return OfType<Compare::kEqu, value>(i, type);
  if (i.Has(Mod::kNeu)) return OfType<Compare::kNeu, value>(i, type);
  if (i.Has(Mod::kLtu)) return OfType<Compare::kLtu, value>(i, type);
  if (i.Has(Mod::kLeu)) return OfType<Compare::kLeu, value>(i, type);
  if (i.Has(Mod::kGtu)) return OfType<Compare::kGtu, value>(i, type);
  if (i.Has(Mod::kGeu)) return OfType<Compare::kGeu, value>(i, type);
  if (i.Has(Mod::kNum)) return OfType<Compare::kNum, value>(i, type);
  if (i.Has(Mod::kNanTest)) return OfType<Compare::kNan, value>(i, type);
  return nullptr;
}

template <typename T, typename C, bool ftz = false>
void SelectBySign(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  const C* const c = warp.Reg<C>(ins.c);
  ForLanes<T>(warp, ins.d,
              [=](uint32_t lane) { return FlushIf(ftz, c[lane]) >= C{0} ? a[lane] : b[lane]; });
}
Handler SlctOf(const Instruction& i) {
  const bool by_float = i.types[1] == Type::kF32;
  if (by_float && i.Has(Mod::kFtz)) {
    switch (TypeBytes(i.type())) {
      case 2:
        return SelectBySign<uint16_t, float, true>;
      case 4:
        return SelectBySign<uint32_t, float, true>;
      case 8:
        return SelectBySign<uint64_t, float, true>;
      default:
        return nullptr;
    }
  }
  switch (TypeBytes(i.type())) {
    case 2:
      return by_float ? SelectBySign<uint16_t, float> : SelectBySign<uint16_t, int32_t>;
    case 4:
      return by_float ? SelectBySign<uint32_t, float> : SelectBySign<uint32_t, int32_t>;
    case 8:
      return by_float ? SelectBySign<uint64_t, float> : SelectBySign<uint64_t, int32_t>;
    default:
      return nullptr;
  }
}

// target: the class tested.
template <typename T>
void TestProperty(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  uint32_t result = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const int kind = std::fpclassify(a[lane]);
    bool yes = false;
    switch (static_cast<Mod>(ins.target)) {
      case Mod::kFinite:
        yes = kind != FP_NAN && kind != FP_INFINITE;
        break;
      case Mod::kInfinite:
        yes = kind == FP_INFINITE;
        break;
      case Mod::kNumber:
        yes = kind != FP_NAN;
        break;
      case Mod::kNotanumber:
        yes = kind == FP_NAN;
        break;
      case Mod::kNormal:
        yes = kind == FP_NORMAL;
        break;
      case Mod::kSubnormal:
        yes = kind == FP_SUBNORMAL;
        break;
      default:
        break;
    }
    result |= yes ? 1u << lane : 0;
  }
  StorePredicate(warp, ins.d, result);
}

}  // namespace

Handler FindCompare(const Instruction& i) {
  switch (i.opcode) {
    case Opcode::kSetp:
      return ByComparison<false>(i, i.type());
    case Opcode::kSet:
      if (TypeBytes(i.types[0]) != 4 || i.types[0] == Type::kF16x2 || i.types[0] == Type::kBf16x2)
        return nullptr;
      return ByComparison<true>(i, i.types[1]);
    case Opcode::kSlct:
      return SlctOf(i);
    case Opcode::kTestp:
      return i.type() == Type::kF32 ? TestProperty<float> : TestProperty<double>;
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
