// mbarrier, asynchronous copies, and what blocks of a cluster do together.
#include "server/softgpu/exec/function_decoder.h"

namespace farwarp::softgpu {

// Whether an instruction depends on, or changes, more than registers, local memory and mbarriers.
bool FunctionDecoder::Observes(const Instruction& i) {
  switch (i.opcode) {
    case Opcode::kLd:
    case Opcode::kSt:
      return !i.Has(Mod::kParam) && !i.Has(Mod::kParamEntry) && !i.Has(Mod::kParamFunc) &&
             !i.Has(Mod::kLocal);
    case Opcode::kLdu:
    case Opcode::kAtom:
    case Opcode::kRed:
    case Opcode::kTrap:
      return true;
    default:
      return false;
  }
}

// The slot of an operand in brackets, 64 bits; `flag` joins `flags` if it lies in shared memory.
uint32_t FunctionDecoder::AddressValue(const Instruction& i, const Operand& operand, bool shared,
                                       uint32_t flag, uint32_t* flags) {
  const Address address = Resolve(i, operand);
  if (shared || address.shared) *flags |= flag;
  if (address.kernel_param) {
    const uint32_t temp = Temp();
    EmitHelper(i, AddressOfParam, temp).imm = address.offset;
    return temp;
  }
  if (address.width == 0 && address.offset == 0) return address.base;
  const uint32_t temp = Temp();
  Fill(EmitHelper(i, AddressSum, temp), address);
  NoteDynamic(address);
  return temp;
}

void FunctionDecoder::MbarrierOf(const Instruction& i) {
  const bool shared = SpaceOf(i) == Space::kShared;
  const size_t count = i.operands.size();
  uint32_t flags = 0;
  if (i.Has(Mod::kPendingCount)) {
    if (count != 2) return Error(i.at, "operands are missing");
    const uint32_t a = Source(i, i.operands[1], Type::kB64);
    const uint32_t d = Destination(i.operands[0], Type::kB32);
    Ins& ins = Emit(i, MbarrierPending);
    ins.d = d;
    ins.a = a;
    return;
  }
  const bool arrives = i.Has(Mod::kArrive) || i.Has(Mod::kArriveDrop);
  const bool waits = i.Has(Mod::kTestWait) || i.Has(Mod::kTryWait);
  const size_t first = arrives || waits ? 1 : 0;
  // Operands behind the address: none, one, or with try_wait a time limit that is not needed.
  const size_t least = first + (i.Has(Mod::kInval) || (arrives && !i.Has(Mod::kExpectTx)) ? 1 : 2);
  const size_t most = i.Has(Mod::kInval) ? 1 : i.Has(Mod::kTryWait) ? 4 : first + 2;
  if (count < least || count > most) return Error(i.at, "wrong number of operands");
  const bool state = waits && !i.Has(Mod::kParity);
  const uint32_t b = count > first + 1
                         ? Source(i, i.operands[first + 1], state ? Type::kB64 : Type::kB32)
                         : kNoSlot;
  uint32_t d = kNoSlot;
  if (waits) d = Destination(i.operands[0], Type::kPred);
  if (arrives && i.operands[0].kind != Operand::Kind::kSink)
    d = Destination(i.operands[0], Type::kB64);
  const uint32_t a = AddressValue(i, i.operands[first], shared, kToShared, &flags);
  Handler run = nullptr;
  if (arrives) {
    run = MbarrierArrive;
    flags |= (i.Has(Mod::kArriveDrop) ? kDrops : 0) | (i.Has(Mod::kExpectTx) ? kExpects : 0);
  } else if (waits) {
    run = i.Has(Mod::kTryWait) ? MbarrierTry : MbarrierTest;
  } else {
    run = i.Has(Mod::kInit)         ? MbarrierInit
          : i.Has(Mod::kInval)      ? MbarrierInvalidate
          : i.Has(Mod::kExpectTx)   ? MbarrierExpect
          : i.Has(Mod::kCompleteTx) ? MbarrierComplete
                                    : nullptr;
  }
  if (run == nullptr) return Unsupported(i);
  Ins& ins = Emit(i, run);
  ins.d = d;
  ins.a = a;
  ins.b = b;
  ins.target = flags;
  ins.imm = i.Has(Mod::kParity) ? 1 : 0;
}

// cp.async.ca.shared.global [to], [from], bytes {, source bytes or ignore-src} {, policy};
// commit_group, wait_group N, wait_all; mbarrier.arrive{.noinc} [barrier]
void FunctionDecoder::AsyncCopyOf(const Instruction& i) {
  if (i.Has(Mod::kTensor)) return Unsupported(i);
  if (i.Has(Mod::kCommitGroup) || i.Has(Mod::kWaitGroup) || i.Has(Mod::kWaitAll)) {
    Emit(i, Nothing);
    return;
  }
  if (i.Has(Mod::kBulk)) return BulkCopyOf(i);
  uint32_t flags = 0;
  if (i.Has(Mod::kMbarrier)) {
    if (i.operands.size() != 1) return Error(i.at, "wrong number of operands");
    const uint32_t a =
        AddressValue(i, i.operands[0], SpaceOf(i) == Space::kShared, kToShared, &flags);
    // Without .noinc the arrival has been added to those that are expected.
    Ins& ins = Emit(i, i.Has(Mod::kNoinc) ? MbarrierArrive : Nothing);
    ins.a = a;
    ins.target = flags;
    return;
  }
  if (i.operands.size() < 3 || i.operands[2].kind != Operand::Kind::kInteger) return Unsupported(i);
  const uint64_t bytes = i.operands[2].value;
  if (bytes != 16 && (i.Has(Mod::kCg) || (bytes != 4 && bytes != 8)))
    return Error(i.at, "cp.async copies 4, 8 or 16 bytes, and past the first cache 16");
  const size_t extra = i.operands.size() - 3 - (i.Has(Mod::kL2cacheHint) ? 1 : 0);
  uint32_t c = kNoSlot;
  if (extra == 1) {
    const Operand& operand = i.operands[3];
    const bool ignores =
        operand.kind == Operand::Kind::kRegister && ast_.registers[operand.reg].type == Type::kPred;
    c = Source(i, operand, ignores ? Type::kPred : Type::kB32);
    flags |= ignores ? kIgnores : 0;
  }
  const uint32_t a = AddressValue(i, i.operands[0], true, kToShared, &flags);
  const uint32_t b = AddressValue(i, i.operands[1], false, kFromShared, &flags);
  Ins& ins = Emit(i, AsyncCopy);
  ins.a = a;
  ins.b = b;
  ins.c = c;
  ins.imm = bytes;
  ins.target = flags;
}

// cp{.reduce}.async.bulk [to], [from], bytes {, [mbarrier]} {, mask of blocks} {, policy}
// {, mask of bytes}; prefetch
void FunctionDecoder::BulkCopyOf(const Instruction& i) {
  if (i.Has(Mod::kPrefetch)) {
    Emit(i, Nothing);
    return;
  }
  const bool signals = i.Has(Mod::kMbarrierCompleteTx);
  if (signals == i.Has(Mod::kBulkGroup)) return Unsupported(i);
  const bool global = i.Has(Mod::kGlobal);
  const bool to_shared = signals;
  const bool from_shared = !(signals && global);
  const size_t masks = (i.Has(Mod::kMulticast) || i.Has(Mod::kCpMask) ? 1 : 0);
  const size_t policy = i.Has(Mod::kL2cacheHint) ? 1 : 0;
  if (i.operands.size() != 3 + (signals ? 1 : 0) + masks + policy)
    return Error(i.at, "wrong number of operands");
  const Handler run = i.Has(Mod::kReduce) ? FindBulkReduce(i) : BulkCopy;
  if (run == nullptr || (i.Has(Mod::kReduce) && masks != 0)) return Unsupported(i);
  uint32_t flags = 0;
  const uint32_t a = AddressValue(i, i.operands[0], to_shared, kToShared, &flags);
  const uint32_t b = AddressValue(i, i.operands[1], from_shared, kFromShared, &flags);
  const uint32_t c = Source(i, i.operands[2], Type::kB32);
  const uint32_t e = signals ? AddressValue(i, i.operands[3], true, kMbarShared, &flags) : kNoSlot;
  uint32_t mask = kNoSlot;
  if (i.Has(Mod::kMulticast)) mask = Source(i, i.operands[4], Type::kB16);
  if (i.Has(Mod::kCpMask)) {
    mask = Source(i, i.operands.back(), Type::kB16);
    flags |= kByteMask;
  }
  Ins& ins = Emit(i, run);
  ins.a = a;
  ins.b = b;
  ins.c = c;
  ins.e = e;
  ins.imm = mask;
  ins.target = flags;
  if (mask != kNoSlot) masks_.push_back(kernel_.code.size() - 1);
}

// st.async and red.async: the access, then the bytes at the mbarrier. st.bulk: zeros.
void FunctionDecoder::RemoteOf(const Instruction& i) {
  uint32_t flags = 0;
  if (i.Has(Mod::kBulk)) {
    if (i.operands.size() != 3 || i.operands[2].kind != Operand::Kind::kInteger ||
        i.operands[2].value != 0)
      return Unsupported(i);
    const uint32_t a =
        AddressValue(i, i.operands[0], SpaceOf(i) == Space::kShared, kToShared, &flags);
    const uint32_t b = Source(i, i.operands[1], Type::kB64);
    Ins& ins = Emit(i, BulkZero);
    ins.a = a;
    ins.b = b;
    ins.target = flags;
    return;
  }
  if (!i.Has(Mod::kMbarrierCompleteTx) || i.operands.size() != 3) return Unsupported(i);
  Instruction access = i;
  access.operands.pop_back();
  if (i.opcode == Opcode::kSt) {
    Memory(access, false);
  } else {
    Atomic(access);
  }
  if (!error_.empty()) return;
  const uint32_t a = AddressValue(i, i.operands[2], true, kToShared, &flags);
  Ins& ins = Emit(i, MbarrierComplete);
  ins.a = a;
  ins.imm = uint64_t{TypeBytes(i.type())} * VectorOf(i);
  ins.target = flags;
}

// mapa d, a, rank; getctarank d, a
void FunctionDecoder::ClusterAddressOf(const Instruction& i) {
  const bool maps = i.opcode == Opcode::kMapa;
  const bool window = i.Has(Mod::kSharedCluster);
  const Type type = i.type();
  if (TypeBytes(type) != (window ? 4u : 8u)) {
    // .u64 with a name of the window, or .u32 without: addresses of another size.
    return Unsupported(i);
  }
  const uint32_t a = Source(i, i.operands[1], type);
  const uint32_t b = maps ? Source(i, i.operands[2], Type::kB32) : kNoSlot;
  const uint32_t d = Destination(i.operands[0], maps ? type : Type::kB32);
  Ins& ins =
      Emit(i, maps ? (window ? MapSharedToRank : MapToRank) : (window ? RankOfShared : RankOf));
  ins.d = d;
  ins.a = a;
  ins.b = b;
}

// Policies steer caches, which there are none of: any value will do.
void FunctionDecoder::PolicyOf(const Instruction& i) {
  Instruction move;
  move.opcode = Opcode::kMov;
  move.types[0] = Type::kB64;
  move.type_count = 1;
  move.at = i.at;
  move.guard = i.guard;
  move.guard_negated = i.guard_negated;
  Operand zero;
  zero.kind = Operand::Kind::kInteger;
  zero.at = i.at;
  move.operands = {i.operands[0], i.Has(Mod::kCvtPolicy) ? i.operands.back() : zero};
  Arithmetic(move, FindLogic(move));
}

}  // namespace farwarp::softgpu
