// atom and red. Shared memory belongs to a cluster that one thread runs, so its atomics are plain;
// all others are the host's, always sequentially consistent and system-wide, which is stronger than
// any order or scope that PTX can ask for.
#include <bit>
#include <cstring>
#include <type_traits>

#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/reduction.h"

namespace farwarp::softgpu {
namespace {

// Those that do not look at the third operand.
template <typename Reduction>
struct OfTwo {
  template <typename T>
  static T Run(T old, T b, T) {
    return Reduction::Run(old, b);
  }
};
using AddOp = OfTwo<reduction::Add>;
using MinOp = OfTwo<reduction::Min>;
using MaxOp = OfTwo<reduction::Max>;
using AndOp = OfTwo<reduction::And>;
using OrOp = OfTwo<reduction::Or>;
using XorOp = OfTwo<reduction::Xor>;
using IncOp = OfTwo<reduction::Inc>;
using DecOp = OfTwo<reduction::Dec>;
struct ExchOp {
  template <typename T>
  static T Run(T, T b, T) {
    return b;
  }
};
struct CasOp {
  template <typename T>
  static T Run(T old, T b, T c) {
    return old == b ? c : old;
  }
};
template <typename T>
using BitsOf = std::conditional_t<sizeof(T) == 8, uint64_t,
                                  std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;

// d: old value or kNoSlot. a: base, imm: offset, target >> 16: width of the base
// (handlers_memory.cc). b, c: operands.
template <typename Op, typename T, bool shared>
void Atomic(Warp& warp, const Ins& ins) {
  using Bits = BitsOf<T>;
  const T* const b = warp.Reg<T>(ins.b);
  const T* const c = ins.c == kNoSlot ? b : warp.Reg<T>(ins.c);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    Bits* const where = reinterpret_cast<Bits*>(
        Access(warp, shared, AddressOfLane(warp, ins, lane), sizeof(T), sizeof(T), lane));
    Bits old = __atomic_load_n(where, __ATOMIC_RELAXED);
    if (shared) {
      *where = std::bit_cast<Bits>(Op::Run(std::bit_cast<T>(old), b[lane], c[lane]));
    } else {
      for (;;) {
        const Bits next = std::bit_cast<Bits>(Op::Run(std::bit_cast<T>(old), b[lane], c[lane]));
        if (__atomic_compare_exchange_n(where, &old, next, true, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
          break;
      }
    }
    if (ins.d != kNoSlot) warp.Reg<Bits>(ins.d)[lane] = old;
  }
}

template <typename Op, typename T>
Handler InSpace(Space space) {
  return space == Space::kShared ? Atomic<Op, T, true> : Atomic<Op, T, false>;
}
template <typename Op>
Handler IntegerOf(Type type, Space space) {
  switch (type) {
    case Type::kS32:
      return InSpace<Op, int32_t>(space);
    case Type::kS64:
      return InSpace<Op, int64_t>(space);
    case Type::kU64:
    case Type::kB64:
      return InSpace<Op, uint64_t>(space);
    case Type::kU32:
    case Type::kB32:
      return InSpace<Op, uint32_t>(space);
    default:
      return nullptr;
  }
}

}  // namespace

Handler FindAtomic(const Instruction& i, Space space) {
  const Type type = i.type();
  if (type == Type::kB128) return FindWideAtomic(i, space);
  if (i.Has(Mod::kAdd)) {
    if (type == Type::kF32) return InSpace<AddOp, float>(space);
    if (type == Type::kF64) return InSpace<AddOp, double>(space);
    return IntegerOf<AddOp>(type, space);
  }
  if (i.Has(Mod::kMin)) return IntegerOf<MinOp>(type, space);
  if (i.Has(Mod::kMax)) return IntegerOf<MaxOp>(type, space);
  if (i.Has(Mod::kAnd)) return IntegerOf<AndOp>(type, space);
  if (i.Has(Mod::kOr)) return IntegerOf<OrOp>(type, space);
  if (i.Has(Mod::kXor)) return IntegerOf<XorOp>(type, space);
  if (i.Has(Mod::kExch)) return IntegerOf<ExchOp>(type, space);
  if (i.Has(Mod::kCas) && i.operands.size() != (i.opcode == Opcode::kAtom ? 4 : 3)) return nullptr;
  if (i.Has(Mod::kCas))
    return type == Type::kB16 ? InSpace<CasOp, uint16_t>(space) : IntegerOf<CasOp>(type, space);
  if (i.Has(Mod::kInc)) return type == Type::kU32 ? InSpace<IncOp, uint32_t>(space) : nullptr;
  if (i.Has(Mod::kDec)) return type == Type::kU32 ? InSpace<DecOp, uint32_t>(space) : nullptr;
  return nullptr;
}

}  // namespace farwarp::softgpu
