#include "server/softgpu/exec/guard.h"

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <mutex>
#include <new>

#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/memory/page_move.h"
#include "server/softgpu/warp/access.h"

namespace farwarp::softgpu {
namespace {

// The mask need not be saved: the handler is installed with SA_NODEFER, so that the signal stays
// deliverable. The thread sanitizer puts a handler of its own in front that blocks all signals.
#if defined(__has_feature)
constexpr int kSaveMask = __has_feature(thread_sanitizer);
#else
constexpr int kSaveMask = 0;
#endif

struct ThreadState {
  sigjmp_buf back;
  Warp* warp = nullptr;
  FaultKind kind = FaultKind::kNone;
  uint64_t address = 0;
  uint32_t lanes = 0;
  const char* what = "";
};
thread_local ThreadState state;

// The state of a thread that is inside a guard; what the signal handler looks at. Of the
// initial-exec model, because any other access to a thread-local variable may allocate memory,
// which a handler in a foreign thread must not do.
[[gnu::tls_model("initial-exec")]] thread_local ThreadState* volatile inside = nullptr;
// Set while a signal is with the handler that was there before.
[[gnu::tls_model("initial-exec")]] thread_local volatile sig_atomic_t passing_on = 0;

// What was installed before this library came, and what was installed last. The second may pass on
// to our handler, which is then to go to the first.
struct Before {
  struct sigaction first;
  struct sigaction last;
};
Before before_segv;
Before before_bus;
uint64_t space_base = 0;
uint64_t space_mask = ~uint64_t{0};

// As the system would have called it, but on the stack that is in use.
void CallHandler(const struct sigaction& action, int number, siginfo_t* info, void* context) {
  sigset_t mask = action.sa_mask;
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, number);
  // The old mask comes back when the signal's own frame is left.
  pthread_sigmask(SIG_BLOCK, &mask, nullptr);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(number, info, context);
  } else {
    action.sa_handler(number);
  }
}

void PassOn(int number, siginfo_t* info, void* context) {
  const bool sent = info->si_code <= 0;
  Before& before = number == SIGBUS ? before_bus : before_segv;
  const struct sigaction action = passing_on != 0 ? before.first : before.last;
  const bool handler = (action.sa_flags & SA_SIGINFO) != 0 ||
                       (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
  if (handler) {
    if ((static_cast<unsigned>(action.sa_flags) & SA_RESETHAND) != 0) {
      before.first.sa_flags = before.last.sa_flags = 0;
      before.first.sa_handler = before.last.sa_handler = SIG_DFL;
    }
    const sig_atomic_t outer = passing_on;
    passing_on = 1;
    CallHandler(action, number, info, context);
    passing_on = outer;
    return;
  }
  // One that a process sent may be ignored; a fault that is ignored would be for ever.
  if (sent && action.sa_handler == SIG_IGN) return;
  ::signal(number, SIG_DFL);
  if (sent) ::raise(number);
}

void OnSignal(int number, siginfo_t* info, void* context) {
  // One that was sent by a process is no access of the kernel's, wherever it arrives, and neither
  // is one outside the address space, since accesses are checked: that is a fault of the program's.
  const bool sent = info->si_code <= 0;
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  ThreadState* const mine = inside;
  if (mine != nullptr && !sent && (address & space_mask) == space_base) {
    if (PageMove::WasMoved(address)) return;  // To the same access again.
    mine->kind = FaultKind::kIllegalAddress;
    mine->address = address;
    mine->lanes = 0;
    mine->what = "illegal address";
    siglongjmp(mine->back, 1);
  }
  const int saved = errno;
  PassOn(number, info, context);
  errno = saved;
}

Dim3 ThreadOf(const Block& block, uint32_t thread) {
  const Dim3& dim = block.request->block;
  return {thread % dim.x, thread / dim.x % dim.y, thread / dim.x / dim.y};
}

std::string Text(const Dim3& d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

// The note of the instruction that the warp was at, null if it is not known.
const SourceNote* NoteAt(const DecodedKernel& kernel, uint32_t ins) {
  const auto behind =
      std::upper_bound(kernel.notes.begin(), kernel.notes.end(), ins,
                       [](uint32_t number, const SourceNote& note) { return number < note.ins; });
  return behind == kernel.notes.begin() ? nullptr : &*std::prev(behind);
}

// The lane whose access the processor refused: one whose address is the one that it named.
uint32_t LaneAt(Warp& warp, const Ins& ins, const SourceNote& note, uint64_t address) {
  if (note.access == AccessKind::kNone) return 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) != 0 && address - AddressOfLane(warp, ins, lane) < note.bytes) {
      return 1u << lane;
    }
  }
  return 0;
}

// ": 'st.global.f32 [%rd1], %f1' writes 4 bytes of global memory"
std::string InstructionText(const SourceNote& note) {
  std::string text = ": '" + std::string(note.text) + "'";
  const char* const verb = note.access == AccessKind::kRead    ? " reads "
                           : note.access == AccessKind::kWrite ? " writes "
                                                               : " updates ";
  if (note.access != AccessKind::kNone)
    text += verb + std::to_string(note.bytes) + " bytes of " + note.space + " memory";
  return text;
}

void Describe(Block& block) {
  Fault& fault = block.fault;
  fault.kind = state.kind;
  fault.kernel = block.kernel->name;
  fault.block = block.id;
  fault.address = state.address;
  const SourceNote* note = nullptr;
  if (state.warp != nullptr) {
    Warp& warp = *state.warp;
    // The program counter already points behind the instruction.
    const uint32_t at = warp.pc == 0 ? 0 : warp.pc - 1;
    const Ins& ins = block.kernel->code[at];
    fault.ptx_line = ins.line;
    note = NoteAt(*block.kernel, at);
    if (note != nullptr && note->access != AccessKind::kNone)
      fault.device_address = std::strcmp(note->space, "shared") != 0;
    uint32_t lanes = state.lanes;
    if (lanes == 0 && note != nullptr) lanes = LaneAt(warp, ins, *note, state.address);
    if (lanes == 0) lanes = warp.active;
    const auto lane = lanes == 0 ? 0u : static_cast<uint32_t>(__builtin_ctz(lanes));
    fault.thread = ThreadOf(block, warp.index * kLanes + lane);
  }
  char address[32];
  std::snprintf(address, sizeof address, "0x%llx", static_cast<unsigned long long>(fault.address));
  fault.text = std::string(state.what) + " " + address + " in kernel " + fault.kernel + ", block " +
               Text(fault.block) + ", thread " + Text(fault.thread) + ", ptx line " +
               std::to_string(fault.ptx_line);
  if (note != nullptr) fault.text += InstructionText(*note);
}

}  // namespace

void SetCurrentWarp(Warp* warp) noexcept {
  state.warp = warp;
}

void RaiseFault(Warp& warp, FaultKind kind, uint64_t address, uint32_t lanes, const char* what) {
  state.warp = &warp;
  state.kind = kind;
  state.address = address;
  state.lanes = lanes;
  state.what = what;
  siglongjmp(state.back, 1);
}

StepResult GuardedStep(Block& block) {
  if (sigsetjmp(state.back, kSaveMask) != 0) {
    inside = nullptr;
    Describe(block);
    return StepResult::kFinished;
  }
  StepResult result = StepResult::kFinished;
  inside = &state;
  try {
    result = StepBlock(block);
  } catch (const std::bad_alloc&) {
    inside = nullptr;
    block.fault.kind = FaultKind::kOutOfMemory;
    block.fault.kernel = block.kernel->name;
    block.fault.block = block.id;
    block.fault.text = "no memory to run a block of " + block.fault.kernel;
  }
  inside = nullptr;
  return result;
}

bool InGuard() noexcept {
  return inside != nullptr;
}

Status InstallFaultHandlers() {
  static std::mutex mutex;
  static bool installed = false;
  const std::lock_guard lock(mutex);
  if (!installed) {
    const Result<AddressSpace*> space = AddressSpace::Get();
    if (!space.ok()) return space.status();
    space_base = (*space)->base();
    space_mask = (*space)->mask();
  }
  for (const int number : {SIGSEGV, SIGBUS}) {
    struct sigaction current{};
    if (::sigaction(number, nullptr, &current) != 0) continue;
    if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == OnSignal) continue;
    // Remembered before ours is installed: it may be needed at once in another thread.
    Before& before = number == SIGBUS ? before_bus : before_segv;
    if (!installed) before.first = current;
    before.last = current;
    struct sigaction action{};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    ::sigaction(number, &action, nullptr);
  }
  installed = true;
  return Status::Ok();
}

}  // namespace farwarp::softgpu
