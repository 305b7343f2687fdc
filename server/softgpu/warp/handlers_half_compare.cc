// Comparisons of pairs of 16-bit floats: setp gives one predicate per half, set one value per half.
#include "server/softgpu/warp/compare.h"
#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

struct Halves {
  uint32_t low = 0;  // A bit per lane.
  uint32_t high = 0;
};

template <Compare op, typename Format, bool ftz>
Halves CompareHalves(Warp& warp, const Ins& ins) {
  const uint16_t* const a = warp.Reg<uint16_t>(ins.a);
  const uint16_t* const b = warp.Reg<uint16_t>(ins.b);
  const auto value = [](uint16_t bits) {
    return Format::Widen(ftz ? FlushHalf<Format>(bits) : bits);
  };
  Halves result;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t k = 2 * lane;
    if (Holds<op, float>(value(a[k]), value(b[k]))) result.low |= 1u << lane;
    if (Holds<op, float>(value(a[k + 1]), value(b[k + 1]))) result.high |= 1u << lane;
  }
  if (ins.c != kNoSlot) {
    const uint32_t c = *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
    result.low = Combined(ins.target, result.low, c);
    result.high = Combined(ins.target, result.high, c);
  }
  return result;
}

// d: low halves, e: high halves; either may be kNoSlot.
template <Compare op, typename Format, bool ftz>
void SetPredicates(Warp& warp, const Ins& ins) {
  const Halves result = CompareHalves<op, Format, ftz>(warp, ins);
  if (ins.d != kNoSlot) StorePredicate(warp, ins.d, result.low);
  if (ins.e != kNoSlot) StorePredicate(warp, ins.e, result.high);
}
// imm >> 32: what stands for true in each half.
template <Compare op, typename Format, bool ftz>
void SetValues(Warp& warp, const Ins& ins) {
  const Halves result = CompareHalves<op, Format, ftz>(warp, ins);
  const auto yes = static_cast<uint32_t>(ins.imm >> 32) & 0xffff;
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    return ((result.low >> lane & 1) != 0 ? yes : 0u) |
           ((result.high >> lane & 1) != 0 ? yes << 16 : 0u);
  });
}

}  // namespace

Handler FindHalfPairCompare(const Instruction& i, Type compared) {
  const bool value = i.opcode == Opcode::kSet;
  const bool ftz = i.Has(Mod::kFtz);
  const bool brain = compared == Type::kBf16x2;
  if (brain && ftz) return nullptr;
  return WithComparison(i, [&]<Compare op>() -> Handler {
    if (brain)
      return value ? SetValues<op, Bf16Format, false> : SetPredicates<op, Bf16Format, false>;
    if (ftz) return value ? SetValues<op, F16Format, true> : SetPredicates<op, F16Format, true>;
    return value ? SetValues<op, F16Format, false> : SetPredicates<op, F16Format, false>;
  });
}

}  // namespace farwarp::softgpu
