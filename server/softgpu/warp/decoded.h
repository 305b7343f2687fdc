// The decoded form: what the interpreter runs, and a later compiler would start from. Everything
// that can be known before a launch is resolved: registers are byte offsets into a frame, constants
// lie in the frame, names are addresses, labels are instruction numbers. Built once per kernel,
// then constant and shared by all threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/softgpu/warp/matrix_layout.h"

namespace farwarp::softgpu {

struct Warp;
struct Ins;
using Handler = void (*)(Warp& warp, const Ins& ins);

inline constexpr uint32_t kNoSlot = ~uint32_t{0};
inline constexpr uint32_t kLanes = 32;

// How an instruction uses memory.
enum class AccessKind : uint8_t { kNone, kRead, kWrite, kAtomic };

struct alignas(64) Ins {
  Handler run = nullptr;
  uint32_t d = kNoSlot;  // Byte offsets of operands in the frame.
  uint32_t a = kNoSlot;
  uint32_t b = kNoSlot;
  uint32_t c = kNoSlot;
  uint32_t e = kNoSlot;      // Second result, or a fifth operand.
  uint32_t guard = kNoSlot;  // Offset of the predicate that must hold.
  uint64_t imm = 0;
  uint32_t target = 0;  // Instruction number, or index of a call site.
  uint32_t slots = 0;   // First of the elements in DecodedKernel::slots (vectors).
  uint32_t line = 0;
  bool guard_negated = false;
  bool observes = false;    // Depends on, or changes, more than registers and mbarriers.
  bool reads_time = false;  // A clock.
};
static_assert(sizeof(Ins) == 64);

// One function of the kernel's call closure; number 0 is the kernel itself.
struct DecodedFunction {
  std::string name;
  uint32_t entry = 0;        // Instruction number.
  uint32_t frame_bytes = 0;  // Registers and constants.
  uint32_t constants = 0;    // Offset of the constants in the frame; they come last.
  std::vector<std::byte> constant_image;
  uint32_t local_bytes = 0;  // Of each thread: .local and .param variables of the body.
  uint32_t local_align = 16;
  std::string refused;  // Why this function, which only pointers can reach, cannot be called.
};

// What a call through a register may reach: addresses, ascending, and numbers of functions.
using CallTargets = std::vector<std::pair<uint64_t, uint32_t>>;

// A call: where the callee's parameters and results lie in the caller's local memory.
struct CallSite {
  uint32_t function = 0;
  uint32_t targets = 0;  // Of a call through a register: index into DecodedKernel::call_targets.
  std::vector<uint32_t> params;  // Offsets in the caller's local frame.
  std::vector<uint32_t> returns;
};

// What a message says about an instruction of the text: it begins at Ins number `ins`.
struct SourceNote {
  uint32_t ins = 0;
  AccessKind access = AccessKind::kNone;
  uint32_t bytes = 0;      // Of one lane's access.
  const char* space = "";  // "global", "generic", ....
  std::string_view text;   // "st.global.f32 [%rd1], %f1", in the module's text.
};

struct DecodedKernel {
  std::string name;
  std::vector<Ins> code;
  std::vector<uint32_t> slots;
  std::vector<DecodedFunction> functions;
  std::vector<CallSite> calls;
  std::vector<MatrixForm> matrices;  // Each once; Ins::target's lower half is an index.
  std::vector<CallTargets> call_targets;
  std::vector<SourceNote> notes;  // Ascending.
  uint32_t static_shared_bytes = 0;
  bool reserved_shared = false;  // Asks where the memory is that hardware keeps for the toolkit.
  uint64_t local_bytes = 0;      // Of the kernel's own variables.
  uint64_t stack_bytes = 0;      // Of the kernel and the deepest calls, those of recursion once.
  bool open_stack = false;  // Recursion or alloca: a launch gives what the context's limit says.
  uint32_t registers = 0;   // 32-bit registers of the kernel's own, approximately.
};

}  // namespace farwarp::softgpu
