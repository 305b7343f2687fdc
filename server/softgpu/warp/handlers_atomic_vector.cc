// atom and red on 16-bit floats, on vectors, and on 128 bits. The elements of a vector are atomic
// each by itself, as PTX has it. Shared memory belongs to one thread and needs no atomics.
#include <cstring>

#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/reduction.h"

namespace farwarp::softgpu {
namespace {

using reduction::AddFloat;
using reduction::AddHalf;
using reduction::BestHalf;

// The same on both halves of a word.
template <typename Op>
struct Both {
  using Bits = uint32_t;
  static Bits Run(Bits old, Bits b) {
    const auto low = Op::Run(static_cast<uint16_t>(old), static_cast<uint16_t>(b));
    const auto high = Op::Run(static_cast<uint16_t>(old >> 16), static_cast<uint16_t>(b >> 16));
    return low | uint32_t{high} << 16;
  }
};

// target's lower half: number of elements; slots: registers of the old values (kNoSlot for red),
// then of the operand.
template <typename Op, bool shared>
void VectorAtomic(Warp& warp, const Ins& ins) {
  using Bits = typename Op::Bits;
  const uint32_t count = ins.target & 0xff;
  const uint32_t* const d = warp.kernel->slots.data() + ins.slots;
  const uint32_t* const b = d + count;
  const auto bytes = static_cast<uint32_t>(count * sizeof(Bits));
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    auto* const where = reinterpret_cast<Bits*>(
        Access(warp, shared, AddressOfLane(warp, ins, lane), bytes, bytes, lane));
    for (uint32_t k = 0; k < count; ++k) {
      const Bits operand = warp.Reg<Bits>(b[k])[lane];
      Bits old = __atomic_load_n(where + k, __ATOMIC_RELAXED);
      if (shared) {
        where[k] = Op::Run(old, operand);
      } else {
        while (!__atomic_compare_exchange_n(where + k, &old, Op::Run(old, operand), true,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
      }
      if (d[k] != kNoSlot) warp.Reg<Bits>(d[k])[lane] = old;
    }
  }
}
template <typename Op>
Handler InSpace(Space space) {
  return space == Space::kShared ? VectorAtomic<Op, true> : VectorAtomic<Op, false>;
}
template <typename Format>
Handler HalfAtomic(const Instruction& i, Space space, bool pairs) {
  if (i.Has(Mod::kAdd))
    return pairs ? InSpace<Both<AddHalf<Format>>>(space) : InSpace<AddHalf<Format>>(space);
  if (i.Has(Mod::kMin))
    return pairs ? InSpace<Both<BestHalf<Format, false>>>(space)
                 : InSpace<BestHalf<Format, false>>(space);
  if (i.Has(Mod::kMax))
    return pairs ? InSpace<Both<BestHalf<Format, true>>>(space)
                 : InSpace<BestHalf<Format, true>>(space);
  return nullptr;
}

// 128 bits: exch and cas. d, b, c as for other atomics.
struct alignas(16) Wide {
  uint64_t low;
  uint64_t high;
};
template <bool swap>
void WideAtomic(Warp& warp, const Ins& ins, bool shared) {
  using Bits = unsigned __int128;
  const auto value = [&](uint32_t slot, uint32_t lane) {
    Bits bits;
    std::memcpy(&bits, warp.regs + slot + size_t{lane} * sizeof bits, sizeof bits);
    return bits;
  };
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    auto* const where = reinterpret_cast<Bits*>(
        Access(warp, shared, AddressOfLane(warp, ins, lane), sizeof(Bits), sizeof(Bits), lane));
    const Bits wanted = swap ? value(ins.b, lane) : 0;
    const Bits next = value(swap ? ins.c : ins.b, lane);
    // A failed exchange brings the value that is there.
    Bits old = wanted;
    while (!__atomic_compare_exchange_n(where, &old, next, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
      if (swap && old != wanted) break;
    }
    if (ins.d != kNoSlot)
      std::memcpy(warp.regs + ins.d + size_t{lane} * sizeof old, &old, sizeof old);
  }
}
template <bool swap, bool shared>
void WideAtomicIn(Warp& warp, const Ins& ins) {
  WideAtomic<swap>(warp, ins, shared);
}

template <bool shared, bool load>
void WideAccess(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::byte* const where =
        Access(warp, shared, AddressOfLane(warp, ins, lane), sizeof(Wide), sizeof(Wide), lane);
    std::byte* const reg = warp.regs + ins.d + size_t{lane} * sizeof(Wide);
    std::memcpy(load ? reg : where, load ? where : reg, sizeof(Wide));
  }
}

}  // namespace

Handler FindVectorAtomic(const Instruction& i, Space space) {
  switch (i.type()) {
    case Type::kF32:
      return i.Has(Mod::kAdd) ? InSpace<AddFloat<float>>(space) : nullptr;
    case Type::kF16:
      return HalfAtomic<F16Format>(i, space, false);
    case Type::kBf16:
      return HalfAtomic<Bf16Format>(i, space, false);
    case Type::kF16x2:
      return HalfAtomic<F16Format>(i, space, true);
    case Type::kBf16x2:
      return HalfAtomic<Bf16Format>(i, space, true);
    default:
      return nullptr;
  }
}

Handler FindWideAtomic(const Instruction& i, Space space) {
  const bool shared = space == Space::kShared;
  if (i.Has(Mod::kExch)) return shared ? WideAtomicIn<false, true> : WideAtomicIn<false, false>;
  if (i.Has(Mod::kCas) && i.operands.size() == 4)
    return shared ? WideAtomicIn<true, true> : WideAtomicIn<true, false>;
  return nullptr;
}

Handler FindWideLoad(Space space) {
  return space == Space::kShared ? WideAccess<true, true> : WideAccess<false, true>;
}
Handler FindWideStore(Space space) {
  return space == Space::kShared ? WideAccess<true, false> : WideAccess<false, false>;
}
void WideMove(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::memmove(warp.regs + ins.d + size_t{lane} * sizeof(Wide),
                 warp.regs + ins.a + size_t{lane} * sizeof(Wide), sizeof(Wide));
  }
}

}  // namespace farwarp::softgpu
