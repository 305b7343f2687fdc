// Arithmetic, moves, conversions, comparisons.
#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {

// The type that determines the width of operand `index` (0 is the destination).
Type FunctionDecoder::OperandType(const Instruction& i, size_t index) const {
  const Type type = i.type();
  switch (i.opcode) {
    case Opcode::kAdd:
    case Opcode::kSub:  // add.f32.f16 d, a, c: only a is narrow.
      return i.type_count == 2 && index == 1 ? i.types[1] : type;
    case Opcode::kFma:
      return i.type_count == 2 && (index == 1 || index == 2) ? i.types[1] : type;
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
    case Opcode::kMovmatrix:
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

void FunctionDecoder::VectorMove(const Instruction& i, const Operand& vector, const Operand& whole,
                                 bool pack) {
  const auto count = static_cast<uint32_t>(vector.elements.size());
  const uint32_t bytes = TypeBytes(i.type());
  if (count == 0 || bytes % count != 0 || bytes > 16) return Unsupported(i);
  const Type part = bytes / count <= 2 ? Type::kB16 : bytes / count == 4 ? Type::kB32 : Type::kB64;
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
    const Handler special = i.type() == Type::kPred
                                ? FindSpecialPredicate(from.name)
                                : FindSpecial(from.name, RegisterBytes(i.type()));
    if (special == nullptr) return Error(from.at, "unknown register");
    NoteSpecial(from.name);
    Ins& ins = Emit(i, special);
    ins.d = d;
    ins.reads_time = ReadsTime(from.name);
    return;
  }
  Arithmetic(i, i.type() == Type::kB128 ? WideMove : FindLogic(i));
}

void FunctionDecoder::NarrowConvertOf(const Instruction& i) {
  const Handler run = FindNarrowConvert(i);
  if (run == nullptr) return Unsupported(i);
  uint32_t s[3] = {kNoSlot, kNoSlot, kNoSlot};
  for (size_t k = 0; k < 3 && k + 1 < i.operands.size(); ++k)
    s[k] = Source(i, i.operands[k + 1], i.Has(Mod::kPack) ? Type::kB32 : i.types[1]);
  const uint32_t d = Destination(i.operands[0], i.Has(Mod::kPack) ? Type::kB32 : i.types[0]);
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = s[0];
  ins.b = s[1];
  ins.c = s[2];
  ins.target = (i.Has(Mod::kRelu) ? 1u : 0) | (i.Has(Mod::kSatfinite) ? 2u : 0);
}

void FunctionDecoder::ConvertOf(const Instruction& i) {
  const auto narrow = [](Type type) { return type == Type::kTf32 || IsNarrowPair(type); };
  if (i.Has(Mod::kPack) || narrow(i.types[0]) || narrow(i.types[1])) return NarrowConvertOf(i);
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
               (i.Has(Mod::kRelu) ? 16u : 0) | (i.Has(Mod::kSatfinite) ? 32u : 0) | mode >> 5;
}

// What set gives for true: ones, or the number one. Integer results of packed comparisons have ones
// in each half.
static uint64_t TrueOf(Type type) {
  switch (type) {
    case Type::kF32:
      return 0x3f800000;
    case Type::kF16:
    case Type::kF16x2:
      return 0x3c00;
    case Type::kBf16:
    case Type::kBf16x2:
      return 0x3f80;
    default:
      return 0xffffffff;
  }
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
  if (!predicates) ins.imm |= TrueOf(i.types[0]) << 32 | (TypeBytes(i.types[0]) == 2 ? 2 : 0);
}

}  // namespace farwarp::softgpu
