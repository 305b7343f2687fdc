// Branches, calls, exit.
#include <algorithm>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// Nested calls of a warp: so many, or what fits the stack at 16 bytes for each, the least that a
// call takes on hardware.
constexpr size_t kMaxFrames = 4096;
constexpr size_t kLeastFrame = 16;
constexpr size_t kMaxFreeFrames = 16;

// A jump that goes back costs budget; when it is used up the others get their turn.
void JumpTo(Warp& warp, uint32_t target) {
  const bool back = target < warp.pc;
  warp.pc = target;
  if (back && --warp.budget == 0) {
    warp.event = Event::kYield;
  } else if (!warp.waiting.empty()) {
    // The limit was computed for where the group was before.
    warp.event = Event::kReschedule;
  }
}

// False, and nothing taken, if the launch's frames hold too much already.
bool ChargeFrames(Warp& warp, int64_t bytes) {
  std::atomic<int64_t>* const left = warp.block->frame_bytes_left;
  if (left == nullptr || left->fetch_sub(bytes, std::memory_order_relaxed) >= bytes) return true;
  if (bytes <= 0) return true;
  left->fetch_add(bytes, std::memory_order_relaxed);
  return false;
}

// The group has gone: its frame may be free. Frame 0 belongs to the kernel and stays.
void Release(Warp& warp, Frame* frame) {
  while (frame != nullptr && --frame->references == 0 && frame->caller != nullptr) {
    Frame* const caller = frame->caller;
    // The last one mostly: recursion may be deep.
    for (size_t i = warp.frames.size() - 1; i > 0; --i) {
      if (warp.frames[i].get() != frame) continue;
      ChargeFrames(warp, -static_cast<int64_t>(frame->storage.size()));
      if (warp.free_frames.size() < kMaxFreeFrames)
        warp.free_frames.push_back(std::move(warp.frames[i]));
      warp.frames.erase(warp.frames.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    frame = caller;
  }
}

}  // namespace

void SplitGroup(Warp& warp, uint32_t lanes, uint32_t pc) {
  warp.waiting.push_back({pc, lanes, warp.frame, GroupState::kReady, 0});
  ++warp.frame->references;
  warp.mask &= ~lanes;
  warp.event = Event::kReschedule;
}

void Branch(Warp& warp, const Ins& ins) {
  const uint32_t taken = warp.active;
  const uint32_t rest = warp.mask & ~taken;
  if (rest == 0) return JumpTo(warp, ins.target);
  const bool back = ins.target < warp.pc;
  SplitGroup(warp, taken, ins.target);
  if (back && --warp.budget == 0) warp.event = Event::kYield;
}

void BranchIndexed(Warp& warp, const Ins& ins) {
  const uint32_t* const index = warp.Reg<uint32_t>(ins.a);
  uint32_t left = warp.active;
  const uint32_t stay = warp.mask & ~left;
  if (stay != 0) SplitGroup(warp, stay, warp.pc);
  while (left != 0) {
    const uint32_t value = index[static_cast<uint32_t>(__builtin_ctz(left))];
    if (value >= ins.target)
      RaiseFault(warp, FaultKind::kInvalidPc, value, left, "branch index out of range");
    uint32_t same = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      same |= (left >> lane & 1) != 0 && index[lane] == value ? 1u << lane : 0;
    left &= ~same;
    const uint32_t target = warp.kernel->slots[ins.slots + value];
    if (left == 0) return JumpTo(warp, target);
    SplitGroup(warp, same, target);
  }
}

void Exit(Warp& warp, const Ins&) {
  Block& block = *warp.block;
  const uint32_t gone = warp.active;
  warp.live &= ~gone;
  warp.mask &= ~gone;
  block.live -= static_cast<uint32_t>(__builtin_popcount(gone));
  if (warp.mask == 0) {
    Release(warp, warp.frame);
    warp.event = Event::kExited;
  }
  for (uint32_t number = 0; number < block.barriers.size(); ++number) {
    if (block.barriers[number].arrived != 0) CheckBarrier(block, number);
  }
  CheckClusterBarrier(*block.cluster);
}

void Return(Warp& warp, const Ins& ins) {
  Frame* const frame = warp.frame;
  if (frame->caller == nullptr) return Exit(warp, ins);
  const uint32_t stay = warp.mask & ~warp.active;
  if (stay != 0) SplitGroup(warp, stay, warp.pc);
  Frame* const caller = frame->caller;
  ++caller->references;
  const uint32_t pc = frame->return_pc;
  Release(warp, frame);
  warp.frame = caller;
  warp.regs = caller->registers;
  warp.pc = pc;
  warp.event = Event::kReschedule;
}

Frame* PushFrame(Warp& warp, const CallSite& site, uint32_t number, uint32_t lanes) {
  const DecodedFunction& function = warp.kernel->functions[number];
  const DecodedFunction& from = warp.kernel->functions[warp.frame->function];
  if (warp.frames.size() >= std::max(kMaxFrames, warp.block->local_stride / kLeastFrame))
    RaiseFault(warp, FaultKind::kStackOverflow, 0, lanes, "too many nested calls");
  uint32_t taken = 0;  // By alloca, in the caller.
  for (uint32_t lane = 0; lane < warp.frame->stack.size(); ++lane)
    taken = std::max(taken, (lanes >> lane & 1) != 0 ? warp.frame->stack[lane] : 0);
  const uint64_t local = (uint64_t{warp.frame->local} + from.local_bytes + taken + 15) & ~15ull;
  if (local + function.local_bytes > warp.block->local_stride)
    RaiseFault(warp, FaultKind::kStackOverflow, 0, lanes, "the call stack is full");
  // What can go wrong comes before anything is held: a fault does not return.
  if (!ChargeFrames(warp, int64_t{function.frame_bytes} + 64))
    RaiseFault(warp, FaultKind::kStackOverflow, 0, lanes,
               "the registers of nested calls are too many");

  std::unique_ptr<Frame> frame;
  if (warp.free_frames.empty()) {
    frame = std::make_unique<Frame>();
  } else {
    frame = std::move(warp.free_frames.back());
    warp.free_frames.pop_back();
  }
  frame->function = number;
  frame->local = static_cast<uint32_t>(local);
  frame->stack.clear();
  frame->references = 1;
  frame->return_pc = warp.pc;
  frame->caller = warp.frame;
  frame->depth = warp.frame->depth + 1;
  frame->params = site.params;
  frame->returns = site.returns;
  for (uint32_t& offset : frame->params) offset += warp.frame->local;
  for (uint32_t& offset : frame->returns) offset += warp.frame->local;
  frame->storage.resize(function.frame_bytes + 64);
  frame->registers = reinterpret_cast<std::byte*>(
      (reinterpret_cast<uintptr_t>(frame->storage.data()) + 63) & ~uintptr_t{63});
  std::copy(function.constant_image.begin(), function.constant_image.end(),
            frame->registers + function.constants);
  warp.frames.push_back(std::move(frame));
  return warp.frames.back().get();
}

void CallFunction(Warp& warp, const Ins& ins) {
  const uint32_t stay = warp.mask & ~warp.active;
  if (stay != 0) SplitGroup(warp, stay, warp.pc);
  const CallSite& site = warp.kernel->calls[ins.target];
  // The group's reference to the caller becomes the callee's.
  Frame* const frame = PushFrame(warp, site, site.function, warp.mask);
  warp.frame = frame;
  warp.regs = frame->registers;
  warp.pc = warp.kernel->functions[site.function].entry;
  warp.event = Event::kReschedule;
}

void Trap(Warp& warp, const Ins&) {
  RaiseFault(warp, FaultKind::kTrap, 0, warp.active, "trap");
}

void Yield(Warp& warp, const Ins&) {
  warp.event = Event::kYield;
}

}  // namespace farwarp::softgpu
