// Operations on bits and predicates: logic, shifts, moves, selection.
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

struct And {
  template <typename T>
  static T Run(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <typename T>
  static T Run(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <typename T>
  static T Run(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <typename T>
  static T Run(T a) {
    return static_cast<T>(~a);
  }
};
struct Cnot {
  template <typename T>
  static T Run(T a) {
    return a == 0;
  }
};
// Shift amounts are unsigned and clamp at the width.
struct Shl {
  template <typename T>
  static T Run(T a, uint32_t b) {
    return b < 8 * sizeof(T) ? static_cast<T>(a << (b & 63)) : T{0};
  }
};
struct Shr {
  template <typename T>
  static T Run(T a, uint32_t b) {
    constexpr uint32_t kLast = 8 * sizeof(T) - 1;
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> (b < kLast ? b : kLast));
    return b <= kLast ? static_cast<T>(a >> b) : T{0};
  }
};
template <bool wrap>
struct ShfL {
  static uint32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t n = wrap ? c & 31 : (c < 32 ? c : 32);
    return static_cast<uint32_t>(((uint64_t{b} << 32 | a) << n) >> 32);
  }
};
template <bool wrap>
struct ShfR {
  static uint32_t Run(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t n = wrap ? c & 31 : (c < 32 ? c : 32);
    return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> n);
  }
};

template <typename T>
void Move(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  ForLanes<T>(warp, ins.d, [=](uint32_t lane) { return a[lane]; });
}
void MovePredicate(Warp& warp, const Ins& ins) {
  StorePredicate(warp, ins.d, *warp.Reg<uint32_t>(ins.a));
}

template <typename T>
void Select(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  const uint32_t p = *warp.Reg<uint32_t>(ins.c);
  ForLanes<T>(warp, ins.d, [=](uint32_t lane) { return (p >> lane & 1) != 0 ? a[lane] : b[lane]; });
}

template <typename Op>
void PredicateBinary(Warp& warp, const Ins& ins) {
  StorePredicate(warp, ins.d, Op::Run(*warp.Reg<uint32_t>(ins.a), *warp.Reg<uint32_t>(ins.b)));
}
void PredicateNot(Warp& warp, const Ins& ins) {
  StorePredicate(warp, ins.d, ~*warp.Reg<uint32_t>(ins.a));
}

// imm: the truth table. Eight terms, of which a compiler of C++ keeps what is needed.
void Lop3(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
  const uint32_t* const c = warp.Reg<uint32_t>(ins.c);
  uint32_t t[8];
  for (uint32_t i = 0; i < 8; ++i) t[i] = (ins.imm >> i & 1) != 0 ? ~0u : 0;
  const uint32_t t0 = t[0], t1 = t[1], t2 = t[2], t3 = t[3], t4 = t[4], t5 = t[5], t6 = t[6],
                 t7 = t[7];
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    const uint32_t x = a[lane], y = b[lane], z = c[lane];
    return (t0 & ~x & ~y & ~z) | (t1 & ~x & ~y & z) | (t2 & ~x & y & ~z) | (t3 & ~x & y & z) |
           (t4 & x & ~y & ~z) | (t5 & x & ~y & z) | (t6 & x & y & ~z) | (t7 & x & y & z);
  });
}

template <typename Op>
Handler BitsOf(Type type) {
  switch (TypeBytes(type)) {
    case 2:
      return Binary<Op, uint16_t, uint16_t, uint16_t>;
    case 4:
      return Binary<Op, uint32_t, uint32_t, uint32_t>;
    case 8:
      return Binary<Op, uint64_t, uint64_t, uint64_t>;
    default:
      return type == Type::kPred ? PredicateBinary<Op> : nullptr;
  }
}
template <typename Op>
Handler BitsUnaryOf(Type type) {
  switch (TypeBytes(type)) {
    case 2:
      return Unary<Op, uint16_t, uint16_t>;
    case 4:
      return Unary<Op, uint32_t, uint32_t>;
    case 8:
      return Unary<Op, uint64_t, uint64_t>;
    default:
      return nullptr;
  }
}
Handler ShrOf(Type type) {
  switch (type) {
    case Type::kS16:
      return Binary<Shr, int16_t, int16_t, uint32_t>;
    case Type::kS32:
      return Binary<Shr, int32_t, int32_t, uint32_t>;
    case Type::kS64:
      return Binary<Shr, int64_t, int64_t, uint32_t>;
    default:
      break;
  }
  switch (TypeBytes(type)) {
    case 2:
      return Binary<Shr, uint16_t, uint16_t, uint32_t>;
    case 4:
      return Binary<Shr, uint32_t, uint32_t, uint32_t>;
    case 8:
      return Binary<Shr, uint64_t, uint64_t, uint32_t>;
    default:
      return nullptr;
  }
}
Handler ShlOf(Type type) {
  switch (TypeBytes(type)) {
    case 2:
      return Binary<Shl, uint16_t, uint16_t, uint32_t>;
    case 4:
      return Binary<Shl, uint32_t, uint32_t, uint32_t>;
    case 8:
      return Binary<Shl, uint64_t, uint64_t, uint32_t>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler FindLogic(const Instruction& i) {
  const Type type = i.type();
  switch (i.opcode) {
    case Opcode::kAnd:
      return BitsOf<And>(type);
    case Opcode::kOr:
      return BitsOf<Or>(type);
    case Opcode::kXor:
      return BitsOf<Xor>(type);
    case Opcode::kNot:
      return type == Type::kPred ? PredicateNot : BitsUnaryOf<Not>(type);
    case Opcode::kCnot:
      return BitsUnaryOf<Cnot>(type);
    case Opcode::kShl:
      return ShlOf(type);
    case Opcode::kShr:
      return ShrOf(type);
    case Opcode::kShf:
      if (i.Has(Mod::kL))
        return i.Has(Mod::kWrap) ? Ternary<ShfL<true>, uint32_t, uint32_t, uint32_t, uint32_t>
                                 : Ternary<ShfL<false>, uint32_t, uint32_t, uint32_t, uint32_t>;
      return i.Has(Mod::kWrap) ? Ternary<ShfR<true>, uint32_t, uint32_t, uint32_t, uint32_t>
                               : Ternary<ShfR<false>, uint32_t, uint32_t, uint32_t, uint32_t>;
    case Opcode::kLop3:
      return i.Has(Mod::kAnd) || i.Has(Mod::kOr) ? nullptr : Lop3;
    case Opcode::kMov:
      switch (TypeBytes(type)) {
        case 2:
          return Move<uint16_t>;
        case 4:
          return Move<uint32_t>;
        case 8:
          return Move<uint64_t>;
        default:
          return type == Type::kPred ? MovePredicate : nullptr;
      }
    case Opcode::kSelp:
      switch (TypeBytes(type)) {
        case 2:
          return Select<uint16_t>;
        case 4:
          return Select<uint32_t>;
        case 8:
          return Select<uint64_t>;
        default:
          return nullptr;
      }
    default:
      return nullptr;
  }
}

}  // namespace farwarp::softgpu
