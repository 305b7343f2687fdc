// Video instructions: a word, two halves or four bytes at a time, saturated, then combined with a
// third operand; and the bit instructions szext, bmsk.wrap, mad24.hi.sat and lop3 with a predicate.
#include <algorithm>

#include "server/softgpu/warp/compare.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/video_form.h"

namespace farwarp::softgpu {
namespace {

// Part `index` of a word cut into parts of `bits` bits, as a number.
inline int64_t Part(uint32_t word, uint32_t bits, uint32_t index, bool is_signed) {
  const uint32_t part = bits == 32 ? word : word >> bits * index & ((1u << bits) - 1);
  if (!is_signed) return part;
  return static_cast<int64_t>(uint64_t{part} << (64 - bits)) >> (64 - bits);
}
inline int64_t Saturated(int64_t value, uint32_t bits, bool is_signed) {
  const int64_t high = (int64_t{1} << (is_signed ? bits - 1 : bits)) - 1;
  return std::clamp(value, is_signed ? -high - 1 : int64_t{0}, high);
}
// What a selector says: how many bits, and which of the parts of that size.
inline int64_t Selected(uint32_t word, VideoPart part, bool is_signed) {
  return Part(word, part.bits, part.index, is_signed);
}

struct Add {
  static int64_t Run(int64_t a, int64_t b) { return a + b; }
};
struct Sub {
  static int64_t Run(int64_t a, int64_t b) { return a - b; }
};
struct Difference {
  static int64_t Run(int64_t a, int64_t b) { return a > b ? a - b : b - a; }
};
struct Min {
  static int64_t Run(int64_t a, int64_t b) { return std::min(a, b); }
};
struct Max {
  static int64_t Run(int64_t a, int64_t b) { return std::max(a, b); }
};
struct Average {
  static int64_t Run(int64_t a, int64_t b) { return (a + b + (a + b >= 0 ? 1 : 0)) >> 1; }
};
template <bool clamp>
struct ShiftLeft {
  // A word shifted by 32 may leave 64 bits; what it saturates to, and its lower word, stay right.
  static int64_t Run(int64_t a, int64_t b) {
    const int64_t amount = clamp ? std::min(b, int64_t{32}) : b & 31;
    if (a > 0x7fffffff && amount == 32) return 0x7fffffff00000000;
    return static_cast<int64_t>(static_cast<uint64_t>(a) << amount);
  }
};
template <bool clamp>
struct ShiftRight {
  static int64_t Run(int64_t a, int64_t b) {
    return a >> (clamp ? std::min(b, int64_t{32}) : b & 31);
  }
};
template <Compare op>
struct Test {
  static int64_t Run(int64_t a, int64_t b) { return Holds<op, int64_t>(a, b) ? 1 : 0; }
};

// One word, or parts of it.
template <typename Op>
void VideoWord(Warp& warp, const Ins& ins) {
  const VideoForm form = VideoForm::From(ins.imm);
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  const uint32_t* const c = ins.c == kNoSlot ? a : warp.Reg<uint32_t>(ins.c);
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) -> uint32_t {
    int64_t value =
        Op::Run(Selected(a[lane], form.a, form.a_signed), Selected(b[lane], form.b, form.b_signed));
    if (form.saturate) value = Saturated(value, form.d.bits, form.d_signed);
    const auto word = static_cast<uint32_t>(value);
    const auto less = [&](uint32_t x, uint32_t y) {
      return form.d_signed ? static_cast<int32_t>(x) < static_cast<int32_t>(y) : x < y;
    };
    switch (form.then) {
      case VideoThen::kAdd:
        return word + c[lane];
      case VideoThen::kMin:
        return less(word, c[lane]) ? word : c[lane];
      case VideoThen::kMax:
        return less(word, c[lane]) ? c[lane] : word;
      case VideoThen::kMerge: {
        if (form.d.bits == 32) return word;
        const uint32_t mask = ((1u << form.d.bits) - 1) << form.d.bits * form.d.index;
        return (c[lane] & ~mask) | (word << form.d.bits * form.d.index & mask);
      }
      case VideoThen::kNothing:
        break;
    }
    return word;
  });
}

// Every half or byte of a word; .add sums them up and adds the third operand.
template <typename Op, uint32_t parts>
void VideoParts(Warp& warp, const Ins& ins) {
  constexpr uint32_t kBits = 32 / parts;
  const VideoForm form = VideoForm::From(ins.imm);
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  const uint32_t* const c = ins.c == kNoSlot ? a : warp.Reg<uint32_t>(ins.c);
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    uint32_t result = form.then == VideoThen::kAdd ? c[lane] : 0;
    for (uint32_t k = 0; k < parts; ++k) {
      int64_t value =
          Op::Run(Part(a[lane], kBits, k, form.a_signed), Part(b[lane], kBits, k, form.b_signed));
      if (form.saturate) value = Saturated(value, kBits, form.d_signed);
      if (form.then == VideoThen::kAdd)
        result += static_cast<uint32_t>(value);
      else
        result |= (static_cast<uint32_t>(value) & ((1u << kBits) - 1)) << kBits * k;
    }
    return result;
  });
}

template <typename Op>
Handler InParts(uint32_t parts) {
  return parts == 1 ? VideoWord<Op> : parts == 2 ? VideoParts<Op, 2> : VideoParts<Op, 4>;
}

template <bool wrap>
void ZeroExtend(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) -> uint32_t {
    const uint32_t bits = wrap ? b[lane] & 31 : std::min(b[lane], 32u);
    return bits == 0 ? 0 : bits == 32 ? a[lane] : a[lane] & ((1u << bits) - 1);
  });
}
template <bool wrap>
void SignExtend(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  ForLanes<int32_t>(warp, ins.d, [=](uint32_t lane) -> int32_t {
    const uint32_t bits = wrap ? b[lane] & 31 : std::min(b[lane], 32u);
    if (bits == 0) return 0;
    return static_cast<int32_t>(a[lane] << (32 - bits)) >> (32 - bits);
  });
}
void MaskWrapped(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  ForLanes<uint32_t>(warp, ins.d,
                     [=](uint32_t lane) { return ((1u << (b[lane] & 31)) - 1) << (a[lane] & 31); });
}
void Mad24HighSaturated(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  const int32_t* const c = warp.Reg<int32_t>(ins.c);
  const auto low = [](uint32_t x) { return int64_t{static_cast<int32_t>(x << 8) >> 8}; };
  ForLanes<int32_t>(warp, ins.d, [=](uint32_t lane) {
    return static_cast<int32_t>(Saturated((low(a[lane]) * low(b[lane]) >> 16) + c[lane], 32, true));
  });
}

}  // namespace

Handler FindVideo(const Instruction& i, uint32_t parts) {
  switch (i.opcode) {
    case Opcode::kVadd:
    case Opcode::kVadd2:
    case Opcode::kVadd4:
      return InParts<Add>(parts);
    case Opcode::kVsub:
    case Opcode::kVsub2:
    case Opcode::kVsub4:
      return InParts<Sub>(parts);
    case Opcode::kVabsdiff:
    case Opcode::kVabsdiff2:
    case Opcode::kVabsdiff4:
      return InParts<Difference>(parts);
    case Opcode::kVmin:
    case Opcode::kVmin2:
    case Opcode::kVmin4:
      return InParts<Min>(parts);
    case Opcode::kVmax:
    case Opcode::kVmax2:
    case Opcode::kVmax4:
      return InParts<Max>(parts);
    case Opcode::kVavrg2:
    case Opcode::kVavrg4:
      return InParts<Average>(parts);
    case Opcode::kVshl:
      return i.Has(Mod::kClamp) ? VideoWord<ShiftLeft<true>> : VideoWord<ShiftLeft<false>>;
    case Opcode::kVshr:
      return i.Has(Mod::kClamp) ? VideoWord<ShiftRight<true>> : VideoWord<ShiftRight<false>>;
    case Opcode::kVset:
    case Opcode::kVset2:
    case Opcode::kVset4:
      return WithComparison(i, [&]<Compare op>() { return InParts<Test<op>>(parts); });
    default:
      return nullptr;
  }
}

Handler FindExtend(const Instruction& i) {
  const bool wrap = i.Has(Mod::kWrap);
  switch (i.opcode) {
    case Opcode::kSzext:
      if (i.type() == Type::kS32) return wrap ? SignExtend<true> : SignExtend<false>;
      return wrap ? ZeroExtend<true> : ZeroExtend<false>;
    case Opcode::kBmsk:
      return wrap ? MaskWrapped : nullptr;
    case Opcode::kMad24:
      return i.type() == Type::kS32 && i.Has(Mod::kHi) ? Mad24HighSaturated : nullptr;
    default:
      return nullptr;
  }
}

void PredicateOfLop3(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t c = *warp.Reg<uint32_t>(ins.c) ^ ((ins.imm & 1) != 0 ? ~0u : 0);
  uint32_t nonzero = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) nonzero |= a[lane] != 0 ? 1u << lane : 0;
  StorePredicate(warp, ins.d, Combined(ins.target, nonzero, c));
}

}  // namespace farwarp::softgpu
