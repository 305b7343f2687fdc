// Branches, calls, barriers, collectives, and which topic an instruction belongs to.
#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {

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
  if (i.Has(Mod::kCluster)) {
    if (i.Has(Mod::kArrive) == i.Has(Mod::kWait)) return Unsupported(i);
    Emit(i, i.Has(Mod::kArrive) ? ClusterArrive : ClusterWait);
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
  // The video instructions stand together in opcodes.def.
  if (i.opcode >= Opcode::kVadd && i.opcode <= Opcode::kVset4) return VideoOf(i);
  switch (i.opcode) {
    case Opcode::kLd:
    case Opcode::kLdu:
      return Memory(i, true);
    case Opcode::kSt:
      return i.Has(Mod::kAsync) || i.Has(Mod::kBulk) ? RemoteOf(i) : Memory(i, false);
    case Opcode::kAtom:
    case Opcode::kRed:
      return i.Has(Mod::kAsync) ? RemoteOf(i) : Atomic(i);
    case Opcode::kMbarrier:
      return MbarrierOf(i);
    case Opcode::kMapa:
    case Opcode::kGetctarank:
      return ClusterAddressOf(i);
    case Opcode::kCreatepolicy:
      return PolicyOf(i);
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
    case Opcode::kMma:
      return MatrixMultiplyOf(i);
    case Opcode::kWmma:
      return i.Has(Mod::kMma) ? MatrixMultiplyOf(i) : MatrixMemoryOf(i);
    case Opcode::kLdmatrix:
    case Opcode::kStmatrix:
      return TilesOf(i);
    case Opcode::kMovmatrix:
      return Arithmetic(i, TransposeTile);
    case Opcode::kTex:
    case Opcode::kTld4:
      return TextureOf(i);
    case Opcode::kTxq:
    case Opcode::kSuq:
      return TextureQueryOf(i);
    case Opcode::kSuld:
    case Opcode::kSust:
    case Opcode::kSured:
      return SurfaceOf(i);
    case Opcode::kCall:
      return CallOf(i);
    case Opcode::kAlloca:
    case Opcode::kStacksave:
    case Opcode::kStackrestore:
      return StackOf(i);
    case Opcode::kBra:
    case Opcode::kBrx:
      return BranchOf(i);
    case Opcode::kLop3: {
      if (i.Has(Mod::kAnd) || i.Has(Mod::kOr)) return LogicWithPredicate(i);
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

}  // namespace farwarp::softgpu
