// Comparisons: setp (predicates), set (values), slct, testp.
#include "server/softgpu/warp/compare.h"
#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

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

// d: result, e: its complement under the same combination (p|q), or kNoSlot. imm & 1: c is negated.
template <Compare op, typename T, bool ftz>
void SetPredicate(Warp& warp, const Ins& ins) {
  const uint32_t result = CompareLanes<op, T, ftz>(warp, ins);
  const uint32_t c =
      ins.c == kNoSlot ? 0 : *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
  if (ins.d != kNoSlot) StorePredicate(warp, ins.d, Combined(ins.target, result, c));
  if (ins.e != kNoSlot) StorePredicate(warp, ins.e, Combined(ins.target, ~result, c));
}
// set: imm >> 32 stands for true; imm & 2: the result has 16 bits.
template <Compare op, typename T, bool ftz>
void SetValue(Warp& warp, const Ins& ins) {
  uint32_t result = CompareLanes<op, T, ftz>(warp, ins);
  const uint32_t c =
      ins.c == kNoSlot ? 0 : *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
  result = Combined(ins.target, result, c);
  const auto yes = static_cast<uint32_t>(ins.imm >> 32);
  if ((ins.imm & 2) != 0) {
    ForLanes<uint16_t>(warp, ins.d, [=](uint32_t lane) {
      return static_cast<uint16_t>((result >> lane & 1) != 0 ? yes : 0u);
    });
    return;
  }
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
      return i.Has(Mod::kFtz) ? FARWARP_PICK(Half, true) : FARWARP_PICK(Half, false);
    case Type::kBf16:
      return i.Has(Mod::kFtz) ? nullptr : FARWARP_PICK(Bf16, false);
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
  if (type == Type::kF16x2 || type == Type::kBf16x2) return FindHalfPairCompare(i, type);
  return WithComparison(i, [&]<Compare op>() { return OfType<op, value>(i, type); });
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
      if (i.type_count != 2 || TypeBytes(i.types[0]) > 4) return nullptr;
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
