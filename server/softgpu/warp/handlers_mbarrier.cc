// mbarrier: barriers in shared memory that count arrivals and bytes.
//
// The object is one word: the arrivals that the current phase still waits for (20 bits), those that
// the next one will (20), the bytes announced and not yet come (22, signed), and on top the parity
// of the phase. The state that an arrival returns is the word before it. Only threads of a cluster
// can reach it, and one thread runs them all, so that nothing here needs to be atomic.
#include <cstdio>

#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

constexpr uint64_t kCountMask = (1u << 20) - 1;
constexpr unsigned kExpectedShift = 20;
constexpr unsigned kBytesShift = 40;
constexpr uint64_t kBytesMask = (1u << 22) - 1;
constexpr unsigned kPhaseShift = 63;

uint64_t Pending(uint64_t word) {
  return word & kCountMask;
}
uint64_t Expected(uint64_t word) {
  return word >> kExpectedShift & kCountMask;
}
uint64_t Bytes(uint64_t word) {
  return word >> kBytesShift & kBytesMask;
}
uint64_t Phase(uint64_t word) {
  return word >> kPhaseShift;
}
uint64_t Word(uint64_t phase, uint64_t expected, uint64_t bytes, uint64_t pending) {
  return phase << kPhaseShift | (bytes & kBytesMask) << kBytesShift | expected << kExpectedShift |
         pending;
}

bool IsActive(const Warp& warp, uint32_t lane) {
  return (warp.active >> lane & 1) != 0;
}

uint64_t& WordAt(Warp& warp, uint64_t address, bool shared, uint32_t lane) {
  std::byte* const at = Access(warp, shared, address, 8, 8, lane);
  if (!shared && OwnerOfShared(*warp.block, reinterpret_cast<uint64_t>(at)) == nullptr)
    RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane,
               "an mbarrier outside shared memory");
  return *reinterpret_cast<uint64_t*>(at);
}
uint64_t& WordOfLane(Warp& warp, const Ins& ins, uint32_t lane) {
  return WordAt(warp, warp.Reg<uint64_t>(ins.a)[lane], (ins.target & kToShared) != 0, lane);
}

// The phase ends when all arrivals and bytes have come; the next begins at once.
void Set(Warp& warp, uint64_t& word, uint64_t expected, uint64_t bytes, uint64_t pending) {
  const bool complete = pending == 0 && (bytes & kBytesMask) == 0;
  word = Word(Phase(word) ^ (complete ? 1 : 0), expected, bytes, complete ? expected : pending);
  ++warp.block->cluster->progress;
}

uint64_t Count(Warp& warp, uint32_t slot, uint32_t lane, uint64_t otherwise) {
  return slot == kNoSlot ? otherwise : warp.Reg<uint32_t>(slot)[lane];
}

bool Completed(Warp& warp, const Ins& ins, uint32_t lane) {
  const uint64_t phase = Phase(WordOfLane(warp, ins, lane));
  return ins.imm != 0 ? phase != (warp.Reg<uint32_t>(ins.b)[lane] & 1)
                      : phase != Phase(warp.Reg<uint64_t>(ins.b)[lane]);
}

}  // namespace

void MbarrierInit(Warp& warp, const Ins& ins) {
  const uint32_t* const count = warp.Reg<uint32_t>(ins.b);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    if (count[lane] == 0 || count[lane] > kCountMask)
      RaiseFault(warp, FaultKind::kIllegalInstruction, count[lane], 1u << lane,
                 "an mbarrier cannot expect this count");
    WordOfLane(warp, ins, lane) = Word(0, count[lane], 0, count[lane]);
  }
  ++warp.block->cluster->progress;
}

void MbarrierInvalidate(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (IsActive(warp, lane)) WordOfLane(warp, ins, lane) = 0;
  }
}

void MbarrierArrive(Warp& warp, const Ins& ins) {
  const bool expects = (ins.target & kExpects) != 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    uint64_t& word = WordOfLane(warp, ins, lane);
    const uint64_t before = word;
    const uint64_t count = expects ? 1 : Count(warp, ins.b, lane, 1);
    const uint64_t more = expects ? Count(warp, ins.b, lane, 0) : 0;
    if (count > Pending(before))
      RaiseFault(warp, FaultKind::kIllegalInstruction, before, 1u << lane,
                 "more arrivals than the mbarrier expects, its word is");
    const uint64_t drop = (ins.target & kDrops) != 0 ? count : 0;
    Set(warp, word, (Expected(before) - drop) & kCountMask, Bytes(before) + more,
        Pending(before) - count);
    if (ins.d != kNoSlot) warp.Reg<uint64_t>(ins.d)[lane] = before;
  }
}

void MbarrierExpect(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (!IsActive(warp, lane)) continue;
    uint64_t& word = WordOfLane(warp, ins, lane);
    Set(warp, word, Expected(word), Bytes(word) + Count(warp, ins.b, lane, 0), Pending(word));
  }
}

void CompleteBytes(Warp& warp, uint64_t address, bool shared, uint32_t lane, uint64_t bytes) {
  uint64_t& word = WordAt(warp, address, shared, lane);
  Set(warp, word, Expected(word), Bytes(word) - bytes, Pending(word));
}

void MbarrierComplete(Warp& warp, const Ins& ins) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (IsActive(warp, lane))
      CompleteBytes(warp, warp.Reg<uint64_t>(ins.a)[lane], (ins.target & kToShared) != 0, lane,
                    Count(warp, ins.b, lane, ins.imm));
  }
}

void MbarrierPending(Warp& warp, const Ins& ins) {
  const uint64_t* const state = warp.Reg<uint64_t>(ins.a);
  ForLanes<uint32_t>(warp, ins.d,
                     [=](uint32_t lane) { return static_cast<uint32_t>(Pending(state[lane])); });
}

void MbarrierTest(Warp& warp, const Ins& ins) {
  uint32_t completed = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    completed |= IsActive(warp, lane) && Completed(warp, ins, lane) ? 1u << lane : 0;
  StorePredicate(warp, ins.d, completed);
}

// If no lane's phase has completed the group waits here; it comes back to this instruction.
void MbarrierTry(Warp& warp, const Ins& ins) {
  uint32_t completed = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    completed |= IsActive(warp, lane) && Completed(warp, ins, lane) ? 1u << lane : 0;
  if (completed != 0) return StorePredicate(warp, ins.d, completed);
  const uint32_t rest = warp.mask & ~warp.active;
  warp.waiting.push_back({warp.pc - 1, warp.active, warp.frame, GroupState::kAtMbarrier, 0});
  if (rest != 0) {
    warp.waiting.push_back({warp.pc, rest, warp.frame, GroupState::kReady, 0});
    ++warp.frame->references;
  }
  warp.mask = 0;
  warp.event = Event::kParked;
}

bool MbarrierCompleted(Warp& warp, const Group& group) {
  const Ins& ins = warp.kernel->code[group.pc];
  warp.regs = group.frame->registers;
  const uint64_t* const address = warp.Reg<uint64_t>(ins.a);
  uint64_t seen = 0;  // Most often all lanes wait for one barrier.
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((group.mask >> lane & 1) == 0) continue;
    if (address[lane] == seen) continue;
    seen = address[lane];
    const uint64_t host =
        (ins.target & kToShared) != 0 ? ResolveShared(*warp.block, seen, 8) : seen;
    // What has become invalid, as when its block has ended, is found out by the instruction itself.
    if (host == 0) return true;
    const uint64_t phase = Phase(*reinterpret_cast<const uint64_t*>(host));
    const uint64_t wanted =
        ins.imm != 0 ? warp.Reg<uint32_t>(ins.b)[lane] & 1 : Phase(warp.Reg<uint64_t>(ins.b)[lane]);
    if (phase != wanted) return true;
  }
  return false;
}

bool ExpireTryWaits(Block& block) {
  bool any = false;
  for (Warp& warp : block.warps) {
    for (Group& group : warp.waiting) {
      if (group.state != GroupState::kAtMbarrier) continue;
      const Ins& ins = block.kernel->code[group.pc];
      *reinterpret_cast<uint32_t*>(group.frame->registers + ins.d) &= ~group.mask;
      ++group.pc;
      group.state = GroupState::kReady;
      any = true;
    }
  }
  return any;
}

std::string DescribeMbarrier(const Block& block) {
  for (const Warp& warp : block.warps) {
    for (const Group& group : warp.waiting) {
      // The deadlock was found when the wait had just ended in vain.
      const size_t at = group.state == GroupState::kAtMbarrier ? group.pc : group.pc - 1;
      if (group.pc == 0 && at != 0) continue;
      const Ins& ins = block.kernel->code[at];
      if (ins.run != MbarrierTry) continue;
      const auto lane = static_cast<uint32_t>(__builtin_ctz(group.mask));
      const uint64_t address =
          reinterpret_cast<const uint64_t*>(group.frame->registers + ins.a)[lane];
      const uint64_t host =
          (ins.target & kToShared) != 0 ? ResolveShared(block, address, 8) : address;
      if (host == 0) continue;
      const uint64_t word = *reinterpret_cast<const uint64_t*>(host);
      // Sign extension of 22 bits.
      const int64_t bytes = static_cast<int64_t>(Bytes(word) << 42) >> 42;
      char text[160];
      std::snprintf(text, sizeof text,
                    "warp %u waits at line %u for the mbarrier at 0x%llx, phase %llu of which "
                    "lacks %llu of %llu arrivals and %lld bytes",
                    warp.index, ins.line, static_cast<unsigned long long>(address),
                    static_cast<unsigned long long>(Phase(word)),
                    static_cast<unsigned long long>(Pending(word)),
                    static_cast<unsigned long long>(Expected(word)), static_cast<long long>(bytes));
      return text;
    }
  }
  return "";
}

}  // namespace farwarp::softgpu
