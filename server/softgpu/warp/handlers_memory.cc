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

// How a warp's addresses lie: most accesses are of one of the first two kinds, which need neither
// an address nor a check for each lane.
enum class Pattern : uint8_t { kConsecutive, kUniform, kScattered };

struct Region {
  Pattern pattern = Pattern::kScattered;
  std::byte* begin = nullptr;  // Checked, unless scattered.
};

// Compares all lanes of a base register with what it would be in the first two patterns, which
// excludes a wrap at the end of the address space, as the region's size is checked later.
template <typename B>
inline Pattern PatternOf(const B* base, uint32_t step) {
  const B first = base[0];
  B moved = 0, varied = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    moved |= base[lane] ^ static_cast<B>(first + lane * step);
    varied |= base[lane] ^ first;
  }
  if (moved == 0) return Pattern::kConsecutive;
  return varied == 0 ? Pattern::kUniform : Pattern::kScattered;
}

// What a warp of which all lanes are active accesses with `bytes` bytes for each lane. Whatever is
// not known to be right counts as scattered and is looked at lane by lane.
template <Space space>
inline Region RegionOf(const Warp& warp, const Ins& ins, uint32_t bytes) {
  if (warp.active != ~0u) return {};
  Region region;
  uint64_t first = ins.imm;
  if (ins.target >> 16 == kBase64) {
    const uint64_t* const base = warp.Reg<uint64_t>(ins.a);
    region.pattern = PatternOf(base, bytes);
    first += base[0];
  } else if (ins.target >> 16 == kBase32) {
    const uint32_t* const base = warp.Reg<uint32_t>(ins.a);
    region.pattern = PatternOf(base, bytes);
    first += base[0];
  } else {
    region.pattern = Pattern::kUniform;
  }
  if (region.pattern == Pattern::kScattered) return {};
  const uint64_t last =
      first + (region.pattern == Pattern::kConsecutive ? (kLanes - 1) * uint64_t{bytes} : 0);
  const Block& block = *warp.block;
  if ((first & (bytes - 1)) != 0 || last < first) return {};
  if constexpr (space == Space::kShared) {
    if (last >= block.shared_bytes || last + bytes > block.shared_bytes) return {};
    first += block.shared_base;
  } else {
    if (((first & block.space_mask) ^ block.space_base) != 0 ||
        ((last & block.space_mask) ^ block.space_base) != 0)
      return {};
  }
  region.begin = reinterpret_cast<std::byte*>(first);
  return region;
}

template <typename M, typename R>
inline R Widen(M value) {
  if constexpr (std::is_signed_v<M>)
    return static_cast<R>(static_cast<int64_t>(value));
  else
    return static_cast<R>(value);
}

// Element k of each lane's vector into its register; `step` elements from lane to lane.
template <typename M, typename R, uint32_t step>
inline void LoadElements(Warp& warp, const uint32_t* slots, uint32_t count, const M* from) {
  for (uint32_t k = 0; k < count; ++k) {
    if (slots[k] == kNoSlot) continue;
    R* const d = warp.Reg<R>(slots[k]);
    for (uint32_t lane = 0; lane < kLanes; ++lane) d[lane] = Widen<M, R>(from[lane * step + k]);
  }
}

template <Space space, typename M, typename R>
void LoadVector(Warp& warp, const Ins& ins) {
  const uint32_t count = ins.target & 0xff;
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  const uint32_t bytes = static_cast<uint32_t>(sizeof(M)) * count;
  const Region region = RegionOf<space>(warp, ins, bytes);
  const M* const from = reinterpret_cast<const M*>(region.begin);
  if (region.pattern == Pattern::kUniform) {
    M values[8];  // The base register may be one of the destinations.
    std::memcpy(values, from, bytes);
    return LoadElements<M, R, 0>(warp, slots, count, values);
  }
  if (region.pattern == Pattern::kConsecutive && count == 2)
    return LoadElements<M, R, 2>(warp, slots, count, from);
  if (region.pattern == Pattern::kConsecutive && count == 4)
    return LoadElements<M, R, 4>(warp, slots, count, from);
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  Check<space>(warp, address, bytes);
  for (uint32_t left = warp.active; left != 0; left &= left - 1) {
    const auto lane = static_cast<uint32_t>(__builtin_ctz(left));
    M values[8];
    std::memcpy(values, reinterpret_cast<const void*>(address[lane]), bytes);
    for (uint32_t k = 0; k < count; ++k) {
      if (slots[k] != kNoSlot) warp.Reg<R>(slots[k])[lane] = Widen<M, R>(values[k]);
    }
  }
}

template <Space space, typename M, typename R>
void Load(Warp& warp, const Ins& ins) {
  if ((ins.target & 0xff) > 1) return LoadVector<space, M, R>(warp, ins);
  const Region region = RegionOf<space>(warp, ins, sizeof(M));
  R* const d = warp.Reg<R>(ins.d);
  if (region.pattern == Pattern::kConsecutive) {
    const M* const from = reinterpret_cast<const M*>(region.begin);
    for (uint32_t lane = 0; lane < kLanes; ++lane) d[lane] = Widen<M, R>(from[lane]);
    return;
  }
  if (region.pattern == Pattern::kUniform) {
    const R value =
        Widen<M, R>(__atomic_load_n(reinterpret_cast<const M*>(region.begin), __ATOMIC_RELAXED));
    for (uint32_t lane = 0; lane < kLanes; ++lane) d[lane] = value;
    return;
  }
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  Check<space>(warp, address, sizeof(M));
  const auto one = [&](uint32_t lane) {
    d[lane] =
        Widen<M, R>(__atomic_load_n(reinterpret_cast<const M*>(address[lane]), __ATOMIC_RELAXED));
  };
  if (warp.active == ~0u) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) one(lane);
    return;
  }
  for (uint32_t left = warp.active; left != 0; left &= left - 1)
    one(static_cast<uint32_t>(__builtin_ctz(left)));
}

template <Space space, typename M, typename R>
void StoreVector(Warp& warp, const Ins& ins) {
  const uint32_t count = ins.target & 0xff;
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  Check<space>(warp, address, static_cast<uint32_t>(sizeof(M)) * count);
  for (uint32_t left = warp.active; left != 0; left &= left - 1) {
    const auto lane = static_cast<uint32_t>(__builtin_ctz(left));
    M values[8];
    for (uint32_t k = 0; k < count; ++k) values[k] = static_cast<M>(warp.Reg<R>(slots[k])[lane]);
    std::memcpy(reinterpret_cast<void*>(address[lane]), values, sizeof(M) * count);
  }
}

template <Space space, typename M, typename R>
void StoreTo(Warp& warp, const Ins& ins) {
  if ((ins.target & 0xff) > 1) return StoreVector<space, M, R>(warp, ins);
  const R* const value = warp.Reg<R>(ins.d);
  const Region region = RegionOf<space>(warp, ins, sizeof(M));
  if (region.pattern == Pattern::kConsecutive) {
    M* const to = reinterpret_cast<M*>(region.begin);
    for (uint32_t lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<M>(value[lane]);
    return;
  }
  uint64_t address[kLanes];
  Addresses(warp, ins, address);
  Check<space>(warp, address, sizeof(M));
  const auto one = [&](uint32_t lane) {
    __atomic_store_n(reinterpret_cast<M*>(address[lane]), static_cast<M>(value[lane]),
                     __ATOMIC_RELAXED);
  };
  if (warp.active == ~0u) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) one(lane);
    return;
  }
  for (uint32_t left = warp.active; left != 0; left &= left - 1)
    one(static_cast<uint32_t>(__builtin_ctz(left)));
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
bool InConst(const Warp& warp, const Ins& ins, uint64_t address) {
  const uint32_t* range = warp.kernel->slots.data() + ins.slots;
  for (uint32_t i = 0; i < ins.target; ++i, range += 4) {
    const uint64_t begin = range[0] | uint64_t{range[1]} << 32;
    const uint64_t end = range[2] | uint64_t{range[3]} << 32;
    if (address >= begin && address < end) return true;
  }
  return false;
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
// Parameters of kernels lie in a window of global memory, constants do not.
void IsSpaceGlobal(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [&](uint64_t address) {
    return !InLocal(*warp.block, address) && OwnerOfShared(*warp.block, address) == nullptr &&
           !InConst(warp, ins, address);
  });
}
void IsSpaceConst(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins, [&](uint64_t address) { return InConst(warp, ins, address); });
}
void IsSpaceParam(Warp& warp, const Ins& ins) {
  TestSpace(warp, ins,
            [&](uint64_t address) { return address - warp.block->param_base < ins.imm; });
}

void Fence(Warp&, const Ins&) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
void Nothing(Warp&, const Ins&) {}

}  // namespace farwarp::softgpu
