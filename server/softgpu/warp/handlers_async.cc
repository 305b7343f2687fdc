// Copies that hardware makes in the background: cp.async, cp.async.bulk and its reductions. Here
// they are complete when they are issued, which is one of the orders that PTX allows; what waits
// for them finds nothing to wait for.
#include <algorithm>
#include <cstring>

#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/reduction.h"

namespace farwarp::softgpu {
// handlers_mbarrier.cc: `bytes` bytes have come.
void CompleteBytes(Warp& warp, uint64_t address, bool shared, uint32_t lane, uint64_t bytes);

namespace {

constexpr uint32_t kBulkUnit = 16;
constexpr uint64_t kWindowMask = (uint64_t{1} << kClusterShift) - 1;

bool IsActive(const Warp& warp, uint32_t lane) {
  return (warp.active >> lane & 1) != 0;
}

// A bulk copy of one lane, checked.
struct Bulk {
  uint64_t to = 0;
  std::byte* target = nullptr;
  const std::byte* source = nullptr;
  uint32_t bytes = 0;
};
Bulk BulkOf(Warp& warp, const Ins& ins, uint32_t lane) {
  Bulk bulk;
  bulk.bytes = warp.Reg<uint32_t>(ins.c)[lane];
  if (bulk.bytes % kBulkUnit != 0)
    RaiseFault(warp, FaultKind::kMisaligned, bulk.bytes, 1u << lane,
               "a bulk copy of no multiple of 16 bytes");
  bulk.to = warp.Reg<uint64_t>(ins.a)[lane];
  bulk.source = Access(warp, (ins.target & kFromShared) != 0, warp.Reg<uint64_t>(ins.b)[lane],
                       bulk.bytes, kBulkUnit, lane);
  bulk.target = Access(warp, (ins.target & kToShared) != 0, bulk.to, bulk.bytes, kBulkUnit, lane);
  return bulk;
}

void Complete(Warp& warp, const Ins& ins, uint32_t lane, uint32_t bytes) {
  if (ins.e == kNoSlot) return;
  CompleteBytes(warp, warp.Reg<uint64_t>(ins.e)[lane], (ins.target & kMbarShared) != 0, lane,
                bytes);
}

// To the same place of each block in the mask, each with its mbarrier at the same place.
void Multicast(Warp& warp, const Ins& ins, uint32_t lane, const Bulk& bulk) {
  const uint32_t mask = warp.Reg<uint16_t>(static_cast<uint32_t>(ins.imm))[lane];
  const Block& block = *warp.block;
  const uint64_t mbarrier = warp.Reg<uint64_t>(ins.e)[lane];
  const bool in_window = (ins.target & kMbarShared) != 0;
  const Block* const owner = in_window ? &block : OwnerOfShared(block, mbarrier);
  const auto host = reinterpret_cast<uint64_t>(bulk.target);
  const Block* const target = OwnerOfShared(block, host);
  if (owner == nullptr || target == nullptr || (mask >> block.cluster->blocks.size()) != 0)
    RaiseFault(warp, FaultKind::kIllegalAddress, bulk.to, 1u << lane,
               "a multicast outside the cluster");
  const uint64_t offset = in_window ? mbarrier & kWindowMask : mbarrier - owner->shared_base;
  for (uint32_t rank = 0; rank < block.cluster->blocks.size(); ++rank) {
    if ((mask >> rank & 1) == 0) continue;
    const uint64_t window = uint64_t{rank + 1} << kClusterShift;
    std::byte* const to =
        Access(warp, true, window + (host - target->shared_base), bulk.bytes, kBulkUnit, lane);
    std::memmove(to, bulk.source, bulk.bytes);
    CompleteBytes(warp, window + offset, true, lane, bulk.bytes);
  }
}

// Elements of a reduction: the memory is someone else's too, so that it must be atomic unless only
// this cluster reaches it.
template <typename Op>
void BulkReduce(Warp& warp, const Ins& ins) {
  using Bits = typename Op::Bits;
  const bool shared = (ins.target & kToShared) != 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    const Bulk bulk = BulkOf(warp, ins, lane);
    auto* const to = reinterpret_cast<Bits*>(bulk.target);
    for (uint32_t k = 0; k < bulk.bytes / sizeof(Bits); ++k) {
      Bits operand;
      std::memcpy(&operand, bulk.source + k * sizeof(Bits), sizeof(Bits));
      Bits old = __atomic_load_n(to + k, __ATOMIC_RELAXED);
      if (shared) {
        to[k] = Op::Run(old, operand);
      } else {
        while (!__atomic_compare_exchange_n(to + k, &old, Op::Run(old, operand), true,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
      }
    }
    Complete(warp, ins, lane, bulk.bytes);
  }
}

// Integers of 32 and 64 bits, signed where it matters.
template <typename T, typename F>
struct Whole {
  using Bits = std::make_unsigned_t<T>;
  static Bits Run(Bits old, Bits b) {
    return static_cast<Bits>(F::Run(static_cast<T>(old), static_cast<T>(b)));
  }
};

template <typename F>
Handler WholeOf(Type type) {
  switch (type) {
    case Type::kU32:
    case Type::kB32:
      return BulkReduce<Whole<uint32_t, F>>;
    case Type::kS32:
      return BulkReduce<Whole<int32_t, F>>;
    case Type::kU64:
    case Type::kB64:
      return BulkReduce<Whole<uint64_t, F>>;
    case Type::kS64:
      return BulkReduce<Whole<int64_t, F>>;
    default:
      return nullptr;
  }
}

Handler FloatReduce(const Instruction& i) {
  const bool add = i.Has(Mod::kAdd);
  const bool maximum = i.Has(Mod::kMax);
  switch (i.type()) {
    case Type::kF16:
      if (add) return i.Has(Mod::kNoftz) ? BulkReduce<reduction::AddHalf<F16Format>> : nullptr;
      return maximum ? BulkReduce<reduction::BestHalf<F16Format, true>>
                     : BulkReduce<reduction::BestHalf<F16Format, false>>;
    case Type::kBf16:
      if (add) return i.Has(Mod::kNoftz) ? BulkReduce<reduction::AddHalf<Bf16Format>> : nullptr;
      return maximum ? BulkReduce<reduction::BestHalf<Bf16Format, true>>
                     : BulkReduce<reduction::BestHalf<Bf16Format, false>>;
    case Type::kF32:
      return add ? BulkReduce<reduction::AddFloat<float>> : nullptr;
    case Type::kF64:
      return add ? BulkReduce<reduction::AddFloat<double>> : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace

void AddressSum(Warp& warp, const Ins& ins) {
  uint64_t sum[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) sum[lane] = AddressOfLane(warp, ins, lane);
  ForLanes<uint64_t>(warp, ins.d, [&](uint32_t lane) { return sum[lane]; });
}

void AsyncCopy(Warp& warp, const Ins& ins) {
  const uint64_t* const to = warp.Reg<uint64_t>(ins.a);
  const uint64_t* const from = warp.Reg<uint64_t>(ins.b);
  const auto bytes = static_cast<uint32_t>(ins.imm);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    uint32_t take = bytes;
    if (ins.c != kNoSlot) {
      const bool ignores = (ins.target & kIgnores) != 0;
      take = ignores ? ((*warp.Reg<uint32_t>(ins.c) >> lane & 1) != 0 ? 0 : bytes)
                     : std::min(bytes, warp.Reg<uint32_t>(ins.c)[lane]);
    }
    std::byte* const target = Access(warp, true, to[lane], bytes, bytes, lane);
    std::byte data[kBulkUnit] = {};
    if (take != 0) std::memcpy(data, Access(warp, false, from[lane], bytes, bytes, lane), take);
    std::memcpy(target, data, bytes);
  }
}

void BulkCopy(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    const Bulk bulk = BulkOf(warp, ins, lane);
    if (ins.imm != kNoSlot && (ins.target & kByteMask) == 0) {
      Multicast(warp, ins, lane, bulk);
      continue;
    }
    if (ins.imm != kNoSlot) {
      const uint32_t mask = warp.Reg<uint16_t>(static_cast<uint32_t>(ins.imm))[lane];
      for (uint32_t k = 0; k < bulk.bytes; ++k) {
        if ((mask >> k % kBulkUnit & 1) != 0) bulk.target[k] = bulk.source[k];
      }
    } else {
      std::memmove(bulk.target, bulk.source, bulk.bytes);
    }
    Complete(warp, ins, lane, bulk.bytes);
  }
}

void BulkZero(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    const uint64_t bytes = warp.Reg<uint64_t>(ins.b)[lane];
    if (bytes % 8 != 0 || bytes > kWindowMask)
      RaiseFault(warp, FaultKind::kMisaligned, bytes, 1u << lane,
                 "st.bulk of no multiple of 8 bytes");
    std::byte* const to =
        Access(warp, (ins.target & kToShared) != 0, warp.Reg<uint64_t>(ins.a)[lane],
               static_cast<uint32_t>(bytes), 8, lane);
    std::memset(to, 0, bytes);
  }
}

Handler FindBulkReduce(const Instruction& i) {
  if (IsFloat(i.type())) return FloatReduce(i);
  if (i.Has(Mod::kAdd)) return WholeOf<reduction::Add>(i.type());
  if (i.Has(Mod::kMin)) return WholeOf<reduction::Min>(i.type());
  if (i.Has(Mod::kMax)) return WholeOf<reduction::Max>(i.type());
  if (i.Has(Mod::kAnd)) return WholeOf<reduction::And>(i.type());
  if (i.Has(Mod::kOr)) return WholeOf<reduction::Or>(i.type());
  if (i.Has(Mod::kXor)) return WholeOf<reduction::Xor>(i.type());
  if (i.Has(Mod::kInc))
    return i.type() == Type::kU32 ? BulkReduce<Whole<uint32_t, reduction::Inc>> : nullptr;
  if (i.Has(Mod::kDec))
    return i.type() == Type::kU32 ? BulkReduce<Whole<uint32_t, reduction::Dec>> : nullptr;
  return nullptr;
}

}  // namespace farwarp::softgpu
