#include "server/softgpu/exec/guard.h"

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <mutex>

namespace farwarp::softgpu {
namespace {

struct ThreadState {
  sigjmp_buf back;
  volatile sig_atomic_t inside = 0;
  Warp* warp = nullptr;
  FaultKind kind = FaultKind::kNone;
  uint64_t address = 0;
  uint32_t lanes = 0;
  const char* what = "";
};
thread_local ThreadState state;

struct sigaction old_segv;
struct sigaction old_bus;

void OnSignal(int number, siginfo_t* info, void* context) {
  // One that was sent by a process is no access of the kernel's, wherever it arrives.
  const bool sent = info->si_code <= 0;
  if (state.inside != 0 && !sent) {
    state.kind = FaultKind::kIllegalAddress;
    state.address = reinterpret_cast<uint64_t>(info->si_addr);
    state.lanes = 0;
    state.what = "illegal address";
    siglongjmp(state.back, 1);
  }
  const struct sigaction& old = number == SIGBUS ? old_bus : old_segv;
  if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr)
    return old.sa_sigaction(number, info, context);
  if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) return old.sa_handler(number);
  // Not ours and nobody else's: let it happen again with the default action.
  ::signal(number, SIG_DFL);
  if (sent) ::raise(number);
}

Dim3 ThreadOf(const Block& block, uint32_t thread) {
  const Dim3& dim = block.request->block;
  return {thread % dim.x, thread / dim.x % dim.y, thread / dim.x / dim.y};
}

std::string Text(const Dim3& d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

void Describe(Block& block) {
  Fault& fault = block.fault;
  fault.kind = state.kind;
  fault.kernel = block.kernel->name;
  fault.block = block.id;
  fault.address = state.address;
  if (state.warp != nullptr) {
    const Warp& warp = *state.warp;
    // The program counter already points behind the instruction.
    fault.ptx_line = block.kernel->code[warp.pc == 0 ? 0 : warp.pc - 1].line;
    const uint32_t lanes = state.lanes != 0 ? state.lanes : warp.active;
    const auto lane = lanes == 0 ? 0u : static_cast<uint32_t>(__builtin_ctz(lanes));
    fault.thread = ThreadOf(block, warp.index * kLanes + lane);
  }
  char address[32];
  std::snprintf(address, sizeof address, "0x%llx", static_cast<unsigned long long>(fault.address));
  fault.text = std::string(state.what) + " " + address + " in kernel " + fault.kernel + ", block " +
               Text(fault.block) + ", thread " + Text(fault.thread) + ", ptx line " +
               std::to_string(fault.ptx_line);
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
  // The mask is not saved: the handler is installed with SA_NODEFER, so that the signal stays
  // deliverable.
  if (sigsetjmp(state.back, 0) != 0) {
    state.inside = 0;
    Describe(block);
    return StepResult::kFinished;
  }
  state.inside = 1;
  const StepResult result = StepBlock(block);
  state.inside = 0;
  return result;
}

void InstallFaultHandlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    ::sigaction(SIGSEGV, &action, &old_segv);
    ::sigaction(SIGBUS, &action, &old_bus);
  });
}

}  // namespace farwarp::softgpu
