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

// Host address of `bytes` bytes; `align` is a power of two.
inline std::byte* Access(Warp& warp, bool shared, uint64_t address, uint32_t bytes, uint32_t align,
                         uint32_t lane) {
  const Block& block = *warp.block;
  if ((address & (align - 1)) != 0)
    RaiseFault(warp, FaultKind::kMisaligned, address, 1u << lane, "misaligned address");
  if (shared) {
    if (address > block.shared_bytes || address + bytes > block.shared_bytes)
      RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane,
                 "address outside shared memory");
    address += block.shared_base;
  } else if ((address & block.space_mask) != block.space_base) {
    RaiseFault(warp, FaultKind::kIllegalAddress, address, 1u << lane, "illegal address");
  }
  return reinterpret_cast<std::byte*>(address);
}

}  // namespace farwarp::softgpu
