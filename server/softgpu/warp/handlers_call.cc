// Calls through registers, and the part of the stack that grows by alloca.
#include <algorithm>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

uint64_t StackBase(const Warp& warp, uint32_t lane) {
  const uint64_t thread = uint64_t{warp.index} * kLanes + lane;
  return warp.block->local_base + thread * warp.block->local_stride + warp.frame->local +
         warp.kernel->functions[warp.frame->function].local_bytes;
}

// The number of the function at an address, kNoSlot if no function is there.
uint32_t FunctionAt(const CallTargets& targets, uint64_t address) {
  const auto found =
      std::lower_bound(targets.begin(), targets.end(), std::pair<uint64_t, uint32_t>(address, 0));
  return found != targets.end() && found->first == address ? found->second : kNoSlot;
}

}  // namespace

// Lanes that call different functions become groups of their own, each in a new frame; they meet
// again behind the call.
void CallIndirect(Warp& warp, const Ins& ins) {
  const uint64_t* const addresses = warp.Reg<uint64_t>(ins.a);
  const CallSite& site = warp.kernel->calls[ins.target];
  const CallTargets& targets = warp.kernel->call_targets[site.targets];
  const uint32_t stay = warp.mask & ~warp.active;
  if (stay != 0) SplitGroup(warp, stay, warp.pc);
  uint32_t left = warp.active;
  for (;;) {
    const uint64_t address = addresses[static_cast<uint32_t>(__builtin_ctz(left))];
    uint32_t same = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      same |= (left >> lane & 1) != 0 && addresses[lane] == address ? 1u << lane : 0;
    const uint32_t number = FunctionAt(targets, address);
    if (number == kNoSlot)
      RaiseFault(warp, FaultKind::kInvalidPc, address, same,
                 "call through a pointer to no function of this shape");
    Frame* const frame = PushFrame(warp, site, number, same);
    const uint32_t entry = warp.kernel->functions[number].entry;
    left &= ~same;
    if (left == 0) {
      // The group's reference to the caller becomes this callee's.
      warp.mask = same;
      warp.frame = frame;
      warp.regs = frame->registers;
      warp.pc = entry;
      warp.event = Event::kReschedule;
      return;
    }
    ++warp.frame->references;
    warp.waiting.push_back({entry, same, frame, GroupState::kReady, 0});
  }
}

void CallRefused(Warp& warp, const Ins&) {
  const DecodedFunction& function = warp.kernel->functions[warp.frame->function];
  RaiseFault(warp, FaultKind::kIllegalInstruction, 0, warp.active, function.refused.c_str());
}

void StackAllocate(Warp& warp, const Ins& ins) {
  const uint64_t* const bytes = warp.Reg<uint64_t>(ins.a);
  std::vector<uint32_t>& stack = warp.frame->stack;
  if (stack.empty()) stack.assign(kLanes, 0);
  uint64_t addresses[kLanes] = {};
  const Block& block = *warp.block;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const uint64_t base = StackBase(warp, lane);
    const uint64_t address = (base + stack[lane] + ins.imm - 1) & ~(ins.imm - 1);
    const uint64_t end =
        block.local_base + (uint64_t{warp.index} * kLanes + lane + 1) * block.local_stride;
    if (address > end || bytes[lane] > end - address)
      RaiseFault(warp, FaultKind::kStackOverflow, address, 1u << lane, "the stack is full");
    addresses[lane] = address;
    stack[lane] = static_cast<uint32_t>(address + bytes[lane] - base);
  }
  ForLanes<uint64_t>(warp, ins.d, [&](uint32_t lane) { return addresses[lane]; });
}

void StackSave(Warp& warp, const Ins& ins) {
  const std::vector<uint32_t>& stack = warp.frame->stack;
  ForLanes<uint64_t>(warp, ins.d,
                     [&](uint32_t lane) { return stack.empty() ? 0 : uint64_t{stack[lane]}; });
}

void StackRestore(Warp& warp, const Ins& ins) {
  const uint64_t* const saved = warp.Reg<uint64_t>(ins.a);
  std::vector<uint32_t>& stack = warp.frame->stack;
  for (uint32_t lane = 0; lane < stack.size(); ++lane) {
    // More than there is was never saved here.
    if ((warp.active >> lane & 1) != 0 && saved[lane] <= stack[lane])
      stack[lane] = static_cast<uint32_t>(saved[lane]);
  }
}

}  // namespace farwarp::softgpu
