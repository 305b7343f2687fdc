// What lanes of a warp, and warps of a block, do together.
#include <cstring>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// For an instruction that needs all lanes of its member mask: true if they are here. Otherwise the
// group goes back to the instruction and waits for the others, which join it there.
bool Gathered(Warp& warp, uint32_t members) {
  if ((members & ~warp.active) == 0) return true;
  if ((members & ~warp.mask) == 0)
    return true;  // Members that this instruction's guard excludes will not come.
  --warp.pc;
  warp.waiting.push_back({warp.pc, warp.mask, warp.frame, GroupState::kAtWarpSync, members});
  warp.mask = 0;
  warp.event = Event::kParked;
  return false;
}

// Calls `visit(lanes, members)` for each of the disjoint sets into which member masks divide the
// active lanes, until it returns false. Lanes of one set have the same mask, so the first one
// speaks for them; tiles of a warp come here together, each with its own.
template <typename F>
bool ForEachSet(const Warp& warp, const uint32_t* masks, F visit) {
  for (uint32_t rest = warp.active; rest != 0;) {
    const uint32_t members = masks[__builtin_ctz(rest)];
    const uint32_t lanes = rest & (members | (rest & -rest));
    if (!visit(lanes, members & warp.live)) return false;
    rest &= ~lanes;
  }
  return true;
}

// Runs `body` for each set of lanes that do the instruction with one another, with them as the
// active ones, when all lanes that the masks name are here.
template <typename F>
void Together(Warp& warp, const Ins& ins, F body) {
  if (ins.imm == kNoSlot) return body();  // The old forms take whoever is there.
  const uint32_t* const masks = warp.Reg<uint32_t>(static_cast<uint32_t>(ins.imm));
  const auto gathered = [&](uint32_t, uint32_t members) { return Gathered(warp, members); };
  if (!ForEachSet(warp, masks, gathered)) return;
  const uint32_t active = warp.active;
  ForEachSet(warp, masks, [&](uint32_t lanes, uint32_t) {
    warp.active = lanes;
    body();
    return true;
  });
  warp.active = active;
}

enum class Shuffle { kUp, kDown, kBfly, kIdx };

template <Shuffle mode>
void ShuffleLanes(Warp& warp, const Ins& ins) {
  Together(warp, ins, [&] {
    const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
    const uint32_t* const b = warp.Reg<uint32_t>(ins.b);
    const uint32_t* const c = warp.Reg<uint32_t>(ins.c);
    uint32_t results[kLanes];
    uint32_t in_range = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t clamp = c[lane] & 31;
      const uint32_t segment = c[lane] >> 8 & 31;
      const uint32_t by = b[lane] & 31;
      const uint32_t last = (lane & segment) | (clamp & ~segment);
      uint32_t from = lane;
      bool valid = false;
      if constexpr (mode == Shuffle::kUp) {
        from = lane - by;
        valid = static_cast<int32_t>(from) >= static_cast<int32_t>(last);
      } else if constexpr (mode == Shuffle::kDown) {
        from = lane + by;
        valid = from <= last;
      } else if constexpr (mode == Shuffle::kBfly) {
        from = lane ^ by;
        valid = from <= last;
      } else {
        from = (lane & segment) | (by & ~segment);
        valid = from <= last;
      }
      results[lane] = a[valid ? from & 31 : lane];
      in_range |= valid ? 1u << lane : 0;
    }
    if (ins.d != kNoSlot)
      ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) { return results[lane]; });
    if (ins.e != kNoSlot) StorePredicate(warp, ins.e, in_range);
  });
}

enum class Vote { kAll, kAny, kUni, kBallot };

// target: 1 if the predicate is negated.
template <Vote mode>
void VoteLanes(Warp& warp, const Ins& ins) {
  Together(warp, ins, [&] {
    const uint32_t p = *warp.Reg<uint32_t>(ins.a) ^ (ins.target != 0 ? ~0u : 0);
    const uint32_t yes = p & warp.active;
    if constexpr (mode == Vote::kBallot) {
      ForLanes<uint32_t>(warp, ins.d, [=](uint32_t) { return yes; });
    } else {
      const bool all = yes == warp.active;
      const bool result = mode == Vote::kAll   ? all
                          : mode == Vote::kAny ? yes != 0
                                               : all || yes == 0;
      StorePredicate(warp, ins.d, result ? ~0u : 0);
    }
  });
}

// d: mask; e: predicate (match.all).
template <typename T, bool all>
void Match(Warp& warp, const Ins& ins) {
  Together(warp, ins, [&] {
    const T* const a = warp.Reg<T>(ins.a);
    uint32_t results[kLanes] = {};
    bool same = true;
    const uint32_t first = static_cast<uint32_t>(__builtin_ctz(warp.active));
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.active >> lane & 1) == 0) continue;
      same &= a[lane] == a[first];
      for (uint32_t other = 0; other < kLanes; ++other) {
        results[lane] |= (warp.active >> other & 1) != 0 && a[other] == a[lane] ? 1u << other : 0;
      }
    }
    const uint32_t active = warp.active;
    if (all) {
      ForLanes<uint32_t>(warp, ins.d, [=](uint32_t) { return same ? active : 0; });
      if (ins.e != kNoSlot) StorePredicate(warp, ins.e, same ? ~0u : 0);
    } else {
      ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) { return results[lane]; });
    }
  });
}

template <typename T, typename F>
void Reduce(Warp& warp, const Ins& ins, F f) {
  Together(warp, ins, [&] {
    const T* const a = warp.Reg<T>(ins.a);
    bool started = false;
    T total{};
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.active >> lane & 1) == 0) continue;
      total = started ? f(total, a[lane]) : a[lane];
      started = true;
    }
    ForLanes<T>(warp, ins.d, [=](uint32_t) { return total; });
  });
}
void ReduceAdd(Warp& w, const Ins& i) {
  Reduce<uint32_t>(w, i, [](uint32_t a, uint32_t b) { return a + b; });
}
void ReduceAnd(Warp& w, const Ins& i) {
  Reduce<uint32_t>(w, i, [](uint32_t a, uint32_t b) { return a & b; });
}
void ReduceOr(Warp& w, const Ins& i) {
  Reduce<uint32_t>(w, i, [](uint32_t a, uint32_t b) { return a | b; });
}
void ReduceXor(Warp& w, const Ins& i) {
  Reduce<uint32_t>(w, i, [](uint32_t a, uint32_t b) { return a ^ b; });
}
template <typename T>
void ReduceMin(Warp& w, const Ins& i) {
  Reduce<T>(w, i, [](T a, T b) { return a < b ? a : b; });
}
template <typename T>
void ReduceMax(Warp& w, const Ins& i) {
  Reduce<T>(w, i, [](T a, T b) { return a > b ? a : b; });
}

// Arrives at barrier a with the count b, if any; c: predicate of bar.red. waits: .sync and .red,
// not .arrive.
template <bool waits>
void ArriveAt(Warp& warp, const Ins& ins) {
  Block& block = *warp.block;
  const uint32_t first = static_cast<uint32_t>(__builtin_ctz(warp.active));
  const uint32_t number = warp.Reg<uint32_t>(ins.a)[first];
  if (number >= block.barriers.size())
    RaiseFault(warp, FaultKind::kIllegalInstruction, number, warp.active, "no such barrier");
  const uint32_t lanes = warp.active;
  Barrier& barrier = block.barriers[number];
  barrier.expected = ins.b == kNoSlot ? 0 : warp.Reg<uint32_t>(ins.b)[first];
  // Barriers without .aligned count threads; with it all of a warp arrives, and so it does here.
  barrier.arrived += static_cast<uint32_t>(__builtin_popcount(lanes));
  // A count is in threads of whole warps: the missing lanes of a partial last warp count as there.
  if (barrier.expected != 0 && warp.live == lanes)
    barrier.arrived += kLanes - static_cast<uint32_t>(__builtin_popcount(lanes));
  if (ins.c != kNoSlot) {
    const uint32_t p = *warp.Reg<uint32_t>(ins.c) ^ (ins.imm != 0 ? ~0u : 0);
    barrier.popc += static_cast<uint32_t>(__builtin_popcount(p & lanes));
    barrier.all &= (p & lanes) == lanes;
    barrier.any |= (p & lanes) != 0;
  }
  if constexpr (waits) {
    const uint32_t rest = warp.mask & ~lanes;
    warp.waiting.push_back({warp.pc, lanes, warp.frame, GroupState::kAtBarrier, number});
    if (rest != 0) {
      warp.waiting.push_back({warp.pc, rest, warp.frame, GroupState::kReady, 0});
      ++warp.frame->references;
    }
    warp.mask = 0;
    warp.event = Event::kParked;
  }
  CheckBarrier(block, number);
}

}  // namespace

bool GatheredLive(Warp& warp) {
  return Gathered(warp, warp.live);
}

Handler FindShuffle(const Instruction& i) {
  if (i.Has(Mod::kUp)) return ShuffleLanes<Shuffle::kUp>;
  if (i.Has(Mod::kDown)) return ShuffleLanes<Shuffle::kDown>;
  if (i.Has(Mod::kBfly)) return ShuffleLanes<Shuffle::kBfly>;
  return i.Has(Mod::kIdx) ? ShuffleLanes<Shuffle::kIdx> : nullptr;
}

Handler FindVote(const Instruction& i) {
  if (i.Has(Mod::kBallot)) return VoteLanes<Vote::kBallot>;
  if (i.Has(Mod::kAll)) return VoteLanes<Vote::kAll>;
  if (i.Has(Mod::kAny)) return VoteLanes<Vote::kAny>;
  return i.Has(Mod::kUni) ? VoteLanes<Vote::kUni> : nullptr;
}

Handler FindMatch(const Instruction& i) {
  const bool wide = TypeBytes(i.type()) == 8;
  if (i.Has(Mod::kAll)) return wide ? Match<uint64_t, true> : Match<uint32_t, true>;
  return wide ? Match<uint64_t, false> : Match<uint32_t, false>;
}

Handler FindRedux(const Instruction& i) {
  if (i.type() == Type::kF32) return nullptr;
  const bool is_signed = i.type() == Type::kS32;
  if (i.Has(Mod::kAdd)) return ReduceAdd;
  if (i.Has(Mod::kAnd)) return ReduceAnd;
  if (i.Has(Mod::kOr)) return ReduceOr;
  if (i.Has(Mod::kXor)) return ReduceXor;
  if (i.Has(Mod::kMin)) return is_signed ? ReduceMin<int32_t> : ReduceMin<uint32_t>;
  if (i.Has(Mod::kMax)) return is_signed ? ReduceMax<int32_t> : ReduceMax<uint32_t>;
  return nullptr;
}

void ActiveMask(Warp& warp, const Ins& ins) {
  const uint32_t active = warp.active;
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t) { return active; });
}

void Elect(Warp& warp, const Ins& ins) {
  Together(warp, ins, [&] {
    const auto leader = static_cast<uint32_t>(__builtin_ctz(warp.active));
    if (ins.d != kNoSlot) ForLanes<uint32_t>(warp, ins.d, [=](uint32_t) { return leader; });
    StorePredicate(warp, ins.e, 1u << leader);
  });
}

// bar.warp.sync may meet at different places: the group waits behind the instruction, and is
// released when all have come.
void WarpSync(Warp& warp, const Ins& ins) {
  const uint32_t* const masks = warp.Reg<uint32_t>(ins.a);
  ForEachSet(warp, masks, [&](uint32_t, uint32_t members) {
    if ((members & ~warp.mask) == 0) return true;
    warp.waiting.push_back({warp.pc, warp.mask, warp.frame, GroupState::kAtWarpSync, members});
    warp.mask = 0;
    warp.event = Event::kParked;
    return false;
  });
}

Handler FindBarrier(const Instruction& i) {
  if (i.Has(Mod::kCluster) || i.Has(Mod::kWarp)) return nullptr;
  return i.Has(Mod::kArrive) ? ArriveAt<false> : ArriveAt<true>;
}

}  // namespace farwarp::softgpu
