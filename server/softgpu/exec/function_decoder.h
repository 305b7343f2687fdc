// FunctionDecoder: one function's way from the syntax tree to decoded instructions. Used by
// decoder.cc alone; its parts by topic are decode_memory.cc, decode_async.cc, decode_values.cc,
// decode_matrix.cc, decode_texture.cc, decode_video.cc and decode_control.cc. One thread.
#pragma once

#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/softgpu/exec/decoder.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/texture_sample.h"

namespace farwarp::softgpu {

inline constexpr uint64_t kMaxFrameBytes = uint64_t{64} << 20;

inline uint32_t RegisterBytes(Type type) {
  return type == Type::kPred ? 4 : std::max(2u, TypeBytes(type));
}
inline uint64_t AlignUp(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

// What all functions of one kernel share while it is decoded.
struct KernelBuild {
  const ModuleSymbols& symbols;
  DecodedKernel& kernel;
  std::unordered_map<const FunctionAst*, uint32_t> function_numbers;
  struct Member {
    const FunctionAst* function;
    bool optional;  // Only pointers reach it: if it cannot be decoded, calling it is a fault.
  };
  std::vector<Member> functions;
  std::unordered_map<const Variable*, uint32_t> shared_offsets;
  std::map<std::string, uint32_t> target_sets;  // By shape or by names.
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
  uint64_t param_bytes = 0;  // Of the kernel.
  // Where DecodedKernel::slots has the ranges of constant memory, once something asks, and how many
  // there are.
  uint32_t const_ranges = kNoSlot;
  uint32_t const_range_count = 0;
};

class FunctionDecoder {
 public:
  FunctionDecoder(KernelBuild& build, const FunctionAst& function, uint32_t number)
      : build_(build), kernel_(build.kernel), ast_(function), number_(number) {}

  // In place of the body of a function that cannot be decoded and that nothing but a pointer
  // reaches: calling it is a fault.
  void Refuse(const Status& why) {
    out_ = {};
    out_.name = std::string(ast_.name);
    out_.entry = static_cast<uint32_t>(kernel_.code.size());
    out_.refused = why.message();
    kernel_.code.emplace_back().run = CallRefused;
    kernel_.code.back().line = ast_.at.line;
    kernel_.functions[number_] = std::move(out_);
  }

  Status Decode() {
    out_.name = std::string(ast_.name);
    out_.entry = static_cast<uint32_t>(kernel_.code.size());
    PlaceRegisters();
    PlaceVariables();
    starts_.reserve(ast_.code.size() + 1);
    for (const Instruction& instruction : ast_.code) {
      starts_.push_back(static_cast<uint32_t>(kernel_.code.size()));
      temps_used_ = 0;
      kernel_.notes.push_back(NoteOf(instruction));
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
    const size_t params = ast_.params.size();
    const size_t formals = params + ast_.returns.size();
    std::vector<std::vector<size_t>> local(ast_.scopes.size());
    placed_.resize(ast_.variables.size());
    for (size_t i = 0; i < ast_.variables.size(); ++i) {
      const Variable& variable = ast_.variables[i];
      if (i < params && ast_.is_entry) {
        param_bytes_ = AlignUp(param_bytes_, variable.align);
        placed_[i] = {Place::kKernelParam, param_bytes_, false};
        param_bytes_ += variable.bytes;
        build_.param_bytes = param_bytes_;
      } else if (i < formals) {
        placed_[i] = i < params ? Placed{Place::kFormal, i, false}
                                : Placed{Place::kResult, i - params, false};
      } else if (variable.space == Space::kShared) {
        placed_[i] = PlaceShared(variable);
      } else {
        // Others than parameters live as long as the call.
        local[variable.space == Space::kParam ? variable.scope : 0].push_back(i);
      }
    }
    PlaceLocal(local);
  }

  // Arguments and results of a call have a pair of braces of their own. Braces beside each other
  // take the same place: a function of many calls would need much more than a real stack has.
  void PlaceLocal(const std::vector<std::vector<size_t>>& local) {
    std::vector<uint64_t> ends(local.size(), 0);
    for (size_t scope = 0; scope < local.size(); ++scope) {
      uint64_t end = scope == 0 ? 0 : ends[ast_.scopes[scope]];
      for (const size_t i : local[scope]) {
        const Variable& variable = ast_.variables[i];
        end = AlignUp(end, std::max(1u, variable.align));
        placed_[i] = {Place::kLocal, end, false};
        end += variable.bytes;
        if (variable.space != Space::kParam)
          own_local_bytes_ =
              AlignUp(own_local_bytes_, std::max(1u, variable.align)) + variable.bytes;
        if (end > kMaxLocalBytes) return Error(variable.at, "too much local memory");
      }
      ends[scope] = end;
      local_bytes_ = std::max(local_bytes_, AlignUp(end, 16));
    }
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
    const auto found = build_.shared_offsets.find(&variable);
    if (found != build_.shared_offsets.end()) return {Place::kShared, found->second, false};
    const Placed placed = PlaceShared(variable);
    build_.shared_offsets[&variable] = static_cast<uint32_t>(placed.offset);
    return placed;
  }

  uint32_t Temp() {
    if (temps_used_ == temps_.size()) {
      temps_.push_back(static_cast<uint32_t>(frame_bytes_));
      frame_bytes_ += std::uint64_t{kLanes} * 16;  // Of any type.
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
    ins.observes = Observes(i);
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
    if (const Variable* shared = build_.symbols.SharedVariable(operand.name, ast_)) {
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
    if (const uint64_t address = build_.symbols.AddressOf(operand.name, ast_); address != 0) {
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
          const Handler special = type == Type::kPred ? FindSpecialPredicate(operand.name)
                                                      : FindSpecial(operand.name, bytes);
          if (special == nullptr) {
            Error(operand.at, "unknown register");
            return 0;
          }
          NoteSpecial(operand.name);
          const uint32_t temp = Temp();
          EmitHelper(i, special, temp).reads_time = ReadsTime(operand.name);
          return temp;
        }
        return AddressSlot(i, operand, bytes);
      default:
        Error(operand.at, "this operand is not allowed here");
        return 0;
    }
  }
  void NoteSpecial(std::string_view special) {
    kernel_.reserved_shared |= special.substr(0, 14) == "%reserved_smem";
  }
  static bool ReadsTime(std::string_view special) {
    return special.substr(0, 6) == "%clock" || special.substr(0, 12) == "%globaltimer";
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
    if (!operand.elements.empty()) Error(operand.at, "only textures and surfaces have coordinates");
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
    const uint64_t global = build_.symbols.AddressOf(operand.name, ast_);
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

  SourceNote NoteOf(const Instruction& i) const;
  void One(const Instruction& i);
  void Memory(const Instruction& i, bool load);
  void Atomic(const Instruction& i);
  void VectorAtomicOf(const Instruction& i, const Address& address, Space space, uint32_t count);
  static bool Observes(const Instruction& i);
  uint32_t AddressValue(const Instruction& i, const Operand& operand, bool shared, uint32_t flag,
                        uint32_t* flags);
  void MbarrierOf(const Instruction& i);
  void AsyncCopyOf(const Instruction& i);
  void BulkCopyOf(const Instruction& i);
  void RemoteOf(const Instruction& i);
  void ClusterAddressOf(const Instruction& i);
  void PolicyOf(const Instruction& i);
  void MoveOf(const Instruction& i);
  void VectorMove(const Instruction& i, const Operand& vector, const Operand& whole, bool pack);
  void ConvertOf(const Instruction& i);
  void NarrowConvertOf(const Instruction& i);
  void AddressConvert(const Instruction& i);
  void CompareOf(const Instruction& i);
  void Arithmetic(const Instruction& i, Handler run);
  void Collective(const Instruction& i);
  void BarrierOf(const Instruction& i);
  void VideoOf(const Instruction& i);
  void LogicWithPredicate(const Instruction& i);
  void MatrixMultiplyOf(const Instruction& i);
  void MatrixMemoryOf(const Instruction& i);
  void TilesOf(const Instruction& i);
  uint32_t MatrixIndex(const Instruction& i, const MatrixForm& form);
  bool Registers(const Instruction& i, const Operand& operand, Type type, bool written,
                 size_t count, std::vector<uint32_t>& slots);
  void TextureOf(const Instruction& i);
  void TextureQueryOf(const Instruction& i);
  void SurfaceOf(const Instruction& i);
  bool TextureNumber(const Instruction& i, const Operand& address, size_t parts, uint32_t* slot);
  bool CoordinatesTo(const Instruction& i, const Operand& vector, TextureShape shape, Type type,
                     std::vector<uint32_t>& slots);
  void KeepConstRanges();
  uint32_t KeepSlots(const std::vector<uint32_t>& slots);
  void CallOf(const Instruction& i);
  bool PlaceArguments(const Instruction& i, CallSite& site);
  void IndirectCallOf(const Instruction& i, CallSite site);
  uint32_t TargetsOf(const Instruction& i);
  uint32_t NumberOf(const FunctionAst& function, bool optional);
  void StackOf(const Instruction& i);
  void BranchOf(const Instruction& i);
  static Handler WithoutOperands(Opcode opcode);
  Type OperandType(const Instruction& i, size_t index) const;
  Status Finish();

  static constexpr uint32_t kConstantFlag = 0x80000000u;

  KernelBuild& build_;
  DecodedKernel& kernel_;
  const FunctionAst& ast_;
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
  uint64_t own_local_bytes_ = 0;  // Without arguments and results of calls.
  uint64_t param_bytes_ = 0;      // Of an entry.
  uint32_t registers32_ = 0;
  std::string error_;
};

}  // namespace farwarp::softgpu
