// Loads, stores and address arithmetic. Every access is checked before it is made: the address must
// lie in the address space (one mask and compare) and be aligned; shared accesses must lie in the
// block's shared memory. What the checks cannot see, page protection catches.
#include <atomic>
#include <cstring>

#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// Register width of the base address.
enum : uint32_t { kBase64 = 0, kBase32 = 1, kBaseNone = 2 };

// Addresses of all lanes: base register (a) plus offset (imm); target's upper half says how wide
// the base is.
inline void Addresses(Warp& warp, const Ins& ins, uint64_t (&address)[kLanes]) {
  const uint64_t offset = ins.imm;
  if (ins.target >> 16 == kBase64) {
    const uint64_t* const base = warp.Reg<uint64_t>(ins.a);
    for (uint32_t lane = 0; lane < kLanes; ++lane) address[lane] = base[lane] + offset;
  } else if (ins.target >> 16 == kBase32) {
    const uint32_t* const base = warp.Reg<uint32_t>(ins.a);
    for (uint32_t lane = 0; lane < kLanes; ++lane) address[lane] = uint64_t{base[lane]} + offset;
  } else {
    for (uint32_t lane = 0; lane < kLanes; ++lane) address[lane] = offset;
  }
}

inline bool IsShared(Space space) {
  return space == Space::kShared;
}

// Turns shared offsets into addresses and checks everything; faults do not return.
template <Space space>
inline void Check(Warp& warp, uint64_t (&address)[kLanes], uint32_t bytes) {
  const Block& block = *warp.block;
  const uint32_t active = warp.active;
  uint64_t bad[kLanes];
  if constexpr (space == Space::kShared) {
    const uint64_t size = block.shared_bytes;
    const uint64_t base = block.shared_base;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      bad[lane] = static_cast<uint64_t>(address[lane] + bytes > size || address[lane] > size) |
                  (address[lane] & (bytes - 1));
      address[lane] += base;
    }
  } else {
    const uint64_t mask = block.space_mask;
    const uint64_t base = block.space_base;
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      bad[lane] = ((address[lane] & mask) ^ base) | (address[lane] & (bytes - 1));
  }
  uint64_t any = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) any |= (active >> lane & 1) != 0 ? bad[lane] : 0;
  if (any == 0) [[likely]]
    return;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((active >> lane & 1) == 0 || bad[lane] == 0) continue;
    if constexpr (space == Space::kShared) {
      // Not the block's own memory: perhaps that of another block of the cluster.
      const uint64_t offset = address[lane] - block.shared_base;
      const uint64_t host = ResolveShared(block, offset, bytes);
      if (host != 0 && (offset & (bytes - 1)) == 0) {
        address[lane] = host;
        continue;
      }
    }
    const bool misaligned = (address[lane] & (bytes - 1)) != 0;
    const uint64_t shown =
        space == Space::kShared ? address[lane] - block.shared_base : address[lane];
    RaiseFault(warp, misaligned ? FaultKind::kMisaligned : FaultKind::kIllegalAddress, shown,
               1u << lane,
               misaligned                ? "misaligned address"
               : space == Space::kShared ? "address outside shared memory"
                                         : "illegal address");
  }
}

// Whether the lanes' addresses follow each other, or are all the same.
template <typename T>
inline bool Consecutive(const uint64_t (&address)[kLanes]) {
  uint64_t difference = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    difference |= address[lane] ^ (address[0] + lane * sizeof(T));
  return difference == 0;
}

template <typename M, typename R>
inline R Widen(M value) {
  if constexpr (std::is_signed_v<M>)
    return static_cast<R>(static_cast<int64_t>(value));
  else
    return static_cast<R>(value);
}

template <Space space, typename M, typename R>
void Load(Warp& warp, const Ins& ins) {
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  const uint32_t count = ins.target & 0xff;
  if (count > 1) {
    Check<space>(warp, address, static_cast<uint32_t>(sizeof(M)) * count);
    const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.active >> lane & 1) == 0) continue;
      M values[8];
      std::memcpy(values, reinterpret_cast<const void*>(address[lane]), sizeof(M) * count);
      for (uint32_t k = 0; k < count; ++k) {
        if (slots[k] != kNoSlot) warp.Reg<R>(slots[k])[lane] = Widen<M, R>(values[k]);
      }
    }
    return;
  }
  Check<space>(warp, address, sizeof(M));
  R* const d = warp.Reg<R>(ins.d);
  if (warp.active == ~0u && Consecutive<M>(address)) {
    const M* const from = reinterpret_cast<const M*>(address[0]);
    for (uint32_t lane = 0; lane < kLanes; ++lane) d[lane] = Widen<M, R>(from[lane]);
    return;
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) != 0) {
      d[lane] =
          Widen<M, R>(__atomic_load_n(reinterpret_cast<const M*>(address[lane]), __ATOMIC_RELAXED));
    }
  }
}

template <Space space, typename M, typename R>
void StoreTo(Warp& warp, const Ins& ins) {
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  const uint32_t count = ins.target & 0xff;
  if (count > 1) {
    Check<space>(warp, address, static_cast<uint32_t>(sizeof(M)) * count);
    const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.active >> lane & 1) == 0) continue;
      M values[8];
      for (uint32_t k = 0; k < count; ++k) values[k] = static_cast<M>(warp.Reg<R>(slots[k])[lane]);
      std::memcpy(reinterpret_cast<void*>(address[lane]), values, sizeof(M) * count);
    }
    return;
  }
  Check<space>(warp, address, sizeof(M));
  const R* const value = warp.Reg<R>(ins.d);
  if (warp.active == ~0u && Consecutive<M>(address)) {
    M* const to = reinterpret_cast<M*>(address[0]);
    for (uint32_t lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<M>(value[lane]);
    return;
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) != 0) {
      __atomic_store_n(reinterpret_cast<M*>(address[lane]), static_cast<M>(value[lane]),
                       __ATOMIC_RELAXED);
    }
  }
}

// The same value for all lanes, from the parameter buffer at imm.
template <typename M, typename R>
void LoadParam(Warp& warp, const Ins& ins) {
  const std::byte* const from =
      reinterpret_cast<const std::byte*>(warp.block->param_base) + ins.imm;
  const uint32_t count = ins.target & 0xff;
  for (uint32_t k = 0; k < count; ++k) {
    M value;
    std::memcpy(&value, from + k * sizeof(M), sizeof(M));
    const R wide = Widen<M, R>(value);
    const uint32_t slot = count == 1 ? ins.d : warp.kernel->slots[ins.slots + k];
    if (slot != kNoSlot) ForLanes<R>(warp, slot, [=](uint32_t) { return wide; });
  }
}

#define FARWARP_BY_REGISTER(Name, ...)                             \
  template <typename M>                                            \
  Handler Name(Space space, uint32_t bytes) {                      \
    const bool shared = IsShared(space);                           \
    if constexpr (sizeof(M) <= 2) {                                \
      if (bytes == 2)                                              \
        return shared ? __VA_ARGS__<Space::kShared, M, uint16_t>   \
                      : __VA_ARGS__<Space::kGeneric, M, uint16_t>; \
    }                                                              \
    if constexpr (sizeof(M) <= 4) {                                \
      if (bytes == 4)                                              \
        return shared ? __VA_ARGS__<Space::kShared, M, uint32_t>   \
                      : __VA_ARGS__<Space::kGeneric, M, uint32_t>; \
    }                                                              \
    if (bytes == 8)                                                \
      return shared ? __VA_ARGS__<Space::kShared, M, uint64_t>     \
                    : __VA_ARGS__<Space::kGeneric, M, uint64_t>;   \
    return nullptr;                                                \
  }
FARWARP_BY_REGISTER(LoadOf, Load)
FARWARP_BY_REGISTER(StoreOf, StoreTo)
#undef FARWARP_BY_REGISTER

template <typename M>
Handler ParamOf(uint32_t bytes) {
  if constexpr (sizeof(M) <= 2) {
    if (bytes == 2) return LoadParam<M, uint16_t>;
  }
  if constexpr (sizeof(M) <= 4) {
    if (bytes == 4) return LoadParam<M, uint32_t>;
  }
  return bytes == 8 ? LoadParam<M, uint64_t> : nullptr;
}

template <typename F>
void ToAllLanes(Warp& warp, const Ins& ins, F f) {
  ForLanes<uint64_t>(warp, ins.d, f);
}

inline uint64_t LocalOf(const Warp& warp, uint32_t lane) {
  const uint64_t thread = uint64_t{warp.index} * kLanes + lane;
  return warp.block->local_base + thread * warp.block->local_stride + warp.frame->local;
}

template <typename F>
void TestSpace(Warp& warp, const Ins& ins, F inside) {
  const uint64_t* const a = warp.Reg<uint64_t>(ins.a);
  uint32_t result = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) result |= inside(a[lane]) ? 1u << lane : 0;
  StorePredicate(warp, ins.d, result);
}

bool InShared(const Block& block, uint64_t address) {
  return address >= block.shared_base && address < block.shared_base + block.shared_bytes;
}
bool InLocal(const Block& block, uint64_t address) {
  return address >= block.local_base &&
         address < block.local_base + block.local_stride * block.threads;
}

}  // namespace

Handler FindLoad(Space space, Type type, uint32_t bytes) {
  switch (type) {
    case Type::kS8:
      return LoadOf<int8_t>(space, bytes);
    case Type::kS16:
      return LoadOf<int16_t>(space, bytes);
    case Type::kS32:
      return LoadOf<int32_t>(space, bytes);
    default:
      break;
  }
  switch (TypeBytes(type)) {
    case 1:
      return LoadOf<uint8_t>(space, bytes);
    case 2:
      return LoadOf<uint16_t>(space, bytes);
    case 4:
      return LoadOf<uint32_t>(space, bytes);
    case 8:
      return LoadOf<uint64_t>(space, bytes);
    case 16:
      return bytes == 16 ? FindWideLoad(space) : nullptr;
    default:
      return nullptr;
  }
}

Handler FindStore(Space space, Type type, uint32_t bytes) {
  switch (TypeBytes(type)) {
    case 1:
      return StoreOf<uint8_t>(space, bytes);
    case 2:
      return StoreOf<uint16_t>(space, bytes);
    case 4:
      return StoreOf<uint32_t>(space, bytes);
    case 8:
      return StoreOf<uint64_t>(space, bytes);
    case 16:
      return bytes == 16 ? FindWideStore(space) : nullptr;
    default:
      return nullptr;
  }
}

Handler FindParamLoad(Type type, uint32_t bytes) {
  switch (type) {
    case Type::kS8:
      return ParamOf<int8_t>(bytes);
    case Type::kS16:
      return ParamOf<int16_t>(bytes);
    case Type::kS32:
      return ParamOf<int32_t>(bytes);
    default:
      break;
  }
  switch (TypeBytes(type)) {
    case 1:
      return ParamOf<uint8_t>(bytes);
    case 2:
      return ParamOf<uint16_t>(bytes);
    case 4:
      return ParamOf<uint32_t>(bytes);
    case 8:
      return ParamOf<uint64_t>(bytes);
    default:
      return nullptr;
  }
}

void AddressSharedToGeneric(Warp& warp, const Ins& ins) {
  const uint64_t* const a = warp.Reg<uint64_t>(ins.a);
  const Block& block = *warp.block;
  const uint64_t base = block.shared_base;
  uint64_t high = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) high |= a[lane] >> kClusterShift;
  if (high == 0) [[likely]]
    return ToAllLanes(warp, ins, [=](uint32_t lane) { return a[lane] + base; });
  uint64_t result[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    result[lane] = ResolveShared(block, a[lane], 0);
    if (result[lane] == 0) result[lane] = a[lane] + base;
  }
  ToAllLanes(warp, ins, [&](uint32_t lane) { return result[lane]; });
}
void AddressGenericToShared(Warp& warp, const Ins& ins) {
  const uint64_t* const a = warp.Reg<uint64_t>(ins.a);
  const Block& block = *warp.block;
  const uint64_t base = block.shared_base;
  if (block.cluster->blocks.size() == 1)
    return ToAllLanes(warp, ins, [=](uint32_t lane) { return a[lane] - base; });
  uint64_t result[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const Block* const owner = OwnerOfShared(block, a[lane]);
    result[lane] =
        owner == nullptr || owner == &block
            ? a[lane] - base
            : a[lane] - owner->shared_base + (uint64_t{owner->rank + 1} << kClusterShift);
  }
  ToAllLanes(warp, ins, [&](uint32_t lane) { return result[lane]; });
}
void AddressOfLocal(Warp& warp, const Ins& ins) {
  ToAllLanes(warp, ins, [&](uint32_t lane) { return LocalOf(warp, lane) + ins.imm; });
}
void AddressOfParam(Warp& warp, const Ins& ins) {
  const uint64_t address = warp.block->param_base + ins.imm;
  ToAllLanes(warp, ins, [=](uint32_t) { return address; });
}
// A formal parameter lies in the caller's local frame; the call said where.
void AddressOfFormal(Warp& warp, const Ins& ins) {
  const Frame& frame = *warp.frame;
  const bool result = (ins.target & 0x8000) != 0;
  const uint32_t offset = (result ? frame.returns : frame.params)[ins.target & 0x7fff];
  ToAllLanes(warp, ins,
             [&](uint32_t lane) { return LocalOf(warp, lane) - frame.local + offset + ins.imm; });
}
void IsSpaceShared(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [&](uint64_t address) { return InShared(*warp.block, address); });
}
void IsSpaceSharedCluster(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins,
            [&](uint64_t address) { return OwnerOfShared(*warp.block, address) != nullptr; });
}
void IsSpaceLocal(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [&](uint64_t address) { return InLocal(*warp.block, address); });
}
void IsSpaceGlobal(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [&](uint64_t address) {
    return !InLocal(*warp.block, address) && OwnerOfShared(*warp.block, address) == nullptr;
  });
}
void IsSpaceConst(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [](uint64_t) { return false; });
}

void Fence(Warp&, const Ins&) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
void Nothing(Warp&, const Ins&) {}

}  // namespace farwarp::softgpu
