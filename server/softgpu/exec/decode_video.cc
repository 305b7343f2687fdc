// Video instructions, and lop3 with a predicate.
#include "server/softgpu/exec/function_decoder.h"
#include "server/softgpu/warp/video_form.h"

namespace farwarp::softgpu {
namespace {

uint32_t PartsOf(Opcode opcode) {
  switch (opcode) {
    case Opcode::kVadd2:
    case Opcode::kVsub2:
    case Opcode::kVavrg2:
    case Opcode::kVabsdiff2:
    case Opcode::kVmin2:
    case Opcode::kVmax2:
    case Opcode::kVset2:
      return 2;
    case Opcode::kVadd4:
    case Opcode::kVsub4:
    case Opcode::kVavrg4:
    case Opcode::kVabsdiff4:
    case Opcode::kVmin4:
    case Opcode::kVmax4:
    case Opcode::kVset4:
      return 4;
    default:
      return 1;
  }
}

VideoPart PartOf(const Operand& operand) {
  switch (operand.selector) {
    case Mod::kB0:
      return {8, 0};
    case Mod::kB1:
      return {8, 1};
    case Mod::kB2:
      return {8, 2};
    case Mod::kB3:
      return {8, 3};
    case Mod::kH0:
      return {16, 0};
    case Mod::kH1:
      return {16, 1};
    default:
      return {};
  }
}

}  // namespace

// vadd.dtype.atype.btype{.sat}{.op2} d{.part}, a{.part}, b{.part} {, c}; vset has no dtype.
void FunctionDecoder::VideoOf(const Instruction& i) {
  const uint32_t parts = PartsOf(i.opcode);
  const bool test =
      i.opcode == Opcode::kVset || i.opcode == Opcode::kVset2 || i.opcode == Opcode::kVset4;
  const Handler run = FindVideo(i, parts);
  const size_t count = i.operands.size();
  if (run == nullptr || i.type_count != (test ? 2 : 3) || count < 3 || count > 4)
    return Unsupported(i);
  VideoForm form;
  form.d_signed = !test && i.types[0] == Type::kS32;
  form.a_signed = i.types[test ? 0 : 1] == Type::kS32;
  form.b_signed = i.types[test ? 1 : 2] == Type::kS32;
  form.saturate = i.Has(Mod::kSat);
  form.d = PartOf(i.operands[0]);
  form.a = PartOf(i.operands[1]);
  form.b = PartOf(i.operands[2]);
  // vmin and vmax are opcodes of their own, so .min and .max always mean the second operation.
  if (count == 4) {
    form.then = i.Has(Mod::kAdd)   ? VideoThen::kAdd
                : i.Has(Mod::kMin) ? VideoThen::kMin
                : i.Has(Mod::kMax) ? VideoThen::kMax
                                   : VideoThen::kMerge;
  }
  const uint32_t a = Source(i, i.operands[1], Type::kB32);
  const uint32_t b = Source(i, i.operands[2], Type::kB32);
  const uint32_t c = count == 4 ? Source(i, i.operands[3], Type::kB32) : kNoSlot;
  const uint32_t d = Destination(i.operands[0], Type::kB32);
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = a;
  ins.b = b;
  ins.c = c;
  ins.imm = form.Bits();
}

// lop3.or.b32 d|p, a, b, c, table, q: the value, and whether it is not zero or q.
void FunctionDecoder::LogicWithPredicate(const Instruction& i) {
  const Operand& to = i.operands[0];
  if (i.operands.size() != 6 || to.kind != Operand::Kind::kPair ||
      i.operands[4].kind != Operand::Kind::kInteger)
    return Unsupported(i);
  Instruction plain = i;
  plain.mods = ModSet();
  plain.operands.resize(4);
  plain.operands[0] = to.elements[0];
  const uint32_t q = Source(i, i.operands[5], Type::kPred);
  Arithmetic(plain, FindLogic(plain));
  if (!error_.empty()) return;
  kernel_.code.back().imm = i.operands[4].value & 0xff;
  const uint32_t value = kernel_.code.back().d;
  const uint32_t p = Destination(to.elements[1], Type::kPred);
  Ins& ins = Emit(i, PredicateOfLop3);
  ins.d = p;
  ins.a = value;
  ins.c = q;
  ins.target = i.Has(Mod::kAnd) ? 1 : 2;
  ins.imm = i.operands[5].negated ? 1 : 0;
}

}  // namespace farwarp::softgpu
