// Integer arithmetic and bit operations.
#include <bit>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

template <typename T>
using Unsigned = std::make_unsigned_t<T>;
template <typename T>
struct WiderOf;
template <>
struct WiderOf<int16_t> {
  using type = int32_t;
};
template <>
struct WiderOf<uint16_t> {
  using type = uint32_t;
};
template <>
struct WiderOf<int32_t> {
  using type = int64_t;
};
template <>
struct WiderOf<uint32_t> {
  using type = uint64_t;
};
template <>
struct WiderOf<int64_t> {
  using type = __int128;
};
template <>
struct WiderOf<uint64_t> {
  using type = unsigned __int128;
};
template <typename T>
using Wider = typename WiderOf<T>::type;

// Wrapping arithmetic, whatever the sign.
template <typename T>
T Plus(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <typename T>
T Minus(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <typename T>
T Times(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(static_cast<Unsigned<T>>(a)) *
                        static_cast<uint64_t>(static_cast<Unsigned<T>>(b)));
}
template <typename T>
T High(T a, T b) {
  return static_cast<T>((static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b)) >> (8 * sizeof(T)));
}
inline int32_t Saturate(int64_t v) {
  return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : static_cast<int32_t>(v);
}

struct Add {
  template <typename T>
  static T Run(T a, T b) {
    return Plus(a, b);
  }
};
struct AddSat {
  static int32_t Run(int32_t a, int32_t b) { return Saturate(int64_t{a} + b); }
};
struct Sub {
  template <typename T>
  static T Run(T a, T b) {
    return Minus(a, b);
  }
};
struct SubSat {
  static int32_t Run(int32_t a, int32_t b) { return Saturate(int64_t{a} - b); }
};
struct MulLo {
  template <typename T>
  static T Run(T a, T b) {
    return Times(a, b);
  }
};
struct MulHi {
  template <typename T>
  static T Run(T a, T b) {
    return High(a, b);
  }
};
struct MulWide {
  template <typename T>
  static Wider<T> Run(T a, T b) {
    return static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b);
  }
};
struct MadLo {
  template <typename T>
  static T Run(T a, T b, T c) {
    return Plus(Times(a, b), c);
  }
};
struct MadHi {
  template <typename T>
  static T Run(T a, T b, T c) {
    return Plus(High(a, b), c);
  }
};
struct MadHiSat {
  static int32_t Run(int32_t a, int32_t b, int32_t c) { return Saturate(int64_t{High(a, b)} + c); }
};
struct MadWide {
  template <typename T>
  static Wider<T> Run(T a, T b, Wider<T> c) {
    return Plus(static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b), c);
  }
};
// 24-bit multiplication: operands are the low 24 bits; .hi is bits 47..16 of the product.
template <typename T>
int64_t Product24(T a, T b) {
  if constexpr (std::is_signed_v<T>) return int64_t{a << 8 >> 8} * (b << 8 >> 8);
  return static_cast<int64_t>((static_cast<uint64_t>(a) & 0xffffff) *
                              (static_cast<uint64_t>(b) & 0xffffff));
}
struct Mul24Lo {
  template <typename T>
  static T Run(T a, T b) {
    return static_cast<T>(Product24(a, b));
  }
};
struct Mul24Hi {
  template <typename T>
  static T Run(T a, T b) {
    return static_cast<T>(Product24(a, b) >> 16);
  }
};
struct Mad24Lo {
  template <typename T>
  static T Run(T a, T b, T c) {
    return Plus(static_cast<T>(Product24(a, b)), c);
  }
};
struct Mad24Hi {
  template <typename T>
  static T Run(T a, T b, T c) {
    return Plus(static_cast<T>(Product24(a, b) >> 16), c);
  }
};
// Division by zero is unspecified in PTX; hardware gives all ones, and so do we.
struct Div {
  template <typename T>
  static T Run(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Minus<T>(0, a);
    }
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <typename T>
  static T Run(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
struct Abs {
  template <typename T>
  static T Run(T a) {
    return a < 0 ? Minus<T>(0, a) : a;
  }
};
struct Neg {
  template <typename T>
  static T Run(T a) {
    return Minus<T>(0, a);
  }
};
struct Min {
  template <typename T>
  static T Run(T a, T b) {
    return a < b ? a : b;
  }
};
struct Max {
  template <typename T>
  static T Run(T a, T b) {
    return a > b ? a : b;
  }
};
struct Sad {
  template <typename T>
  static T Run(T a, T b, T c) {
    return Plus(c, a < b ? Minus(b, a) : Minus(a, b));
  }
};
struct Popc {
  template <typename T>
  static uint32_t Run(T a) {
    return static_cast<uint32_t>(std::popcount(a));
  }
};
struct Clz {
  template <typename T>
  static uint32_t Run(T a) {
    return static_cast<uint32_t>(std::countl_zero(a));
  }
};
template <bool shift>
struct Bfind {
  template <typename T>
  static uint32_t Run(T a) {
    const auto u = static_cast<Unsigned<T>>(std::is_signed_v<T> && a < 0 ? static_cast<T>(~a) : a);
    if (u == 0) return ~0u;
    const auto leading = static_cast<uint32_t>(std::countl_zero(u));
    return shift ? leading : static_cast<uint32_t>(8 * sizeof(T) - 1) - leading;
  }
};
struct Brev {
  template <typename T>
  static T Run(T a) {
    if constexpr (sizeof(T) == 8) return __builtin_bitreverse64(a);
    return static_cast<T>(__builtin_bitreverse32(static_cast<uint32_t>(a)));
  }
};
struct Bfe {
  template <typename T>
  static T Run(T a, uint32_t position, uint32_t length) {
    constexpr uint32_t kBits = 8 * sizeof(T);
    position &= 0xff;
    length &= 0xff;
    if (length == 0) return 0;
    const uint32_t last = position + length - 1;
    const bool sign = std::is_signed_v<T> &&
                      (static_cast<Unsigned<T>>(a) >> (last < kBits ? last : kBits - 1) & 1) != 0;
    const Unsigned<T> shifted =
        position < kBits ? static_cast<Unsigned<T>>(static_cast<Unsigned<T>>(a) >> position) : 0;
    const uint32_t available = position < kBits ? kBits - position : 0;
    const uint32_t kept = length < available ? length : available;
    const Unsigned<T> mask = kept >= kBits ? static_cast<Unsigned<T>>(-1)
                                           : static_cast<Unsigned<T>>((Unsigned<T>{1} << kept) - 1);
    return static_cast<T>((shifted & mask) |
                          (sign ? static_cast<Unsigned<T>>(~mask) : Unsigned<T>{0}));
  }
};
struct Bmsk {
  static uint32_t Run(uint32_t a, uint32_t b) {
    if (a > 31 || b == 0) return 0;
    const uint64_t bits = b >= 32 ? ~uint64_t{0} : (uint64_t{1} << b) - 1;
    return static_cast<uint32_t>(bits << a);
  }
};
// The place of the |offset|-th bit of `mask` from `base` on, upwards or downwards; 0 asks whether
// base itself is set.
struct Fns {
  static uint32_t Run(uint32_t mask, uint32_t base, uint32_t offset) {
    const auto wanted = static_cast<int32_t>(offset);
    const int64_t step = wanted < 0 ? -1 : 1;
    int64_t left = wanted == 0 ? 1 : std::abs(int64_t{wanted});
    for (int64_t at = base; at >= 0 && at < 32; at += step) {
      if ((mask >> at & 1) != 0 && --left == 0) return static_cast<uint32_t>(at);
      if (wanted == 0) break;
    }
    return ~0u;
  }
};
struct Prmt {
  static uint32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t bytes = uint64_t{b} << 32 | a;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t selector = c >> (4 * i) & 15;
      auto byte = static_cast<uint32_t>(bytes >> (8 * (selector & 7))) & 0xff;
      if ((selector & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      result |= byte << (8 * i);
    }
    return result;
  }
};
// The modes of prmt: which byte of b:a each byte of the result is, by the low two bits of c.
template <Mod mode>
struct PrmtMode {
  static uint32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t bytes = uint64_t{b} << 32 | a;
    const uint32_t k = c & 3;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      uint32_t from = k;  // rc8
      if (mode == Mod::kF4e) from = k + i;
      if (mode == Mod::kB4e) from = (k - i) & 7;
      if (mode == Mod::kEcl) from = k > i ? k : i;
      if (mode == Mod::kEcr) from = k < i ? k : i;
      if (mode == Mod::kRc16) from = (k & 1) * 2 + (i & 1);
      result |= (static_cast<uint32_t>(bytes >> (8 * from)) & 0xff) << (8 * i);
    }
    return result;
  }
};
template <Mod mode>
inline constexpr Handler kPrmtMode =
    Ternary<PrmtMode<mode>, uint32_t, uint32_t, uint32_t, uint32_t>;
Handler PrmtOf(const Instruction& i) {
  if (i.Has(Mod::kF4e)) return kPrmtMode<Mod::kF4e>;
  if (i.Has(Mod::kB4e)) return kPrmtMode<Mod::kB4e>;
  if (i.Has(Mod::kRc8)) return kPrmtMode<Mod::kRc8>;
  if (i.Has(Mod::kEcl)) return kPrmtMode<Mod::kEcl>;
  if (i.Has(Mod::kEcr)) return kPrmtMode<Mod::kEcr>;
  if (i.Has(Mod::kRc16)) return kPrmtMode<Mod::kRc16>;
  return Ternary<Prmt, uint32_t, uint32_t, uint32_t, uint32_t>;
}
template <typename A, typename B>
struct Dp4a {
  static int32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t sum = c;
    for (int i = 0; i < 4; ++i)
      sum += static_cast<uint32_t>(int32_t{static_cast<A>(a >> (8 * i))} *
                                   int32_t{static_cast<B>(b >> (8 * i))});
    return static_cast<int32_t>(sum);
  }
};
template <typename A, typename B, bool high>
struct Dp2a {
  static int32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    using A16 = std::conditional_t<std::is_signed_v<A>, int16_t, uint16_t>;
    uint32_t sum = c;
    for (int i = 0; i < 2; ++i) {
      sum += static_cast<uint32_t>(int32_t{static_cast<A16>(a >> (16 * i))} *
                                   int32_t{static_cast<B>(b >> (8 * i + (high ? 16 : 0)))});
    }
    return static_cast<int32_t>(sum);
  }
};

// Carry chains: CC.CF is a bit per lane in the warp. A subtraction is an addition of the
// complement, so that what it leaves is 1 where nothing was borrowed: no difference to subc, but
// compilers read it with addc (the division of 128-bit numbers).
template <typename T, int sign, bool in, bool out>
void AddCarry(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  T* const d = warp.Reg<T>(ins.d);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const unsigned __int128 carry = in ? warp.carry >> lane & 1 : sign < 0;
    const T addend = sign > 0 ? b[lane] : static_cast<T>(~b[lane]);
    const unsigned __int128 sum = static_cast<unsigned __int128>(a[lane]) + addend + carry;
    d[lane] = static_cast<T>(sum);
    if (out) {
      const auto bit = static_cast<uint32_t>(sum >> (8 * sizeof(T)) & 1);
      warp.carry = (warp.carry & ~(1u << lane)) | bit << lane;
    }
  }
}
template <typename T, bool high, bool in, bool out>
void MadCarry(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  const T* const c = warp.Reg<T>(ins.c);
  T* const d = warp.Reg<T>(ins.d);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const T product = high ? High(a[lane], b[lane]) : Times(a[lane], b[lane]);
    const unsigned __int128 u = static_cast<Unsigned<T>>(product);
    const unsigned __int128 sum =
        u + static_cast<Unsigned<T>>(c[lane]) + (in ? warp.carry >> lane & 1 : 0);
    d[lane] = static_cast<T>(sum);
    if (out) {
      const auto bit = static_cast<uint32_t>(sum >> (8 * sizeof(T)) & 1);
      warp.carry = (warp.carry & ~(1u << lane)) | bit << lane;
    }
  }
}

template <typename T, int sign>
Handler PickAddCarry(bool in, bool out) {
  if (in) return out ? AddCarry<T, sign, true, true> : AddCarry<T, sign, true, false>;
  return AddCarry<T, sign, false, true>;
}
template <typename T>
Handler PickMadCarry(bool high, bool in, bool out) {
  if (high)
    return in ? (out ? MadCarry<T, true, true, true> : MadCarry<T, true, true, false>)
              : MadCarry<T, true, false, true>;
  return in ? (out ? MadCarry<T, false, true, true> : MadCarry<T, false, true, false>)
            : MadCarry<T, false, false, true>;
}

template <typename Op>
Handler BinaryOf(Type type) {
  switch (type) {
    case Type::kU16:
      return Binary<Op, uint16_t, uint16_t, uint16_t>;
    case Type::kS16:
      return Binary<Op, int16_t, int16_t, int16_t>;
    case Type::kU32:
      return Binary<Op, uint32_t, uint32_t, uint32_t>;
    case Type::kS32:
      return Binary<Op, int32_t, int32_t, int32_t>;
    case Type::kU64:
      return Binary<Op, uint64_t, uint64_t, uint64_t>;
    case Type::kS64:
      return Binary<Op, int64_t, int64_t, int64_t>;
    default:
      return nullptr;
  }
}
template <typename Op>
Handler TernaryOf(Type type) {
  switch (type) {
    case Type::kU16:
      return Ternary<Op, uint16_t, uint16_t, uint16_t, uint16_t>;
    case Type::kS16:
      return Ternary<Op, int16_t, int16_t, int16_t, int16_t>;
    case Type::kU32:
      return Ternary<Op, uint32_t, uint32_t, uint32_t, uint32_t>;
    case Type::kS32:
      return Ternary<Op, int32_t, int32_t, int32_t, int32_t>;
    case Type::kU64:
      return Ternary<Op, uint64_t, uint64_t, uint64_t, uint64_t>;
    case Type::kS64:
      return Ternary<Op, int64_t, int64_t, int64_t, int64_t>;
    default:
      return nullptr;
  }
}
template <typename Op>
Handler SignedUnaryOf(Type type) {
  switch (type) {
    case Type::kS16:
      return Unary<Op, int16_t, int16_t>;
    case Type::kS32:
      return Unary<Op, int32_t, int32_t>;
    case Type::kS64:
      return Unary<Op, int64_t, int64_t>;
    default:
      return nullptr;
  }
}
Handler MulWideOf(Type type) {
  switch (type) {
    case Type::kU16:
      return Binary<MulWide, uint32_t, uint16_t, uint16_t>;
    case Type::kS16:
      return Binary<MulWide, int32_t, int16_t, int16_t>;
    case Type::kU32:
      return Binary<MulWide, uint64_t, uint32_t, uint32_t>;
    case Type::kS32:
      return Binary<MulWide, int64_t, int32_t, int32_t>;
    default:
      return nullptr;
  }
}
Handler MadWideOf(Type type) {
  switch (type) {
    case Type::kU16:
      return Ternary<MadWide, uint32_t, uint16_t, uint16_t, uint32_t>;
    case Type::kS16:
      return Ternary<MadWide, int32_t, int16_t, int16_t, int32_t>;
    case Type::kU32:
      return Ternary<MadWide, uint64_t, uint32_t, uint32_t, uint64_t>;
    case Type::kS32:
      return Ternary<MadWide, int64_t, int32_t, int32_t, int64_t>;
    default:
      return nullptr;
  }
}
template <bool shift>
Handler BfindOf(Type type) {
  switch (type) {
    case Type::kU32:
      return Unary<Bfind<shift>, uint32_t, uint32_t>;
    case Type::kS32:
      return Unary<Bfind<shift>, uint32_t, int32_t>;
    case Type::kU64:
      return Unary<Bfind<shift>, uint32_t, uint64_t>;
    case Type::kS64:
      return Unary<Bfind<shift>, uint32_t, int64_t>;
    default:
      return nullptr;
  }
}
Handler BfeOf(Type type) {
  switch (type) {
    case Type::kU32:
      return Ternary<Bfe, uint32_t, uint32_t, uint32_t, uint32_t>;
    case Type::kS32:
      return Ternary<Bfe, int32_t, int32_t, uint32_t, uint32_t>;
    case Type::kU64:
      return Ternary<Bfe, uint64_t, uint64_t, uint32_t, uint32_t>;
    case Type::kS64:
      return Ternary<Bfe, int64_t, int64_t, uint32_t, uint32_t>;
    default:
      return nullptr;
  }
}
Handler DotOf(const Instruction& i) {
  const bool a = i.types[0] == Type::kS32;
  const bool b = i.types[1] == Type::kS32;
  if (i.opcode == Opcode::kDp4a) {
    if (a)
      return b ? Ternary<Dp4a<int8_t, int8_t>, int32_t, uint32_t, uint32_t, uint32_t>
               : Ternary<Dp4a<int8_t, uint8_t>, int32_t, uint32_t, uint32_t, uint32_t>;
    return b ? Ternary<Dp4a<uint8_t, int8_t>, int32_t, uint32_t, uint32_t, uint32_t>
             : Ternary<Dp4a<uint8_t, uint8_t>, int32_t, uint32_t, uint32_t, uint32_t>;
  }
  if (i.Has(Mod::kHi)) {
    if (a)
      return b ? Ternary<Dp2a<int8_t, int8_t, true>, int32_t, uint32_t, uint32_t, uint32_t>
               : Ternary<Dp2a<int8_t, uint8_t, true>, int32_t, uint32_t, uint32_t, uint32_t>;
    return b ? Ternary<Dp2a<uint8_t, int8_t, true>, int32_t, uint32_t, uint32_t, uint32_t>
             : Ternary<Dp2a<uint8_t, uint8_t, true>, int32_t, uint32_t, uint32_t, uint32_t>;
  }
  if (a)
    return b ? Ternary<Dp2a<int8_t, int8_t, false>, int32_t, uint32_t, uint32_t, uint32_t>
             : Ternary<Dp2a<int8_t, uint8_t, false>, int32_t, uint32_t, uint32_t, uint32_t>;
  return b ? Ternary<Dp2a<uint8_t, int8_t, false>, int32_t, uint32_t, uint32_t, uint32_t>
           : Ternary<Dp2a<uint8_t, uint8_t, false>, int32_t, uint32_t, uint32_t, uint32_t>;
}

Handler CarryOf(const Instruction& i) {
  const bool wide = TypeBytes(i.type()) == 8;
  const bool in =
      i.opcode == Opcode::kAddc || i.opcode == Opcode::kSubc || i.opcode == Opcode::kMadc;
  const bool out = i.Has(Mod::kCc);
  if (i.opcode == Opcode::kMad || i.opcode == Opcode::kMadc) {
    if (i.type() == Type::kS32) return PickMadCarry<int32_t>(i.Has(Mod::kHi), in, out);
    if (i.type() == Type::kS64) return PickMadCarry<int64_t>(i.Has(Mod::kHi), in, out);
    return wide ? PickMadCarry<uint64_t>(i.Has(Mod::kHi), in, out)
                : PickMadCarry<uint32_t>(i.Has(Mod::kHi), in, out);
  }
  if (i.opcode == Opcode::kSub || i.opcode == Opcode::kSubc) {
    return wide ? PickAddCarry<uint64_t, -1>(in, out) : PickAddCarry<uint32_t, -1>(in, out);
  }
  return wide ? PickAddCarry<uint64_t, 1>(in, out) : PickAddCarry<uint32_t, 1>(in, out);
}

}  // namespace

Handler FindInteger(const Instruction& i) {
  const Type type = i.type();
  if (type == Type::kU16x2 || type == Type::kS16x2) return FindIntegerPairs(i);
  if (i.Has(Mod::kRelu)) return FindReluMinMax(i);
  const bool wide64 = TypeBytes(type) == 8;
  const bool is_signed = IsSigned(type);
  switch (i.opcode) {
    case Opcode::kAdd:
      if (i.Has(Mod::kCc)) return CarryOf(i);
      return i.Has(Mod::kSat) ? Binary<AddSat, int32_t, int32_t, int32_t> : BinaryOf<Add>(type);
    case Opcode::kSub:
      if (i.Has(Mod::kCc)) return CarryOf(i);
      return i.Has(Mod::kSat) ? Binary<SubSat, int32_t, int32_t, int32_t> : BinaryOf<Sub>(type);
    case Opcode::kAddc:
    case Opcode::kSubc:
    case Opcode::kMadc:
      return CarryOf(i);
    case Opcode::kMul:
      if (i.Has(Mod::kWide)) return MulWideOf(type);
      return i.Has(Mod::kHi) ? BinaryOf<MulHi>(type) : BinaryOf<MulLo>(type);
    case Opcode::kMad:
      if (i.Has(Mod::kCc)) return CarryOf(i);
      if (i.Has(Mod::kWide)) return MadWideOf(type);
      if (i.Has(Mod::kSat)) return Ternary<MadHiSat, int32_t, int32_t, int32_t, int32_t>;
      return i.Has(Mod::kHi) ? TernaryOf<MadHi>(type) : TernaryOf<MadLo>(type);
    case Opcode::kMul24:
      if (i.Has(Mod::kHi))
        return is_signed ? Binary<Mul24Hi, int32_t, int32_t, int32_t>
                         : Binary<Mul24Hi, uint32_t, uint32_t, uint32_t>;
      return is_signed ? Binary<Mul24Lo, int32_t, int32_t, int32_t>
                       : Binary<Mul24Lo, uint32_t, uint32_t, uint32_t>;
    case Opcode::kMad24:
      if (i.Has(Mod::kSat)) return FindExtend(i);
      if (i.Has(Mod::kHi))
        return is_signed ? Ternary<Mad24Hi, int32_t, int32_t, int32_t, int32_t>
                         : Ternary<Mad24Hi, uint32_t, uint32_t, uint32_t, uint32_t>;
      return is_signed ? Ternary<Mad24Lo, int32_t, int32_t, int32_t, int32_t>
                       : Ternary<Mad24Lo, uint32_t, uint32_t, uint32_t, uint32_t>;
    case Opcode::kDiv:
      return BinaryOf<Div>(type);
    case Opcode::kRem:
      return BinaryOf<Rem>(type);
    case Opcode::kAbs:
      return SignedUnaryOf<Abs>(type);
    case Opcode::kNeg:
      return SignedUnaryOf<Neg>(type);
    case Opcode::kMin:
      return BinaryOf<Min>(type);
    case Opcode::kMax:
      return BinaryOf<Max>(type);
    case Opcode::kSad:
      return TernaryOf<Sad>(type);
    case Opcode::kPopc:
      return wide64 ? Unary<Popc, uint32_t, uint64_t> : Unary<Popc, uint32_t, uint32_t>;
    case Opcode::kClz:
      return wide64 ? Unary<Clz, uint32_t, uint64_t> : Unary<Clz, uint32_t, uint32_t>;
    case Opcode::kBfind:
      return i.Has(Mod::kShiftamt) ? BfindOf<true>(type) : BfindOf<false>(type);
    case Opcode::kBrev:
      return wide64 ? Unary<Brev, uint64_t, uint64_t> : Unary<Brev, uint32_t, uint32_t>;
    case Opcode::kBfe:
      return BfeOf(type);
    case Opcode::kSzext:
      return FindExtend(i);
    case Opcode::kBmsk:
      return i.Has(Mod::kWrap) ? FindExtend(i) : Binary<Bmsk, uint32_t, uint32_t, uint32_t>;
    case Opcode::kFns:
      return Ternary<Fns, uint32_t, uint32_t, uint32_t, uint32_t>;
    case Opcode::kPrmt:
      return PrmtOf(i);
    case Opcode::kDp4a:
    case Opcode::kDp2a:
      return DotOf(i);
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
