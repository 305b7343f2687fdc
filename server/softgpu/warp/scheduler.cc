// Which group of which warp runs next.
#include <algorithm>
#include <bit>
#include <cstring>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {
namespace {

constexpr uint32_t kBackEdgeBudget = 4096;  // Of a group that runs alone.
constexpr uint32_t kDivergentBudget = 64;   // While other groups of the warp wait.

void Store(Warp& warp, GroupState state, uint32_t wanted) {
  if (warp.mask != 0) warp.waiting.push_back({warp.pc, warp.mask, warp.frame, state, wanted});
  warp.mask = 0;
}

// Joins ready groups that are at the same place.
void Merge(Warp& warp) {
  auto& groups = warp.waiting;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t j = groups.size() - 1; j > i; --j) {
      const bool same = groups[i].pc == groups[j].pc && groups[i].frame == groups[j].frame &&
                        groups[i].state == groups[j].state && groups[i].wanted == groups[j].wanted;
      if (!same || groups[i].state == GroupState::kAtBarrier) continue;
      groups[i].mask |= groups[j].mask;
      --groups[i].frame->references;
      groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(j));
    }
  }
}

bool AtWarpBarrier(const Warp& warp, const Group& group) {
  return group.pc > 0 && warp.kernel->code[group.pc - 1].run == WarpSync;
}

// Groups that wait for each other in the warp go on once all wanted lanes have arrived or exited.
void ReleaseWarpSync(Warp& warp) {
  for (Group& group : warp.waiting) {
    if (group.state != GroupState::kAtWarpSync) continue;
    // Lanes meet at a bar.warp.sync wherever they are; all other collectives meet at one
    // instruction, and Merge has joined them.
    const uint32_t wanted = group.wanted;
    const bool anywhere = AtWarpBarrier(warp, group);
    uint32_t there = 0;
    for (const Group& other : warp.waiting) {
      const bool together = anywhere ? AtWarpBarrier(warp, other) : &other == &group;
      if (other.state == GroupState::kAtWarpSync && other.wanted == wanted && together)
        there |= other.mask;
    }
    if ((wanted & warp.live & ~there) != 0) continue;
    for (Group& other : warp.waiting) {
      const bool together = anywhere ? AtWarpBarrier(warp, other) : &other == &group;
      if (other.state == GroupState::kAtWarpSync && other.wanted == wanted && together) {
        other.state = GroupState::kReady;
        other.wanted = 0;
      }
    }
  }
}

// Called functions come first, so that lanes meet again behind the call; then the lowest place.
bool Before(const Group& a, const Group& b) {
  if (a.frame->depth != b.frame->depth) return a.frame->depth > b.frame->depth;
  return a.pc < b.pc;
}

// Takes the ready group that comes first by that order, or the next in turn. False if none is
// ready.
bool Load(Warp& warp) {
  for (Group& group : warp.waiting) {
    if (group.state == GroupState::kAtMbarrier && MbarrierCompleted(warp, group))
      group.state = GroupState::kReady;
  }
  Merge(warp);
  ReleaseWarpSync(warp);
  Merge(warp);
  auto& groups = warp.waiting;
  size_t best = groups.size();
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].state != GroupState::kReady) continue;
    if (best == groups.size() || Before(groups[i], groups[best])) best = i;
  }
  if (best == groups.size()) return false;
  if (Block& block = *warp.block; block.random != 0) {
    best = block.Random(static_cast<uint32_t>(groups.size()));
    while (groups[best].state != GroupState::kReady) best = (best + 1) % groups.size();
  } else if (warp.rotate) {
    // The one that has waited longest: whoever ran last was put behind all others.
    best = 0;
    while (groups[best].state != GroupState::kReady) ++best;
  }
  warp.rotate = false;
  const Group group = groups[best];
  groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(best));
  SetCurrentWarp(&warp);
  warp.pc = group.pc;
  warp.mask = group.mask;
  warp.frame = group.frame;
  warp.regs = group.frame->registers;
  warp.limit = ~0u;
  for (const Group& other : groups) {
    if (other.pc > warp.pc && other.pc < warp.limit) warp.limit = other.pc;
  }
  // Not renewed before it is used up: a group that spins is scheduled anew at each jump.
  if (warp.budget == 0) warp.budget = kBackEdgeBudget;
  if (!groups.empty()) warp.budget = std::min(warp.budget, kDivergentBudget);
  return true;
}

// The inner loop: runs the loaded group until an event or another group's place. Not inlined, so
// that nothing of its callers is kept in registers across the calls of handlers.
__attribute__((noinline)) void Interpret(Warp& warp) {
  const Ins* const code = warp.kernel->code.data();
  do {
    const Ins& ins = code[warp.pc];
    uint32_t active = warp.mask;
    if (ins.guard != kNoSlot) {
      const uint32_t holds = *warp.Reg<uint32_t>(ins.guard);
      active &= ins.guard_negated ? ~holds : holds;
      if (active == 0) {
        ++warp.pc;
        continue;
      }
    }
    warp.active = active;
    ++warp.pc;
    ins.run(warp, ins);
  } while (warp.event == Event::kNone && warp.pc < warp.limit);
}

// Test mode: as above, for a random number of instructions.
void InterpretSome(Warp& warp) {
  const Ins* const code = warp.kernel->code.data();
  uint32_t steps = 1 + warp.block->Random(24);
  do {
    const Ins& ins = code[warp.pc];
    uint32_t active = warp.mask;
    if (ins.guard != kNoSlot) {
      const uint32_t holds = *warp.Reg<uint32_t>(ins.guard);
      active &= ins.guard_negated ? ~holds : holds;
    }
    ++warp.pc;
    if (active == 0) continue;
    warp.active = active;
    ins.run(warp, ins);
    if (warp.event == Event::kNone && --steps == 0) warp.event = Event::kYield;
  } while (warp.event == Event::kNone && warp.pc < warp.limit);
}

// As Interpret, for a block in which all threads seem to wait for each other for ever.
void InterpretWatching(Warp& warp) {
  const Ins* const code = warp.kernel->code.data();
  IdleState& idle = warp.block->idle;
  do {
    const Ins& ins = code[warp.pc];
    idle.observed |= ins.observes;
    idle.read_time |= ins.reads_time;
    warp.active = warp.mask;
    if (ins.guard != kNoSlot) {
      const uint32_t holds = *warp.Reg<uint32_t>(ins.guard);
      warp.active &= ins.guard_negated ? ~holds : holds;
    }
    ++warp.pc;
    if (warp.active != 0) ins.run(warp, ins);
  } while (warp.event == Event::kNone && warp.pc < warp.limit);
}

// Runs the warp until no group of it can go on or its turn is over. True if anything ran.
bool RunWarp(Warp& warp, bool* yielded) {
  bool ran = false;
  for (;;) {
    if (!Load(warp)) return ran;
    ran = true;
    if (warp.block->idle.traced) {
      InterpretWatching(warp);
    } else if (warp.block->random == 0) {
      Interpret(warp);
    } else {
      InterpretSome(warp);
    }
    const Event event = warp.event;
    warp.event = Event::kNone;
    if (event == Event::kYield) {
      const bool alone = warp.waiting.empty();
      Store(warp, GroupState::kReady, 0);
      warp.rotate = !alone;
      // Other groups of this warp have had their chance when the turn comes round.
      if (alone || ++warp.turn % 8 == 0) {
        *yielded = true;
        return true;
      }
      continue;
    }
    Store(warp, GroupState::kReady, 0);
    if (warp.finished()) return true;
  }
}

// What is left when no warp of a block can run. Where threads are in mbarrier.try_wait these end,
// unsuccessfully, as their time limit allows; if for long nothing happens but that, and nothing
// outside the block has been looked at, nothing ever will.
StepResult Idle(Block& block) {
  constexpr uint32_t kRounds = 1 << 14;
  constexpr auto kPatience = std::chrono::milliseconds(500);
  constexpr auto kPatienceWithClock = std::chrono::seconds(30);  // It may be a wait with a limit.
  IdleState& idle = block.idle;
  const auto now = std::chrono::steady_clock::now();
  if (idle.rounds == 0 || idle.observed || idle.progress != block.cluster->progress)
    idle = {0, block.cluster->progress, now, true, false, false};
  ++idle.rounds;
  if (!ExpireTryWaits(block)) {
    for (const Warp& warp : block.warps) {
      for (const Group& group : warp.waiting) {
        if (group.state == GroupState::kAtClusterBarrier) return StepResult::kBlocked;
      }
    }
    return StepResult::kDeadlock;
  }
  const bool long_enough = idle.rounds >= kRounds && now - idle.since > kPatience &&
                           (!idle.read_time || now - idle.since > kPatienceWithClock);
  return long_enough ? StepResult::kBlocked : StepResult::kYielded;
}

}  // namespace

void StartBlock(Block& block) {
  const DecodedFunction& function = block.kernel->functions[0];
  block.live = block.threads;
  block.barriers.fill(Barrier{});
  block.idle = {};
  block.warps.resize((block.threads + kLanes - 1) / kLanes);
  for (size_t i = 0; i < block.warps.size(); ++i) {
    Warp& warp = block.warps[i];
    const auto lanes =
        std::min<uint32_t>(kLanes, block.threads - static_cast<uint32_t>(i) * kLanes);
    warp.block = &block;
    warp.kernel = block.kernel;
    warp.index = static_cast<uint32_t>(i);
    warp.live = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warp.event = Event::kNone;
    warp.carry = 0;
    warp.at_cluster = 0;
    warp.mask = 0;
    warp.budget = 0;
    if (warp.frames.empty()) warp.frames.push_back(std::make_unique<Frame>());
    while (warp.frames.size() > 1) {
      warp.frames.pop_back();  // Left by a launch that failed.
    }
    Frame& frame = *warp.frames[0];
    std::vector<std::byte> storage = std::move(frame.storage);
    frame = Frame{};
    frame.storage = std::move(storage);
    frame.references = 1;
    frame.storage.resize(function.frame_bytes + 64);
    auto aligned = (reinterpret_cast<uintptr_t>(frame.storage.data()) + 63) & ~uintptr_t{63};
    frame.registers = reinterpret_cast<std::byte*>(aligned);
    std::copy(function.constant_image.begin(), function.constant_image.end(),
              frame.registers + function.constants);
    warp.waiting.clear();
    warp.waiting.push_back({function.entry, warp.live, &frame, GroupState::kReady, 0});
  }
}

StepResult StepBlock(Block& block) {
  if (block.idle.traced && block.idle.progress != block.cluster->progress) block.idle = {};
  for (Warp& warp : block.warps) warp.had_turn = false;
  const size_t count = block.warps.size();
  for (;;) {
    bool ran = false;
    bool skipped = false;
    bool yielded = false;
    // Warps that wait for the others have no turn to use up; the others may do so in different
    // rounds, as those that keep meeting at a barrier.
    bool all_had_turn = true;
    const size_t first = block.random != 0 ? block.Random(static_cast<uint32_t>(count)) : 0;
    for (size_t k = 0; k < count; ++k) {
      Warp& warp = block.warps[(first + k) % count];
      if (warp.finished()) continue;
      if (block.random != 0 && block.Random(4) == 0) {
        skipped = true;
        continue;
      }
      bool turn_over = false;
      const bool progressed = RunWarp(warp, &turn_over);
      ran |= progressed;
      warp.had_turn |= turn_over;
      yielded |= warp.had_turn;
      all_had_turn &= warp.had_turn || !progressed;
      if (turn_over && block.interrupted()) return StepResult::kYielded;
    }
    if (block.live == 0) return StepResult::kFinished;
    if (skipped) {
      if (block.interrupted() || block.Random(8) == 0) return StepResult::kYielded;
      continue;
    }
    if (!ran) return Idle(block);
    if (yielded && all_had_turn) return StepResult::kYielded;
    if (block.interrupted()) return StepResult::kYielded;
  }
}

void TrimBlock(Block& block) {
  for (Warp& warp : block.warps) {
    warp.free_frames.clear();
    while (warp.frames.size() > 1) warp.frames.pop_back();
  }
}

void CheckBarrier(Block& block, uint32_t number) {
  Barrier& barrier = block.barriers[number];
  const uint32_t expected = barrier.expected != 0 ? barrier.expected : block.live;
  if (barrier.arrived == 0 || barrier.arrived < expected) return;
  for (Warp& warp : block.warps) {
    for (Group& group : warp.waiting) {
      if (group.state != GroupState::kAtBarrier || (group.wanted & 15) != number) continue;
      // bar.red left the slot of its result in the upper bits (see handlers_sync.cc).
      const Ins& ins = block.kernel->code[group.pc - 1];
      if (ins.d != kNoSlot) {
        std::byte* registers = group.frame->registers;
        const uint32_t op = ins.target;
        for (uint32_t lane = 0; lane < kLanes; ++lane) {
          if ((group.mask >> lane & 1) == 0) continue;
          if (op == 0) {
            reinterpret_cast<uint32_t*>(registers + ins.d)[lane] = barrier.popc;
          } else {
            uint32_t& mask = *reinterpret_cast<uint32_t*>(registers + ins.d);
            const bool value = op == 1 ? barrier.all : barrier.any;
            mask = value ? mask | 1u << lane : mask & ~(1u << lane);
          }
        }
      }
      group.state = GroupState::kReady;
      group.wanted = 0;
    }
  }
  barrier = Barrier{};
}

std::string DescribeWaiting(const Block& block) {
  std::string text;
  for (uint32_t number = 0; number < block.barriers.size(); ++number) {
    const Barrier& barrier = block.barriers[number];
    if (barrier.arrived == 0) continue;
    const uint32_t expected = barrier.expected != 0 ? barrier.expected : block.live;
    text += (text.empty() ? "" : ", ") + std::string("barrier ") + std::to_string(number) +
            " has " + std::to_string(barrier.arrived) + " of " + std::to_string(expected) +
            " threads";
  }
  if (const std::string mbarrier = DescribeMbarrier(block); !mbarrier.empty())
    text += (text.empty() ? "" : ", ") + mbarrier;
  uint32_t at_cluster = 0;
  for (const Warp& warp : block.warps)
    at_cluster += static_cast<uint32_t>(__builtin_popcount(warp.at_cluster & warp.live));
  if (at_cluster != 0)
    text += (text.empty() ? "" : ", ") + std::string("the cluster's barrier has ") +
            std::to_string(at_cluster) + " of " + std::to_string(block.live) +
            " threads of this block";
  for (const Warp& warp : block.warps) {
    for (const Group& group : warp.waiting) {
      if (group.state == GroupState::kAtWarpSync) {
        text += (text.empty() ? "" : ", ") + std::string("warp ") + std::to_string(warp.index) +
                " waits for its own lanes at line " +
                std::to_string(block.kernel->code[group.pc].line);
        return text;
      }
    }
  }
  return text;
}

}  // namespace farwarp::softgpu
