// Loads, stores, atomics, copies, and conversions of addresses.
#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {

namespace {

AccessKind AccessOf(Opcode opcode) {
  switch (opcode) {
    case Opcode::kLd:
    case Opcode::kLdu:
      return AccessKind::kRead;
    case Opcode::kSt:
      return AccessKind::kWrite;
    case Opcode::kAtom:
    case Opcode::kRed:
      return AccessKind::kAtomic;
    default:
      return AccessKind::kNone;
  }
}

const char* SpaceNameOf(const Instruction& i) {
  if (i.Has(Mod::kGlobal)) return "global";
  if (i.Has(Mod::kShared) || i.Has(Mod::kSharedCta) || i.Has(Mod::kSharedCluster)) return "shared";
  if (i.Has(Mod::kLocal)) return "local";
  if (i.Has(Mod::kConst)) return "constant";
  if (i.Has(Mod::kParam)) return "parameter";
  return "generic";
}

}  // namespace

// The text of an instruction goes up to its semicolon, which the parser has seen.
SourceNote FunctionDecoder::NoteOf(const Instruction& i) const {
  constexpr size_t kMaxText = 120;
  SourceNote note;
  note.ins = static_cast<uint32_t>(kernel_.code.size());
  note.access = AccessOf(i.opcode);
  if (note.access != AccessKind::kNone) {
    note.bytes = TypeBytes(i.type()) * VectorOf(i);
    note.space = SpaceNameOf(i);
  }
  const char* const begin = i.at.text.data();
  size_t length = 0;
  while (length < kMaxText && begin[length] != ';' && begin[length] != '\n') ++length;
  note.text = {begin, length};
  return note;
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
  const uint32_t count = VectorOf(i);
  const bool halves = i.type() == Type::kF16 || i.type() == Type::kBf16 ||
                      i.type() == Type::kF16x2 || i.type() == Type::kBf16x2;
  if (count > 1 || halves) return VectorAtomicOf(i, address, space, count);
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

void FunctionDecoder::VectorAtomicOf(const Instruction& i, const Address& address, Space space,
                                     uint32_t count) {
  const bool returns = i.opcode == Opcode::kAtom;
  const Handler run = address.kernel_param ? nullptr : FindVectorAtomic(i, space);
  if (run == nullptr || count * TypeBytes(i.type()) > 16) return Unsupported(i);
  std::vector<uint32_t> slots(returns ? 0 : count, kNoSlot);
  if (returns && !Registers(i, i.operands[0], i.type(), true, count, slots)) return;
  if (!Registers(i, i.operands[returns ? 2 : 1], i.type(), false, count, slots)) return;
  const auto first = static_cast<uint32_t>(kernel_.slots.size());
  kernel_.slots.insert(kernel_.slots.end(), slots.begin(), slots.end());
  vector_uses_.emplace_back(first, 2 * count);
  Ins& ins = Emit(i, run);
  ins.slots = first;
  ins.target = count;
  Fill(ins, address);
  NoteDynamic(address);
}

// Four slots each: the halves of the beginning and of the end.
void FunctionDecoder::KeepConstRanges() {
  if (build_.const_ranges != kNoSlot) return;
  build_.const_ranges = static_cast<uint32_t>(kernel_.slots.size());
  for (const auto& [begin, end] : build_.symbols.ConstRanges()) {
    for (const uint64_t bound : {begin, end}) {
      kernel_.slots.push_back(static_cast<uint32_t>(bound));
      kernel_.slots.push_back(static_cast<uint32_t>(bound >> 32));
    }
    ++build_.const_range_count;
  }
}

void FunctionDecoder::AddressConvert(const Instruction& i) {
  if (i.opcode == Opcode::kIsspacep) {
    const uint32_t a = Source(i, i.operands[1], Type::kB64);
    const uint32_t d = Destination(i.operands[0], Type::kPred);
    if (i.Has(Mod::kParamFunc)) return Unsupported(i);
    const bool param = i.Has(Mod::kParam) || i.Has(Mod::kParamEntry);
    const Handler run = i.Has(Mod::kSharedCluster)     ? IsSpaceSharedCluster
                        : SpaceOf(i) == Space::kShared ? IsSpaceShared
                        : i.Has(Mod::kLocal)           ? IsSpaceLocal
                        : i.Has(Mod::kConst)           ? IsSpaceConst
                        : param                        ? IsSpaceParam
                                                       : IsSpaceGlobal;
    if (run == IsSpaceConst || run == IsSpaceGlobal) KeepConstRanges();
    Ins& ins = Emit(i, run);
    ins.d = d;
    ins.a = a;
    ins.slots = build_.const_ranges;
    ins.target = build_.const_range_count;
    ins.imm = build_.param_bytes;
    return;
  }
  if (TypeBytes(i.type()) != 8) return Unsupported(i);
  Instruction move = i;
  move.opcode = Opcode::kMov;
  const bool shared = SpaceOf(i) == Space::kShared;
  Arithmetic(move, shared ? (i.Has(Mod::kTo) ? AddressGenericToShared : AddressSharedToGeneric)
                          : FindLogic(move));
}

}  // namespace farwarp::softgpu
