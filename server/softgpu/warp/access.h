// Checked accesses by single lanes, for handlers that do not load or store one vector: the address
// must lie in the address space or in the block's shared memory, and be aligned. Faults do not
// return.
#pragma once

#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {

// The address operand of an instruction: base register (a), offset (imm), width of the base in the
// upper half of target (0: 64 bits, 1: 32 bits, 2: none).
inline uint64_t AddressOfLane(Warp& warp, const Ins& ins, uint32_t lane) {
  uint64_t address = ins.imm;
  if (ins.target >> 16 == 0) address += warp.Reg<uint64_t>(ins.a)[lane];
  if (ins.target >> 16 == 1) address += warp.Reg<uint32_t>(ins.a)[lane];
  return address;
}

// Host address of an address in the window shared::cluster; 0 if it is in no block's shared memory.
inline uint64_t ResolveShared(const Block& block, uint64_t address, uint64_t bytes) {
  const Block* owner = &block;
  if (const uint64_t window = address >> kClusterShift; window != 0) {
    if (window > block.cluster->blocks.size()) return 0;
    owner = block.cluster->blocks[window - 1];
    address &= (uint64_t{1} << kClusterShift) - 1;
  }
  const uint64_t size = owner->shared_bytes;
  return address > size || bytes > size - address ? 0 : owner->shared_base + address;
}
// The block of the cluster in whose shared memory a generic address lies, or nullptr.
inline const Block* OwnerOfShared(const Block& block, uint64_t address) {
  if (address - block.shared_base < block.shared_bytes) return &block;
  for (const Block* other : block.cluster->blocks) {
    if (address - other->shared_base < other->shared_bytes) return other;
  }
  return nullptr;
}

// Host address of `bytes` bytes; `align` is a power of two.
inline std::byte* Access(Warp& warp, bool shared, uint64_t address, uint32_t bytes, uint32_t align,
                         uint32_t lane) {
  const Block& block = *warp.block;
  if ((address & (align - 1)) != 0)
    RaiseFault(warp, FaultKind::kMisaligned, address, 1u << lane, "misaligned address");
  if (shared) {
    const uint64_t host = ResolveShared(block, address, bytes);
    if (host == 0)
      RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane,
                 "address outside shared memory");
    address = host;
  } else if ((address & block.space_mask) != block.space_base) {
    RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane, "illegal address");
  }
  return reinterpret_cast<std::byte*>(address);
}

}  // namespace farwarp::softgpu
