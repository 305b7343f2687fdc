#include "server/softgpu/exec/decoder.h"

#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>

#include "server/softgpu/warp/handlers.h"

namespace farwarp::softgpu {
namespace {

constexpr uint64_t kMaxFrameBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxLocalBytes = uint64_t{512} << 10;
constexpr uint64_t kMaxSharedBytes = uint64_t{1} << 20;

uint32_t RegisterBytes(Type type) {
  return type == Type::kPred ? 4 : std::max(2u, TypeBytes(type));
}
uint64_t AlignUp(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

// What all functions of one kernel share while it is decoded.
struct KernelBuild {
  const ModuleSymbols& symbols;
  DecodedKernel& kernel;
  std::unordered_map<std::string_view, uint32_t> function_numbers;
  std::vector<const Function*> functions;
  std::unordered_map<std::string_view, uint32_t> shared_offsets;
  uint64_t shared_bytes = 0;
  // Places of the offset of dynamic shared memory, known when all static shared memory is.
  std::vector<size_t> dynamic_in_code;
  struct DynamicConstant {
    uint32_t function;
    uint32_t offset;  // In the constant image.
    uint32_t bytes;
    uint64_t addend;
  };
  std::vector<DynamicConstant> dynamic_constants;
};

// What the compiler expects the device to bring along.
Handler RuntimeFunction(std::string_view name) {
  if (name == "vprintf") return PrintFormatted;
  if (name == "__assertfail") return AssertFailed;
  return nullptr;
}

class FunctionDecoder {
 public:
  FunctionDecoder(KernelBuild& build, const Function& function, uint32_t number)
      : build_(build), kernel_(build.kernel), ast_(function), number_(number) {}

  Status Decode() {
    out_.name = std::string(ast_.name);
    out_.entry = static_cast<uint32_t>(kernel_.code.size());
    PlaceRegisters();
    PlaceVariables();
    starts_.reserve(ast_.code.size() + 1);
    for (const Instruction& instruction : ast_.code) {
      starts_.push_back(static_cast<uint32_t>(kernel_.code.size()));
      temps_used_ = 0;
      if (!error_.empty()) return Status::Invalid(error_);
      One(instruction);
    }
    starts_.push_back(static_cast<uint32_t>(kernel_.code.size()));
    Ins end;
    end.run = Return;
    end.line = ast_.code.empty() ? ast_.at.line : ast_.code.back().at.line;
    kernel_.code.push_back(end);
    for (const auto& [instruction, label] : branches_)
      kernel_.code[instruction].target = starts_[label];
    for (const auto& [slot, label] : branch_slots_) kernel_.slots[slot] = starts_[label];
    return Finish();
  }

 private:
  enum class Place : uint8_t { kKernelParam, kFormal, kResult, kLocal, kShared };
  struct Placed {
    Place place = Place::kLocal;
    // In the parameter buffer, in the local frame or in shared memory; number of a formal.
    uint64_t offset = 0;
    bool dynamic = false;
  };

  void Error(const Token& at, std::string_view what) {
    if (error_.empty()) error_ = ErrorAt(at, what);
  }
  void Unsupported(const Instruction& i) {
    Error(i.at, std::string(InfoOf(i.opcode).name) +
                    " in this form is not supported by the software GPU");
  }

  void PlaceRegisters() {
    uint64_t offset = 0;
    slots_.reserve(ast_.registers.size());
    for (const Register& reg : ast_.registers) {
      const uint32_t bytes = reg.type == Type::kPred ? 4 : kLanes * RegisterBytes(reg.type);
      offset = AlignUp(offset, bytes < 64 ? 4 : 64);
      slots_.push_back(static_cast<uint32_t>(offset));
      offset += bytes;
      registers32_ += RegisterBytes(reg.type) / 4 + (RegisterBytes(reg.type) < 4 ? 1 : 0);
    }
    frame_bytes_ = AlignUp(offset, 64);
  }

  void PlaceVariables() {
    uint64_t local = 0;
    for (size_t i = 0; i < ast_.variables.size(); ++i) {
      const Variable& variable = ast_.variables[i];
      Placed placed;
      if (i < ast_.params.size()) {
        if (ast_.is_entry) {
          param_bytes_ = AlignUp(param_bytes_, variable.align);
          placed = {Place::kKernelParam, param_bytes_, false};
          param_bytes_ += variable.bytes;
        } else {
          placed = {Place::kFormal, i, false};
        }
      } else if (i < ast_.params.size() + ast_.returns.size()) {
        placed = {Place::kResult, i - ast_.params.size(), false};
      } else if (variable.space == Space::kShared) {
        placed = PlaceShared(variable);
      } else {
        local = AlignUp(local, std::max(1u, variable.align));
        placed = {Place::kLocal, local, false};
        local += variable.bytes;
        if (local > kMaxLocalBytes) return Error(variable.at, "too much local memory");
      }
      placed_.push_back(placed);
    }
    local_bytes_ = AlignUp(local, 16);
  }

  Placed PlaceShared(const Variable& variable) {
    Placed placed{Place::kShared, 0, variable.bytes == 0};
    if (placed.dynamic) return placed;
    build_.shared_bytes = AlignUp(build_.shared_bytes, std::max(1u, variable.align));
    placed.offset = build_.shared_bytes;
    build_.shared_bytes += variable.bytes;
    if (build_.shared_bytes > kMaxSharedBytes) Error(variable.at, "too much shared memory");
    return placed;
  }

  // The module-scope shared variable of that name, placed once per kernel.
  Placed SharedByName(const Variable& variable) {
    if (variable.bytes == 0) return {Place::kShared, 0, true};
    const auto found = build_.shared_offsets.find(variable.name);
    if (found != build_.shared_offsets.end()) return {Place::kShared, found->second, false};
    const Placed placed = PlaceShared(variable);
    build_.shared_offsets[variable.name] = static_cast<uint32_t>(placed.offset);
    return placed;
  }

  uint32_t Temp() {
    if (temps_used_ == temps_.size()) {
      temps_.push_back(static_cast<uint32_t>(frame_bytes_));
      frame_bytes_ += kLanes * 16;  // Of any type.
    }
    return temps_[temps_used_++];
  }

  // A slot that holds the same value in all lanes.
  uint32_t Constant(uint64_t value, uint32_t bytes, bool predicate = false) {
    const auto key = std::pair(value, predicate ? 1u : bytes);
    if (const auto found = constants_.find(key); found != constants_.end()) return found->second;
    const uint32_t slot = NewConstant(value, bytes, predicate);
    constants_[key] = slot;
    return slot;
  }
  uint32_t NewConstant(uint64_t value, uint32_t bytes, bool predicate) {
    while (image_.size() % 64 != 0) image_.push_back(std::byte{});
    const size_t at = image_.size();
    if (at > kMaxFrameBytes) return Error(ast_.at, "too many constants"), 0u;
    const uint32_t copies = predicate ? 1 : kLanes;
    image_.resize(at + size_t{bytes} * copies);
    for (uint32_t i = 0; i < copies; ++i)
      std::memcpy(image_.data() + at + size_t{i} * bytes, &value, std::min(bytes, 8u));
    return static_cast<uint32_t>(kConstantFlag | at);
  }

  Ins& Emit(const Instruction& i, Handler run) {
    Ins ins;
    ins.run = run;
    ins.line = i.at.line;
    if (i.guard != kNoIndex) {
      ins.guard = slots_[i.guard];
      ins.guard_negated = i.guard_negated;
    }
    kernel_.code.push_back(ins);
    return kernel_.code.back();
  }
  // An auxiliary instruction in front of the real one, never guarded; writes a temporary.
  Ins& EmitHelper(const Instruction& i, Handler run, uint32_t slot) {
    Ins ins;
    ins.run = run;
    ins.line = i.at.line;
    ins.d = slot;
    kernel_.code.push_back(ins);
    return kernel_.code.back();
  }

  // Where a name lives; false if the name is unknown.
  bool FindPlace(const Operand& operand, Placed* placed) {
    if (operand.variable != kNoIndex) {
      *placed = placed_[operand.variable];
      return true;
    }
    if (const Variable* shared = build_.symbols.SharedVariable(operand.name)) {
      *placed = SharedByName(*shared);
      return true;
    }
    return false;
  }

  // The slot of an address-valued name.
  uint32_t AddressSlot(const Instruction& i, const Operand& operand, uint32_t bytes) {
    Placed placed;
    if (FindPlace(operand, &placed)) {
      if (placed.place == Place::kShared) {
        const uint64_t value = placed.offset + operand.value;
        if (!placed.dynamic) return Constant(value, bytes);
        const uint32_t slot = NewConstant(0, bytes, false);
        build_.dynamic_constants.push_back({number_, slot & ~kConstantFlag, bytes, operand.value});
        return slot;
      }
      const uint32_t temp = Temp();
      EmitAddress(i, placed, operand.value, temp);
      return temp;
    }
    if (const uint64_t address = build_.symbols.AddressOf(operand.name); address != 0) {
      return Constant(address + operand.value, bytes);
    }
    if (operand.name == "WARP_SZ") return Constant(kLanes, bytes);
    Error(operand.at, "unknown name");
    return 0;
  }

  void EmitAddress(const Instruction& i, const Placed& placed, uint64_t offset, uint32_t slot) {
    const bool formal = placed.place == Place::kFormal || placed.place == Place::kResult;
    const Handler run = placed.place == Place::kKernelParam ? AddressOfParam
                        : formal                            ? AddressOfFormal
                                                            : AddressOfLocal;
    Ins& ins = EmitHelper(i, run, slot);
    ins.imm = formal ? offset : placed.offset + offset;
    if (formal)
      ins.target =
          static_cast<uint32_t>(placed.offset) | (placed.place == Place::kResult ? 0x8000u : 0);
  }

  // The slot of a source operand of `type`.
  uint32_t Source(const Instruction& i, const Operand& operand, Type type) {
    const uint32_t bytes = RegisterBytes(type);
    switch (operand.kind) {
      case Operand::Kind::kRegister: {
        const Type have = ast_.registers[operand.reg].type;
        if ((have == Type::kPred) != (type == Type::kPred) || RegisterBytes(have) != bytes) {
          Error(operand.at, "register of another size than the instruction's type");
        }
        return slots_[operand.reg];
      }
      case Operand::Kind::kInteger:
        if (type == Type::kPred) return Constant(operand.value != 0 ? ~0u : 0, 4, true);
        return Constant(Truncate(operand.value, bytes), bytes);
      case Operand::Kind::kFloat32:
        return Constant(operand.value, bytes);
      case Operand::Kind::kFloat64:
        if (bytes == 4)
          return Constant(
              std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(operand.value))), 4);
        return Constant(operand.value, bytes);
      case Operand::Kind::kName:
        if (!operand.name.empty() && operand.name[0] == '%') {
          const Handler special = FindSpecial(operand.name, bytes);
          if (special == nullptr) {
            Error(operand.at, "unknown register");
            return 0;
          }
          const uint32_t temp = Temp();
          EmitHelper(i, special, temp);
          return temp;
        }
        return AddressSlot(i, operand, bytes);
      default:
        Error(operand.at, "this operand is not allowed here");
        return 0;
    }
  }
  static uint64_t Truncate(uint64_t value, uint32_t bytes) {
    return bytes >= 8 ? value : value & ((uint64_t{1} << (8 * bytes)) - 1);
  }

  uint32_t Destination(const Operand& operand, Type type) {
    if (operand.kind == Operand::Kind::kSink) return Temp();
    if (operand.kind != Operand::Kind::kRegister) {
      Error(operand.at, "the destination must be a register");
      return 0;
    }
    const Type have = ast_.registers[operand.reg].type;
    if ((have == Type::kPred) != (type == Type::kPred) ||
        RegisterBytes(have) != RegisterBytes(type)) {
      Error(operand.at, "register of another size than the instruction's type");
    }
    return slots_[operand.reg];
  }
  uint32_t RegisterWidth(const Operand& operand, Type otherwise) const {
    return operand.kind == Operand::Kind::kRegister
               ? RegisterBytes(ast_.registers[operand.reg].type)
               : RegisterBytes(otherwise);
  }

  // Base, offset and base width of a memory instruction.
  struct Address {
    uint32_t base = kNoSlot;
    uint64_t offset = 0;
    uint32_t width = 2;  // handlers_memory.cc: 0 64-bit, 1 32-bit, 2 none
    bool dynamic = false;
    bool shared = false;
    bool kernel_param = false;
  };
  Address Resolve(const Instruction& i, const Operand& operand) {
    Address address;
    address.offset = operand.value;
    if (operand.kind != Operand::Kind::kAddress) {
      Error(operand.at, "expected an address in brackets");
      return address;
    }
    if (operand.reg != kNoIndex) {
      const uint32_t bytes = RegisterBytes(ast_.registers[operand.reg].type);
      if (bytes != 4 && bytes != 8) Error(operand.at, "an address register has 32 or 64 bits");
      address.base = slots_[operand.reg];
      address.width = bytes == 8 ? 0 : 1;
      return address;
    }
    if (operand.name.empty()) return address;
    Placed placed;
    if (FindPlace(operand, &placed)) {
      if (placed.place == Place::kShared) {
        address.offset += placed.offset;
        address.dynamic = placed.dynamic;
        address.shared = true;
        return address;
      }
      if (placed.place == Place::kKernelParam) {
        address.offset += placed.offset;
        address.kernel_param = true;
        return address;
      }
      address.base = Temp();
      EmitAddress(i, placed, operand.value, address.base);
      address.offset = 0;
      address.width = 0;
      return address;
    }
    const uint64_t global = build_.symbols.AddressOf(operand.name);
    if (global == 0) Error(operand.at, "unknown variable");
    address.offset += global;
    return address;
  }
  static void Fill(Ins& ins, const Address& address) {
    ins.a = address.base;
    ins.imm = address.offset;
    ins.target = address.width << 16 | (ins.target & 0xffff);
  }
  void NoteDynamic(const Address& address) {
    if (address.dynamic) build_.dynamic_in_code.push_back(kernel_.code.size() - 1);
  }

  static Space SpaceOf(const Instruction& i) {
    if (i.Has(Mod::kShared) || i.Has(Mod::kSharedCta) || i.Has(Mod::kSharedCluster))
      return Space::kShared;
    return Space::kGeneric;
  }
  static uint32_t VectorOf(const Instruction& i) {
    return i.Has(Mod::kV8) ? 8 : i.Has(Mod::kV4) ? 4 : i.Has(Mod::kV2) ? 2 : 1;
  }

  void One(const Instruction& i);
  void Memory(const Instruction& i, bool load);
  void Atomic(const Instruction& i);
  void AsyncCopyOf(const Instruction& i);
  void MoveOf(const Instruction& i);
  void VectorMove(const Instruction& i, const Operand& vector, const Operand& whole, bool pack);
  void ConvertOf(const Instruction& i);
  void AddressConvert(const Instruction& i);
  void CompareOf(const Instruction& i);
  void Arithmetic(const Instruction& i, Handler run);
  void Collective(const Instruction& i);
  void BarrierOf(const Instruction& i);
  void CallOf(const Instruction& i);
  void BranchOf(const Instruction& i);
  static Handler WithoutOperands(Opcode opcode);
  Type OperandType(const Instruction& i, size_t index) const;
  Status Finish();

  static constexpr uint32_t kConstantFlag = 0x80000000u;

  KernelBuild& build_;
  DecodedKernel& kernel_;
  const Function& ast_;
  const uint32_t number_;
  DecodedFunction out_;
  std::vector<uint32_t> slots_;
  std::vector<Placed> placed_;
  std::vector<uint32_t> starts_;
  std::vector<std::pair<size_t, uint32_t>> branches_;
  std::vector<std::pair<size_t, uint32_t>> branch_slots_;
  std::map<std::pair<uint64_t, uint32_t>, uint32_t> constants_;
  std::vector<size_t> masks_;  // Instructions whose imm is a slot.
  std::vector<std::pair<uint32_t, uint32_t>> vector_uses_;
  std::vector<std::byte> image_;
  std::vector<uint32_t> temps_;
  size_t temps_used_ = 0;
  uint64_t frame_bytes_ = 0;
  uint64_t local_bytes_ = 0;
  uint64_t param_bytes_ = 0;  // Of an entry.
  uint32_t registers32_ = 0;
  std::string error_;
};

// The type that determines the width of operand `index` (0 is the destination).
Type FunctionDecoder::OperandType(const Instruction& i, size_t index) const {
  const Type type = i.type();
  switch (i.opcode) {
    case Opcode::kMul:
    case Opcode::kMad:
      if (i.Has(Mod::kWide) && (index == 0 || index == 3))
        return TypeBytes(type) == 2 ? Type::kB32 : Type::kB64;
      return type;
    case Opcode::kShl:
    case Opcode::kShr:
      return index == 2 ? Type::kB32 : type;
    case Opcode::kBfe:
      return index >= 2 ? Type::kB32 : type;
    case Opcode::kBfi:
      return index >= 3 ? Type::kB32 : type;
    case Opcode::kPopc:
    case Opcode::kClz:
    case Opcode::kBfind:
      return index == 0 ? Type::kB32 : type;
    case Opcode::kSelp:
      return index == 3 ? Type::kPred : type;
    case Opcode::kSlct:
      return index == 3 ? i.types[1] : type;
    case Opcode::kDp4a:
    case Opcode::kDp2a:
      return Type::kB32;
    case Opcode::kTestp:
      return index == 0 ? Type::kPred : type;
    default:
      return type;
  }
}

void FunctionDecoder::Arithmetic(const Instruction& i, Handler run) {
  if (run == nullptr) return Unsupported(i);
  uint32_t source[4] = {kNoSlot, kNoSlot, kNoSlot, kNoSlot};
  for (size_t k = 1; k < i.operands.size() && k < 5; ++k)
    source[k - 1] = Source(i, i.operands[k], OperandType(i, k));
  const uint32_t d = Destination(i.operands[0], OperandType(i, 0));
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = source[0];
  ins.b = source[1];
  ins.c = source[2];
  ins.e = source[3];
}

void FunctionDecoder::Memory(const Instruction& i, bool load) {
  const Operand& value = i.operands[load ? 0 : 1];
  const Address address = Resolve(i, i.operands[load ? 1 : 0]);
  const uint32_t count = VectorOf(i);
  std::vector<uint32_t> elements;
  const Operand& first =
      value.kind == Operand::Kind::kVector && !value.elements.empty() ? value.elements[0] : value;
  // A sink has no width; the first real element has.
  uint32_t width = RegisterWidth(first, i.type());
  for (const Operand& element : value.elements) {
    if (element.kind == Operand::Kind::kRegister) width = RegisterWidth(element, i.type());
  }
  const auto slot_of = [&](const Operand& operand) -> uint32_t {
    if (operand.kind == Operand::Kind::kSink) return kNoSlot;
    if (operand.kind == Operand::Kind::kRegister) {
      if (RegisterWidth(operand, i.type()) != width || width < TypeBytes(i.type()))
        Error(operand.at, "register of the wrong size");
      return slots_[operand.reg];
    }
    if (width != RegisterBytes(i.type())) Error(operand.at, "operand of another size");
    return load ? Destination(operand, i.type()) : Source(i, operand, i.type());
  };
  if (count > 1) {
    if (value.kind != Operand::Kind::kVector || value.elements.size() != count)
      return Error(i.at, "expected a vector of registers");
    for (const Operand& element : value.elements) elements.push_back(slot_of(element));
  } else {
    const bool braced = value.kind == Operand::Kind::kVector && value.elements.size() == 1;
    elements.push_back(slot_of(braced ? value.elements[0] : value));
    if (elements[0] == kNoSlot) elements[0] = Temp();
  }
  if (!error_.empty()) return;
  Space space = SpaceOf(i);
  if (address.shared) space = Space::kShared;
  const bool from_params = load && address.kernel_param;
  if (address.kernel_param && !load) return Error(i.at, "kernel parameters cannot be written");
  if (from_params && (address.offset > param_bytes_ ||
                      uint64_t{TypeBytes(i.type())} * count > param_bytes_ - address.offset))
    return Error(i.at, "outside the kernel's parameters");
  const Handler run = from_params ? FindParamLoad(i.type(), width)
                      : load      ? FindLoad(space, i.type(), width)
                                  : FindStore(space, i.type(), width);
  if (run == nullptr) return Unsupported(i);
  if (i.Has(Mod::kRelease) || i.Has(Mod::kSc)) EmitHelper(i, Fence, kNoSlot);
  const auto slots = static_cast<uint32_t>(kernel_.slots.size());
  if (count > 1) kernel_.slots.insert(kernel_.slots.end(), elements.begin(), elements.end());
  Ins& ins = Emit(i, run);
  ins.d = elements[0];
  ins.slots = slots;
  ins.target = count;
  Fill(ins, address);
  NoteDynamic(address);
  if (count > 1) vector_uses_.emplace_back(slots, count);
  if (i.Has(Mod::kAcquire)) EmitHelper(i, Fence, kNoSlot);
}

void FunctionDecoder::Atomic(const Instruction& i) {
  const bool returns = i.opcode == Opcode::kAtom;
  const size_t at = returns ? 1 : 0;
  const Address address = Resolve(i, i.operands[at]);
  const Space space = address.shared ? Space::kShared : SpaceOf(i);
  const Handler run = address.kernel_param ? nullptr : FindAtomic(i, space);
  if (run == nullptr) return Unsupported(i);
  const uint32_t b = Source(i, i.operands[at + 1], i.type());
  const uint32_t c = i.Has(Mod::kCas) ? Source(i, i.operands[at + 2], i.type()) : kNoSlot;
  const uint32_t d = returns ? Destination(i.operands[0], i.type()) : kNoSlot;
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.b = b;
  ins.c = c;
  Fill(ins, address);
  NoteDynamic(address);
}

// cp.async.ca.shared.global [to], [from], bytes {, source bytes}
void FunctionDecoder::AsyncCopyOf(const Instruction& i) {
  if (i.Has(Mod::kBulk) || i.Has(Mod::kMbarrier) || i.Has(Mod::kTensor) || i.Has(Mod::kReduce))
    return Unsupported(i);
  if (i.operands.size() < 3) {
    Emit(i, Nothing);  // commit_group, wait_group: the copy is complete when it is issued.
    return;
  }
  const Address to = Resolve(i, i.operands[0]);
  const Address from = Resolve(i, i.operands[1]);
  uint32_t b = from.base;
  if (from.width != 0 || from.offset != 0) {
    Operand plain = i.operands[1];
    if (plain.reg != kNoIndex && from.width == 0) {
      b = Temp();
      Instruction add;
      add.opcode = Opcode::kAdd;
      add.types[0] = Type::kU64;
      add.at = i.at;
      Ins& ins = EmitHelper(i, FindInteger(add), b);
      ins.a = from.base;
      ins.b = Constant(from.offset, 8);
    } else if (plain.reg == kNoIndex) {
      b = Constant(from.offset, 8);
    } else {
      return Unsupported(i);
    }
  }
  if (i.operands[2].kind != Operand::Kind::kInteger) return Unsupported(i);
  const uint64_t bytes = i.operands[2].value;
  if (bytes != 4 && bytes != 8 && bytes != 16)
    return Error(i.at, "cp.async copies 4, 8 or 16 bytes");
  const uint32_t c = i.operands.size() > 3 ? Source(i, i.operands[3], Type::kB32) : kNoSlot;
  Ins& ins = Emit(i, AsyncCopy);
  ins.b = b;
  ins.c = c;
  ins.target = static_cast<uint32_t>(bytes);
  Fill(ins, to);
  NoteDynamic(to);
}

void FunctionDecoder::VectorMove(const Instruction& i, const Operand& vector, const Operand& whole,
                                 bool pack) {
  const auto count = static_cast<uint32_t>(vector.elements.size());
  const uint32_t bytes = TypeBytes(i.type());
  if (count == 0 || bytes % count != 0 || bytes / count < 2 || bytes > 16) return Unsupported(i);
  const Type part = bytes / count == 2 ? Type::kB16 : bytes / count == 4 ? Type::kB32 : Type::kB64;
  std::vector<uint32_t> elements;
  for (const Operand& element : vector.elements) {
    elements.push_back(pack                                   ? Source(i, element, part)
                       : element.kind == Operand::Kind::kSink ? kNoSlot
                                                              : Destination(element, part));
  }
  const uint32_t other = pack ? Destination(whole, i.type()) : Source(i, whole, i.type());
  const auto slots = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), elements.begin(), elements.end());
  vector_uses_.emplace_back(slots, count);
  Ins& ins = Emit(i, pack ? Pack : Unpack);
  ins.d = pack ? other : kNoSlot;
  ins.a = pack ? kNoSlot : other;
  ins.slots = slots;
  ins.target = count;
  ins.imm = bytes / count;
}

void FunctionDecoder::MoveOf(const Instruction& i) {
  const Operand& to = i.operands[0];
  const Operand& from = i.operands[1];
  if (to.kind == Operand::Kind::kVector) return VectorMove(i, to, from, false);
  if (from.kind == Operand::Kind::kVector) return VectorMove(i, from, to, true);
  // Special registers and local addresses go straight to the destination.
  if (from.kind == Operand::Kind::kName && !from.name.empty() && from.name[0] == '%') {
    const uint32_t d = Destination(to, i.type());
    const Handler special = FindSpecial(from.name, RegisterBytes(i.type()));
    if (special == nullptr) return Error(from.at, "unknown register");
    Emit(i, special).d = d;
    return;
  }
  Arithmetic(i, FindLogic(i));
}

void FunctionDecoder::ConvertOf(const Instruction& i) {
  const uint32_t from = RegisterWidth(i.operands[1], i.types[1]);
  const uint32_t to = RegisterWidth(i.operands[0], i.types[0]);
  const Handler run = FindConvert(i, from, to);
  if (run == nullptr) return Unsupported(i);
  const auto typed = [](uint32_t bytes) {
    return bytes == 2 ? Type::kB16 : bytes == 4 ? Type::kB32 : Type::kB64;
  };
  const bool pair = i.operands.size() == 3;
  const uint32_t a = Source(i, i.operands[1], pair ? i.types[1] : typed(from));
  const uint32_t b = pair ? Source(i, i.operands[2], i.types[1]) : kNoSlot;
  const uint32_t d = Destination(i.operands[0], pair ? Type::kB32 : typed(to));
  const bool integral =
      i.Has(Mod::kRni) || i.Has(Mod::kRzi) || i.Has(Mod::kRmi) || i.Has(Mod::kRpi);
  uint32_t mode = 0;  // MXCSR rounding bits: nearest
  if (i.Has(Mod::kRz) || i.Has(Mod::kRzi)) mode = 0x6000;
  if (i.Has(Mod::kRm) || i.Has(Mod::kRmi)) mode = 0x2000;
  if (i.Has(Mod::kRp) || i.Has(Mod::kRpi)) mode = 0x4000;
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = a;
  ins.b = b;
  ins.imm = mode;
  ins.target = (i.Has(Mod::kFtz) ? 1u : 0) | (i.Has(Mod::kSat) ? 2u : 0) | (integral ? 4u : 0) |
               (i.Has(Mod::kRz) ? 8u : 0) | (i.Has(Mod::kRelu) ? 16u : 0);
}

void FunctionDecoder::AddressConvert(const Instruction& i) {
  if (i.opcode == Opcode::kIsspacep) {
    const uint32_t a = Source(i, i.operands[1], Type::kB64);
    const uint32_t d = Destination(i.operands[0], Type::kPred);
    const Handler run = SpaceOf(i) == Space::kShared ? IsSpaceShared
                        : i.Has(Mod::kLocal)         ? IsSpaceLocal
                        : i.Has(Mod::kConst)         ? IsSpaceConst
                                                     : IsSpaceGlobal;
    Ins& ins = Emit(i, run);
    ins.d = d;
    ins.a = a;
    return;
  }
  if (TypeBytes(i.type()) != 8) return Unsupported(i);
  Instruction move = i;
  move.opcode = Opcode::kMov;
  const bool shared = SpaceOf(i) == Space::kShared;
  Arithmetic(move, shared ? (i.Has(Mod::kTo) ? AddressGenericToShared : AddressSharedToGeneric)
                          : FindLogic(move));
}

void FunctionDecoder::CompareOf(const Instruction& i) {
  const Handler run = FindCompare(i);
  if (run == nullptr) return Unsupported(i);
  const bool predicates = i.opcode == Opcode::kSetp;
  const Type compared = predicates ? i.type() : i.types[1];
  const uint32_t a = Source(i, i.operands[1], compared);
  const uint32_t b = Source(i, i.operands[2], compared);
  const bool has_c = i.operands.size() > 3;
  const uint32_t c = has_c ? Source(i, i.operands[3], Type::kPred) : kNoSlot;
  uint32_t d = kNoSlot;
  uint32_t e = kNoSlot;
  const Operand& to = i.operands[0];
  if (to.kind == Operand::Kind::kPair) {
    if (to.elements[0].kind != Operand::Kind::kSink) d = Destination(to.elements[0], Type::kPred);
    if (to.elements[1].kind != Operand::Kind::kSink) e = Destination(to.elements[1], Type::kPred);
  } else {
    d = Destination(to, predicates ? Type::kPred : i.type());
  }
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.e = e;
  ins.a = a;
  ins.b = b;
  ins.c = c;
  if (has_c) {
    ins.target = i.Has(Mod::kAnd) ? 1 : i.Has(Mod::kOr) ? 2 : 3;
    ins.imm = i.operands[3].negated ? 1 : 0;
  }
  if (!predicates && i.types[0] == Type::kF32) ins.imm |= 2;
}

// shfl, vote, match, redux, elect, activemask
void FunctionDecoder::Collective(const Instruction& i) {
  Handler run = nullptr;
  size_t sources = 1;
  Type type = Type::kB32;
  switch (i.opcode) {
    case Opcode::kShfl:
      run = FindShuffle(i);
      sources = 3;
      break;
    case Opcode::kVote:
      run = FindVote(i);
      type = Type::kPred;
      break;
    case Opcode::kMatch:
      run = FindMatch(i);
      type = i.type();
      break;
    case Opcode::kRedux:
      run = FindRedux(i);
      break;
    case Opcode::kElect:
      run = Elect;
      sources = 0;
      break;
    default:
      run = ActiveMask;
      sources = 0;
      break;
  }
  if (run == nullptr) return Unsupported(i);
  uint32_t s[3] = {kNoSlot, kNoSlot, kNoSlot};
  if (i.operands.size() < 1 + sources) return Error(i.at, "operands are missing");
  for (size_t k = 0; k < sources; ++k) s[k] = Source(i, i.operands[1 + k], type);
  const bool masked = i.operands.size() > 1 + sources;
  const uint32_t mask = masked ? Source(i, i.operands[1 + sources], Type::kB32) : kNoSlot;
  const bool predicate_result = i.opcode == Opcode::kVote && !i.Has(Mod::kBallot);
  const Operand& to = i.operands[0];
  uint32_t d = kNoSlot;
  uint32_t e = kNoSlot;
  if (to.kind == Operand::Kind::kPair) {
    if (to.elements[0].kind != Operand::Kind::kSink) d = Destination(to.elements[0], Type::kB32);
    e = to.elements[1].kind == Operand::Kind::kSink ? Temp()
                                                    : Destination(to.elements[1], Type::kPred);
    if (d == kNoSlot && i.opcode != Opcode::kElect) d = Temp();
  } else {
    d = Destination(to, predicate_result ? Type::kPred : Type::kB32);
    if (i.opcode == Opcode::kElect) e = Temp();
  }
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.e = e;
  ins.a = s[0];
  ins.b = s[1];
  ins.c = s[2];
  ins.imm = mask;
  if (mask != kNoSlot) masks_.push_back(kernel_.code.size() - 1);
  if (i.opcode == Opcode::kVote) ins.target = i.operands[1].negated ? 1 : 0;
}

// bar.sync a {, b}; bar.arrive a, b; bar.red.op d, a {, b}, {!}c; bar.warp.sync mask
void FunctionDecoder::BarrierOf(const Instruction& i) {
  if (i.Has(Mod::kWarp) && i.operands.size() == 1) {
    const uint32_t mask = Source(i, i.operands[0], Type::kB32);
    Emit(i, WarpSync).a = mask;
    return;
  }
  const Handler run = FindBarrier(i);
  if (run == nullptr || i.operands.empty()) return Unsupported(i);
  const bool reduces = i.Has(Mod::kRed);
  const size_t first = reduces ? 1 : 0;
  const size_t last = i.operands.size() - (reduces ? 1 : 0);  // One past the count.
  if (last < first + 1) return Error(i.at, "operands are missing");
  const uint32_t a = Source(i, i.operands[first], Type::kB32);
  const uint32_t b = last > first + 1 ? Source(i, i.operands[first + 1], Type::kB32) : kNoSlot;
  uint32_t d = kNoSlot;
  uint32_t c = kNoSlot;
  if (reduces) {
    d = Destination(i.operands[0], i.Has(Mod::kPopc) ? Type::kB32 : Type::kPred);
    c = Source(i, i.operands.back(), Type::kPred);
  }
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = a;
  ins.b = b;
  ins.c = c;
  if (reduces) {
    ins.target = i.Has(Mod::kPopc) ? 0 : i.Has(Mod::kAnd) ? 1 : 2;
    ins.imm = i.operands.back().negated ? 1 : 0;
  }
}

void FunctionDecoder::CallOf(const Instruction& i) {
  const Operand& target = i.operands[0];
  if (target.kind != Operand::Kind::kName)
    return Error(i.at, "calls through a register are not supported by the software GPU yet");
  auto callee = build_.symbols.BodyOf(target.name);
  if (!callee.ok()) {
    if (error_.empty()) error_ = callee.status().message();
    return;
  }
  const Handler runtime = *callee == nullptr ? RuntimeFunction(target.name) : nullptr;
  if (*callee == nullptr && runtime == nullptr)
    return Error(target.at, "this function is not supported by the software GPU yet");
  CallSite site;
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
  if (runtime != nullptr) {
    if (site.params.size() != (runtime == PrintFormatted ? 2u : 5u))
      return Error(i.at, "wrong number of arguments");
    kernel_.calls.push_back(std::move(site));
    Emit(i, runtime).target = static_cast<uint32_t>(kernel_.calls.size() - 1);
    return;
  }
  if (site.params.size() != (*callee)->params.size() ||
      site.returns.size() != (*callee)->returns.size()) {
    return Error(i.at, "the call does not match the function's parameters");
  }
  const auto [found, fresh] = build_.function_numbers.try_emplace(
      (*callee)->name, static_cast<uint32_t>(build_.functions.size()));
  if (fresh) build_.functions.push_back(*callee);
  site.function = found->second;
  const auto number = static_cast<uint32_t>(kernel_.calls.size());
  kernel_.calls.push_back(std::move(site));
  Emit(i, CallFunction).target = number;
}

void FunctionDecoder::BranchOf(const Instruction& i) {
  if (i.opcode == Opcode::kBra) {
    Emit(i, Branch);
    branches_.emplace_back(kernel_.code.size() - 1, i.label);
    return;
  }
  const uint32_t a = Source(i, i.operands[0], Type::kB32);
  Ins& ins = Emit(i, BranchIndexed);
  ins.a = a;
  ins.slots = static_cast<uint32_t>(kernel_.slots.size());
  ins.target = static_cast<uint32_t>(i.targets.size());
  for (const uint32_t label : i.targets) {
    branch_slots_.emplace_back(kernel_.slots.size(), label);
    kernel_.slots.push_back(0);
  }
}

// Instructions whose operands, if any, mean nothing here: hints, and what ends or delays a thread.
Handler FunctionDecoder::WithoutOperands(Opcode opcode) {
  switch (opcode) {
    case Opcode::kRet:
      return Return;
    case Opcode::kExit:
      return Exit;
    case Opcode::kTrap:
    case Opcode::kBrkpt:
      return Trap;
    case Opcode::kMembar:
    case Opcode::kFence:
      return Fence;
    case Opcode::kNanosleep:
      return Yield;
    case Opcode::kPrefetch:
    case Opcode::kPrefetchu:
    case Opcode::kApplypriority:
    case Opcode::kDiscard:
    case Opcode::kPmevent:
    case Opcode::kGriddepcontrol:
    case Opcode::kSetmaxnreg:
      return Nothing;
    default:
      return nullptr;
  }
}

void FunctionDecoder::One(const Instruction& i) {
  switch (i.opcode) {
    case Opcode::kLd:
    case Opcode::kLdu:
      return Memory(i, true);
    case Opcode::kSt:
      return Memory(i, false);
    case Opcode::kAtom:
    case Opcode::kRed:
      return Atomic(i);
    case Opcode::kCp:
      return AsyncCopyOf(i);
    case Opcode::kMov:
      return MoveOf(i);
    case Opcode::kCvt:
      return ConvertOf(i);
    case Opcode::kCvta:
    case Opcode::kIsspacep:
      return AddressConvert(i);
    case Opcode::kSetp:
    case Opcode::kSet:
      return CompareOf(i);
    case Opcode::kShfl:
    case Opcode::kVote:
    case Opcode::kMatch:
    case Opcode::kRedux:
    case Opcode::kElect:
    case Opcode::kActivemask:
      return Collective(i);
    case Opcode::kBar:
    case Opcode::kBarrier:
      return BarrierOf(i);
    case Opcode::kCall:
      return CallOf(i);
    case Opcode::kBra:
    case Opcode::kBrx:
      return BranchOf(i);
    case Opcode::kLop3: {
      if (i.operands.size() != 5 || i.operands[4].kind != Operand::Kind::kInteger)
        return Unsupported(i);
      Instruction three = i;
      three.operands.pop_back();
      Arithmetic(three, FindLogic(three));
      if (error_.empty()) kernel_.code.back().imm = i.operands[4].value & 0xff;
      return;
    }
    case Opcode::kTestp:
      Arithmetic(i, FindCompare(i));
      for (const Mod mod : {Mod::kFinite, Mod::kInfinite, Mod::kNumber, Mod::kNotanumber,
                            Mod::kNormal, Mod::kSubnormal}) {
        if (error_.empty() && i.Has(mod)) kernel_.code.back().target = static_cast<uint32_t>(mod);
      }
      return;
    case Opcode::kSlct:
      return Arithmetic(i, FindCompare(i));
    case Opcode::kBfi:
      return Arithmetic(i, FindInsert(i));
    default:
      break;
  }
  if (const Handler plain = WithoutOperands(i.opcode); plain != nullptr) {
    Emit(i, plain);
    return;
  }
  Handler run = IsFloat(i.type()) ? FindFloat(i) : FindInteger(i);
  if (run == nullptr) run = FindLogic(i);
  Arithmetic(i, run);
}

// Constants come behind registers and temporaries: now that their number is known, the slots that
// were marked become offsets.
Status FunctionDecoder::Finish() {
  if (!error_.empty()) return Status::Invalid(error_);
  const uint64_t constants = AlignUp(frame_bytes_, 64);
  if (constants + image_.size() > kMaxFrameBytes)
    return Status::Invalid("function " + out_.name + " has too many registers");
  const auto fix = [&](uint32_t& slot) {
    if (slot != kNoSlot && (slot & kConstantFlag) != 0)
      slot = static_cast<uint32_t>(constants + (slot & ~kConstantFlag));
  };
  for (size_t k = out_.entry; k < kernel_.code.size(); ++k) {
    Ins& ins = kernel_.code[k];
    for (uint32_t* slot : {&ins.d, &ins.a, &ins.b, &ins.c, &ins.e}) fix(*slot);
  }
  for (const size_t k : masks_) {
    auto slot = static_cast<uint32_t>(kernel_.code[k].imm);
    fix(slot);
    kernel_.code[k].imm = slot;
  }
  for (const auto& [first, count] : vector_uses_) {
    for (uint32_t k = first; k < first + count; ++k) fix(kernel_.slots[k]);
  }
  out_.constants = static_cast<uint32_t>(constants);
  out_.frame_bytes = static_cast<uint32_t>(constants + image_.size());
  out_.constant_image = std::move(image_);
  out_.local_bytes = static_cast<uint32_t>(local_bytes_);
  kernel_.registers = std::max(kernel_.registers, registers32_);
  kernel_.functions[number_] = std::move(out_);
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<DecodedKernel>> DecodeKernel(const Function& function,
                                                    const ModuleSymbols& symbols) {
  auto kernel = std::make_unique<DecodedKernel>();
  kernel->name = std::string(function.name);
  KernelBuild build{symbols, *kernel, {}, {}, {}, 0, {}, {}};
  build.functions.push_back(&function);
  build.function_numbers[function.name] = 0;
  for (uint32_t number = 0; number < build.functions.size(); ++number) {
    kernel->functions.emplace_back();
    FARWARP_RETURN_IF_ERROR(FunctionDecoder(build, *build.functions[number], number).Decode());
  }
  const uint64_t dynamic = AlignUp(build.shared_bytes, 16);
  for (const size_t k : build.dynamic_in_code) kernel->code[k].imm += dynamic;
  for (const auto& constant : build.dynamic_constants) {
    const uint64_t value = dynamic + constant.addend;
    std::byte* image = kernel->functions[constant.function].constant_image.data() + constant.offset;
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      std::memcpy(image + size_t{lane} * constant.bytes, &value, constant.bytes);
  }
  kernel->static_shared_bytes = static_cast<uint32_t>(
      build.dynamic_in_code.empty() && build.dynamic_constants.empty() ? build.shared_bytes
                                                                       : dynamic);
  kernel->local_bytes = kernel->functions[0].local_bytes;
  kernel->recursive_or_deep = kernel->functions.size() > 1;
  return kernel;
}

}  // namespace farwarp::softgpu
