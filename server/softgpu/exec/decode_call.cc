// Calls: by name, through registers, and of what the device's runtime brings along; the stack.
#include <algorithm>

#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {
namespace {

// What the compiler expects the device to bring along.
struct RuntimeFunction {
  std::string_view name;
  Handler run;
  uint32_t params;
  uint32_t returns;
};
constexpr RuntimeFunction kRuntimeFunctions[] = {
    {"vprintf", PrintFormatted, 2, 1}, {"__assertfail", AssertFailed, 5, 0},
    {"malloc", HeapAllocate, 1, 1},    {"__cuda_syscall_aligned_malloc", HeapAllocateAligned, 2, 1},
    {"free", HeapFree, 1, 0},
};

const RuntimeFunction* FindRuntime(std::string_view name) {
  for (const RuntimeFunction& function : kRuntimeFunctions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

// The sizes of what a function takes and returns: two of the same shape can stand for each other.
std::string ShapeOf(const std::vector<Variable>& params, const std::vector<Variable>& returns) {
  std::string shape = "#";
  for (const Variable& variable : returns) shape += std::to_string(variable.bytes) + ",";
  shape += ":";
  for (const Variable& variable : params) shape += std::to_string(variable.bytes) + ",";
  return shape;
}

}  // namespace

bool IsRuntimeFunction(std::string_view name) {
  return FindRuntime(name) != nullptr;
}

// Arguments and results are .param variables of the caller; the callee finds them there.
bool FunctionDecoder::PlaceArguments(const Instruction& i, CallSite& site) {
  const auto local_of = [&](const Operand& operand) -> uint32_t {
    if (operand.kind != Operand::Kind::kName || operand.variable == kNoIndex ||
        placed_[operand.variable].place != Place::kLocal) {
      Error(operand.at, "expected a .param variable of this function");
      return 0;
    }
    return static_cast<uint32_t>(placed_[operand.variable].offset);
  };
  for (const Operand& operand : i.arguments) site.params.push_back(local_of(operand));
  for (const Operand& operand : i.returns) site.returns.push_back(local_of(operand));
  return error_.empty();
}

// The function's number in this kernel; it is decoded after those known so far.
uint32_t FunctionDecoder::NumberOf(const FunctionAst& function, bool optional) {
  // What is called by a function that may not be needed is no more needed than that.
  optional |= build_.functions[number_].optional;
  const auto [found, fresh] = build_.function_numbers.try_emplace(
      &function, static_cast<uint32_t>(build_.functions.size()));
  if (fresh) build_.functions.push_back({&function, optional});
  build_.functions[found->second].optional &= optional;
  return found->second;
}

void FunctionDecoder::CallOf(const Instruction& i) {
  const Operand& target = i.operands[0];
  CallSite site;
  if (!PlaceArguments(i, site)) return;
  if (target.kind == Operand::Kind::kRegister) return IndirectCallOf(i, std::move(site));
  if (target.kind != Operand::Kind::kName) return Error(target.at, "expected a function");
  auto callee = build_.symbols.BodyOf(target.name, ast_);
  if (!callee.ok()) {
    if (error_.empty()) error_ = callee.status().message();
    return;
  }
  if (*callee == nullptr) {
    const RuntimeFunction* runtime = FindRuntime(target.name);
    if (runtime == nullptr)
      return Error(target.at, "this function is not supported by the software GPU yet");
    if (site.params.size() != runtime->params || site.returns.size() > runtime->returns)
      return Error(i.at, "wrong number of arguments");
    kernel_.calls.push_back(std::move(site));
    Emit(i, runtime->run).target = static_cast<uint32_t>(kernel_.calls.size() - 1);
    return;
  }
  if (site.params.size() != (*callee)->params.size() ||
      site.returns.size() != (*callee)->returns.size()) {
    return Error(i.at, "the call does not match the function's parameters");
  }
  site.function = NumberOf(**callee, false);
  const auto number = static_cast<uint32_t>(kernel_.calls.size());
  kernel_.calls.push_back(std::move(site));
  Emit(i, CallFunction).target = number;
}

// call (results), %rd, (arguments), prototype or list of functions
void FunctionDecoder::IndirectCallOf(const Instruction& i, CallSite site) {
  if (i.prototype == kNoIndex && i.call_targets.empty())
    return Error(i.at, "a call through a register needs a prototype");
  if (i.prototype != kNoIndex) {
    const Prototype& prototype = ast_.prototypes[i.prototype];
    if (site.params.size() != prototype.params.size() ||
        site.returns.size() != prototype.returns.size()) {
      return Error(i.at, "the call does not match its prototype");
    }
  }
  const uint32_t a = Source(i, i.operands[0], Type::kB64);
  site.targets = TargetsOf(i);
  if (!error_.empty()) return;
  const auto number = static_cast<uint32_t>(kernel_.calls.size());
  kernel_.calls.push_back(std::move(site));
  Ins& ins = Emit(i, CallIndirect);
  ins.a = a;
  ins.target = number;
}

// What the call may reach. Calls of one shape share their set.
uint32_t FunctionDecoder::TargetsOf(const Instruction& i) {
  std::string key;
  if (i.prototype != kNoIndex) {
    const Prototype& prototype = ast_.prototypes[i.prototype];
    key = ShapeOf(prototype.params, prototype.returns);
  } else {
    key = std::to_string(ast_.unit);
    for (const std::string_view name : i.call_targets) key.append("|").append(name);
  }
  const auto [found, fresh] =
      build_.target_sets.try_emplace(key, static_cast<uint32_t>(kernel_.call_targets.size()));
  if (!fresh) return found->second;
  CallTargets targets;
  if (i.prototype != kNoIndex) {
    for (const auto& [address, function] :
         build_.symbols.FunctionsLike(ast_.prototypes[i.prototype])) {
      targets.emplace_back(address, NumberOf(*function, true));
    }
  }
  for (const std::string_view name : i.call_targets) {
    auto callee = build_.symbols.BodyOf(name, ast_);
    if (!callee.ok() || *callee == nullptr) {
      Error(i.at, "unknown function " + std::string(name) + " among the targets of a call");
      return 0;
    }
    if ((*callee)->params.size() != i.arguments.size() ||
        (*callee)->returns.size() != i.returns.size()) {
      Error(i.at, "the call does not match the parameters of " + std::string(name));
      return 0;
    }
    targets.emplace_back(build_.symbols.AddressOf(name, ast_), NumberOf(**callee, false));
  }
  std::sort(targets.begin(), targets.end());
  kernel_.call_targets.push_back(std::move(targets));
  return found->second;
}

// alloca d, bytes {, alignment}; stacksave d; stackrestore a
void FunctionDecoder::StackOf(const Instruction& i) {
  kernel_.open_stack = true;
  const Type type = i.type_count == 0 ? Type::kU64 : i.type();
  if (TypeBytes(type) != 8) return Unsupported(i);
  uint32_t a = kNoSlot;
  uint64_t align = 16;
  if (i.opcode == Opcode::kAlloca) {
    a = Source(i, i.operands[1], type);
    if (i.operands.size() > 2) {
      const Operand& wanted = i.operands[2];
      if (wanted.kind != Operand::Kind::kInteger || !std::has_single_bit(wanted.value) ||
          wanted.value > kMaxLocalBytes)
        return Error(wanted.at, "an alignment is a power of two");
      align = std::max(align, wanted.value);
    }
  } else if (i.opcode == Opcode::kStackrestore) {
    a = Source(i, i.operands[0], type);
  }
  const bool gives = i.opcode != Opcode::kStackrestore;
  const uint32_t d = gives ? Destination(i.operands[0], type) : kNoSlot;
  Ins& ins = Emit(i, i.opcode == Opcode::kAlloca      ? StackAllocate
                     : i.opcode == Opcode::kStacksave ? StackSave
                                                      : StackRestore);
  ins.d = d;
  ins.a = a;
  ins.imm = align;
}

}  // namespace farwarp::softgpu
