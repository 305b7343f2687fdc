// The tables from instruction to handler, by topic. Each returns the handler for the instruction's
// type and modifiers, or nullptr if this engine does not execute it; operands are in the order in
// which PTX writes them: d, a, b, c. Pure; thread-safe.
#pragma once

#include "server/softgpu/ptx/ast.h"
#include "server/softgpu/warp/decoded.h"

namespace farwarp::softgpu {

Handler FindInteger(
    const Instruction& instruction);  // add … prmt on integers, bit operations, carries
Handler FindLogic(const Instruction& instruction);  // and, or, xor, not on bits and predicates,
                                                    // shifts, lop3, mov, selp
Handler FindFloat(const Instruction& instruction);  // f32, f64 and all that follow: arithmetic,
                                                    // approximations
Handler FindHalf(const Instruction& instruction);   // f16, bf16 and their pairs
Handler FindMixedPrecision(const Instruction& instruction);  // add.f32.f16 and its like
Handler FindFloatPairs(const Instruction& instruction);      // f32x2
Handler FindIntegerPairs(const Instruction& instruction);    // u16x2, s16x2
Handler FindExtendedMinMax(const Instruction& instruction);  // f32: .xorsign.abs, or three operands
Handler FindReluMinMax(const Instruction& instruction);      // s32
Handler FindHalfPairCompare(const Instruction& instruction, Type compared);
Handler FindCompare(const Instruction& instruction);  // setp, set, slct, testp
Handler FindConvert(const Instruction& instruction, uint32_t from_bytes,
                    uint32_t to_bytes);  // register widths
// cvt to and from tf32 and floats of eight bits and less, and cvt.pack; a, b, c: sources, target: 1
// for .relu, 2 for .satfinite.
Handler FindNarrowConvert(const Instruction& instruction);

Handler FindVideo(const Instruction& instruction, uint32_t parts);  // imm: VideoForm
Handler FindExtend(const Instruction& instruction);  // szext, bmsk.wrap, mad24.hi.sat
void PredicateOfLop3(Warp& warp, const Ins& ins);    // d: predicate, a: value, c: predicate;
                                                     // target: Combine, imm: 1 if c is negated

// Registers put together from, or taken apart into, smaller ones: elements in slots, target of
// them, imm bytes each.
void Pack(Warp& warp, const Ins& ins);               // d = elements
void Unpack(Warp& warp, const Ins& ins);             // elements = a
Handler FindInsert(const Instruction& instruction);  // bfi: a into b at c, length e

// ld and st; the register's width may exceed the memory type's. `vector` elements are in
// DecodedKernel::slots.
Handler FindLoad(Space space, Type type, uint32_t register_bytes);
Handler FindStore(Space space, Type type, uint32_t register_bytes);
Handler FindParamLoad(Type type,
                      uint32_t register_bytes);  // Kernel parameters at a constant offset.
Handler FindAtomic(const Instruction& instruction, Space space);
// On 16-bit floats and vectors; slots: old values, operand; target's lower half: elements.
Handler FindVectorAtomic(const Instruction& instruction, Space space);
// 128 bits.
Handler FindWideAtomic(const Instruction& instruction, Space space);
Handler FindWideLoad(Space space);
Handler FindWideStore(Space space);
void WideMove(Warp& warp, const Ins& ins);
void AddressSharedToGeneric(Warp& warp, const Ins& ins);
void AddressGenericToShared(Warp& warp, const Ins& ins);
void AddressOfLocal(Warp& warp, const Ins& ins);  // d = this thread's local memory + frame + imm
void AddressOfParam(Warp& warp, const Ins& ins);  // d = parameter buffer + imm
void AddressOfFormal(
    Warp& warp,
    const Ins& ins);  // d = local address of formal parameter (target) + imm; returns from 0x8000
void IsSpaceShared(Warp& warp, const Ins& ins);
void IsSpaceSharedCluster(Warp& warp, const Ins& ins);
void IsSpaceLocal(Warp& warp, const Ins& ins);
void IsSpaceGlobal(Warp& warp, const Ins& ins);
// slots, target: the ranges of constant memory and their number, for these two.
void IsSpaceConst(Warp& warp, const Ins& ins);
// imm: the size of the kernel's parameters.
void IsSpaceParam(Warp& warp, const Ins& ins);
void Fence(Warp& warp, const Ins& ins);
void Nothing(Warp& warp, const Ins& ins);

// Control.
void Branch(Warp& warp, const Ins& ins);
void BranchIndexed(Warp& warp, const Ins& ins);  // a: index, slots: targets, target: how many
void Exit(Warp& warp, const Ins& ins);
void Return(Warp& warp, const Ins& ins);
void CallFunction(Warp& warp, const Ins& ins);   // target: call site
void CallIndirect(Warp& warp, const Ins& ins);   // a: address, target: call site
void CallRefused(Warp& warp, const Ins& ins);    // A function that could not be decoded.
void StackAllocate(Warp& warp, const Ins& ins);  // d = local memory of a bytes, imm: alignment
void StackSave(Warp& warp, const Ins& ins);      // d = how much is allocated
void StackRestore(Warp& warp, const Ins& ins);   // ... back to a
void Trap(Warp& warp, const Ins& ins);
void Yield(Warp& warp, const Ins& ins);

// Functions of the device's runtime; target: call site.
void HeapAllocate(Warp& warp, const Ins& ins);  // malloc(bytes)
void HeapAllocateAligned(Warp& warp, const Ins& ins);
void HeapFree(Warp& warp, const Ins& ins);
void PrintFormatted(Warp& warp, const Ins& ins);  // vprintf(format, arguments)
void AssertFailed(Warp& warp,
                  const Ins& ins);  // __assertfail(message, file, line, function, char size)

// Among lanes and threads.
Handler FindShuffle(const Instruction& instruction);  // e: predicate out or kNoSlot; imm: slot of
                                                      // the member mask or kNoSlot
Handler FindVote(const Instruction& instruction);
Handler FindMatch(const Instruction& instruction);
Handler FindRedux(const Instruction& instruction);
void ActiveMask(Warp& warp, const Ins& ins);
void Elect(Warp& warp, const Ins& ins);
void WarpSync(Warp& warp, const Ins& ins);  // a: member mask
Handler FindBarrier(
    const Instruction& instruction);  // a: number, b: count or kNoSlot, c: predicate; d: result

// True if all lanes of the warp that have not exited are here. Otherwise the group goes back to the
// instruction and waits for the others, which join it there.
bool GatheredLive(Warp& warp);

// barrier.cluster.arrive and .wait
void ClusterArrive(Warp& warp, const Ins& ins);
void ClusterWait(Warp& warp, const Ins& ins);
void MapToRank(Warp& warp, const Ins& ins);        // mapa of a generic address: d, a, b: rank
void MapSharedToRank(Warp& warp, const Ins& ins);  // ... of one in the window: 32 bits
void RankOf(Warp& warp, const Ins& ins);           // getctarank: d, a
void RankOfShared(Warp& warp, const Ins& ins);

// What follows takes addresses as AddressSum leaves them: 64 bits in each lane, not checked, in the
// window shared::cluster if target has the flag that is named.
void AddressSum(Warp& warp, const Ins& ins);  // d = base (a, as for ld) + imm

inline constexpr uint32_t kToShared = 1;    // The destination, or the only address.
inline constexpr uint32_t kFromShared = 2;  // The source.
inline constexpr uint32_t kMbarShared = 4;

// mbarrier: a: address, kToShared.
inline constexpr uint32_t kDrops = 8;
inline constexpr uint32_t kExpects = 16;
void MbarrierInit(Warp& warp, const Ins& ins);  // b: count
void MbarrierInvalidate(Warp& warp, const Ins& ins);
// b: count, or with kExpects bytes; kNoSlot: 1. d: state before, or kNoSlot.
void MbarrierArrive(Warp& warp, const Ins& ins);
void MbarrierExpect(Warp& warp, const Ins& ins);    // b: bytes
void MbarrierComplete(Warp& warp, const Ins& ins);  // b: bytes, or kNoSlot: imm of them
void MbarrierPending(Warp& warp, const Ins& ins);   // d: count, a: state
// d: predicate, b: state or parity. imm: 1 if it is a parity.
void MbarrierTest(Warp& warp, const Ins& ins);
void MbarrierTry(Warp& warp, const Ins& ins);

// Copies complete when they are issued; waiting for them is nothing to do.
// a: to, b: from, c: bytes of the source, or with kIgnores a predicate, or kNoSlot; imm: bytes.
inline constexpr uint32_t kIgnores = 32;
void AsyncCopy(Warp& warp, const Ins& ins);
// a: to, b: from, c: bytes, e: mbarrier or kNoSlot, imm: slot of the mask of a multicast or
// kNoSlot; or of the mask of bytes, with kByteMask.
inline constexpr uint32_t kByteMask = 64;
void BulkCopy(Warp& warp, const Ins& ins);
Handler FindBulkReduce(const Instruction& instruction);  // The same, but for imm.
void BulkZero(Warp& warp, const Ins& ins);               // st.bulk: a: to, b: bytes

// Matrices. target's lower half: index of the form; slots: registers of D, A, B, C. Loads and
// stores: registers in slots, address as for ld, b: stride in elements.
Handler FindMatrixMultiply(const MatrixForm& form);
Handler FindMatrixLoad(const MatrixForm& form);   // wmma.load
Handler FindMatrixStore(const MatrixForm& form);  // wmma.store
void LoadTiles(Warp& warp, const Ins& ins);       // ldmatrix of 8 x 8 elements of 16 bits
void LoadByteTiles(Warp& warp, const Ins& ins);   // ldmatrix of 16 x 16 bytes, transposed
void StoreTiles(Warp& warp, const Ins& ins);      // stmatrix
void StoreByteTiles(Warp& warp, const Ins& ins);  // stmatrix of 16 x 8 bytes, transposed
void TransposeTile(Warp& warp, const Ins& ins);   // movmatrix: d, a

// Textures and surfaces: a is the register with the number, imm a form (texture_form.h), slots the
// coordinates and, from `target` on, the data.
void TextureFetch(Warp& warp, const Ins& ins);   // tex, tld4
void QueryTexture(Warp& warp, const Ins& ins);   // txq; d
void QuerySurface(Warp& warp, const Ins& ins);   // suq; d
void SurfaceLoad(Warp& warp, const Ins& ins);    // suld
void SurfaceStore(Warp& warp, const Ins& ins);   // sust
void SurfaceReduce(Warp& warp, const Ins& ins);  // sured

// Special registers by name ("%tid.x"); nullptr if unknown.
Handler FindSpecial(std::string_view name, uint32_t register_bytes);
Handler FindSpecialPredicate(std::string_view name);

}  // namespace farwarp::softgpu
