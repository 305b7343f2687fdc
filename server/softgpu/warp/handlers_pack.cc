// mov between a register and a vector of smaller ones, and bfi.
#include <cstring>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

template <typename T>
void Insert(Warp& warp, const Ins& ins) {
  const T* const a = warp.Reg<T>(ins.a);
  const T* const b = warp.Reg<T>(ins.b);
  const uint32_t* const c = warp.Reg<uint32_t>(ins.c);
  const uint32_t* const e = warp.Reg<uint32_t>(ins.e);
  constexpr uint32_t kBits = 8 * sizeof(T);
  ForLanes<T>(warp, ins.d, [=](uint32_t lane) {
    const uint32_t position = c[lane] & 0xff;
    const uint32_t length = e[lane] & 0xff;
    if (position >= kBits || length == 0) return b[lane];
    const T ones = length >= kBits ? static_cast<T>(-1) : static_cast<T>((T{1} << length) - 1);
    const T mask = static_cast<T>(ones << position);
    return static_cast<T>((b[lane] & ~mask) | (static_cast<T>(a[lane] << position) & mask));
  });
}

}  // namespace

void Pack(Warp& warp, const Ins& ins) {
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  const size_t bytes = ins.imm;
  const size_t stride = bytes < 2 ? 2 : bytes;  // Registers of bytes take two.
  const size_t whole = bytes * ins.target;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::byte value[16];
    for (uint32_t k = 0; k < ins.target; ++k)
      std::memcpy(value + k * bytes, warp.regs + slots[k] + lane * stride, bytes);
    std::memcpy(warp.regs + ins.d + lane * whole, value, whole);
  }
}

void Unpack(Warp& warp, const Ins& ins) {
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  const size_t bytes = ins.imm;
  const size_t stride = bytes < 2 ? 2 : bytes;  // Registers of bytes take two.
  const size_t whole = bytes * ins.target;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::byte value[16];
    std::memcpy(value, warp.regs + ins.a + lane * whole, whole);
    for (uint32_t k = 0; k < ins.target; ++k) {
      if (slots[k] != kNoSlot)
        std::memcpy(warp.regs + slots[k] + lane * stride, value + k * bytes, bytes);
    }
  }
}

Handler FindInsert(const Instruction& i) {
  return TypeBytes(i.type()) == 8 ? Insert<uint64_t> : Insert<uint32_t>;
}

}  // namespace farwarp::softgpu
