// suld, sust, sured: texels of surfaces as bytes, or by their format. Each lane's access is checked
// against the surface before it is made.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/texture_form.h"
#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {
namespace {

// Brings a coordinate into [0, size - bytes] as the mode says; false: outside.
bool InRange(int64_t* at, uint64_t size, uint64_t bytes, OutOfRange mode) {
  if (bytes > size) return false;
  const auto last = static_cast<int64_t>(size - bytes);
  if (*at >= 0 && *at <= last) return true;
  if (mode != OutOfRange::kClamp) return false;
  *at = std::clamp<int64_t>(*at, 0, last);
  return true;
}

// Where the lane's access goes; nullptr: outside, and the mode asks for zeros.
std::byte* Locate(Warp& warp, const Ins& ins, const SurfaceForm& form, TextureState* state,
                  uint32_t lane) {
  const uint64_t handle = warp.Reg<uint64_t>(ins.a)[lane];
  if (!TextureTable::Surfaces().Read(handle, state))
    RaiseFault(warp, FaultKind::kIllegalAddress, handle, 1u << lane, "no such surface");
  const uint32_t* slots = warp.kernel->slots.data() + ins.slots;
  const bool layered = form.shape == TextureShape::kA1d || form.shape == TextureShape::kA2d;
  int64_t layer = 0;
  if (layered) layer = warp.Reg<uint32_t>(*slots++)[lane];
  const uint32_t count = CoordinatesOf(form.shape) - (layered ? 1 : 0);
  int64_t at[3] = {0, 0, 0};
  for (uint32_t k = 0; k < count; ++k) at[k] = warp.Reg<int32_t>(slots[k])[lane];
  if (layered) at[2] = layer;
  const uint64_t bytes = form.formatted ? state->texel_bytes() : uint64_t{form.bytes} * form.count;
  if (form.formatted) at[0] *= static_cast<int64_t>(bytes);
  const uint64_t row = uint64_t{state->width} * state->texel_bytes();
  const bool inside = InRange(&at[0], row, bytes, form.out_of_range) &&
                      InRange(&at[1], std::max(1u, state->height), 1, form.out_of_range) &&
                      InRange(&at[2], std::max(1u, state->depth), 1, form.out_of_range);
  if (!inside) {
    if (form.out_of_range == OutOfRange::kZero) return nullptr;
    RaiseFault(warp, FaultKind::kIllegalAddress, handle, 1u << lane, "outside the surface");
  }
  const uint64_t address = state->base + static_cast<uint64_t>(at[2]) * state->slice +
                           static_cast<uint64_t>(at[1]) * state->pitch +
                           static_cast<uint64_t>(at[0]);
  if (!form.formatted && static_cast<uint64_t>(at[0]) % bytes != 0)
    RaiseFault(warp, FaultKind::kMisaligned, address, 1u << lane, "misaligned surface access");
  return reinterpret_cast<std::byte*>(address);
}

void ReadRegister(Warp& warp, const SurfaceForm& form, uint32_t slot, uint32_t lane,
                  std::byte* to) {
  if (form.register_bytes == 2) std::memcpy(to, &warp.Reg<uint16_t>(slot)[lane], form.bytes);
  if (form.register_bytes == 4) std::memcpy(to, &warp.Reg<uint32_t>(slot)[lane], form.bytes);
  if (form.register_bytes == 8) std::memcpy(to, &warp.Reg<uint64_t>(slot)[lane], form.bytes);
}

// One channel of a formatted store: the nearest value that the format can hold.
uint64_t Narrowed(TexelType type, uint32_t bits) {
  const auto value = static_cast<int32_t>(bits);
  switch (type) {
    case TexelType::kU8:
      return std::min(bits, 0xffu);
    case TexelType::kU16:
      return std::min(bits, 0xffffu);
    case TexelType::kS8:
      return static_cast<uint64_t>(std::clamp(value, -128, 127));
    case TexelType::kS16:
      return static_cast<uint64_t>(std::clamp(value, -32768, 32767));
    case TexelType::kF16:
      return std::bit_cast<uint16_t>(static_cast<_Float16>(std::bit_cast<float>(bits)));
    default:
      return bits;
  }
}

void StoreFormatted(Warp& warp, const TextureState& state, const SurfaceForm& form,
                    const uint32_t* data, uint32_t lane, std::byte* to) {
  const uint32_t bytes = TexelTypeBytes(state.type);
  for (uint32_t c = 0; c < state.channels; ++c) {
    const uint32_t bits = c < form.count ? warp.Reg<uint32_t>(data[c])[lane] : 0;
    const uint64_t value = Narrowed(state.type, bits);
    std::memcpy(to + size_t{c} * bytes, &value, bytes);
  }
}

template <typename T>
void Reduce(SurfaceOp op, std::byte* at, T value) {
  auto* const to = reinterpret_cast<T*>(at);
  switch (op) {
    case SurfaceOp::kAdd: {
      using U = std::make_unsigned_t<T>;
      __atomic_fetch_add(reinterpret_cast<U*>(to), static_cast<U>(value), __ATOMIC_RELAXED);
      return;
    }
    case SurfaceOp::kMin:
      __atomic_fetch_min(to, value, __ATOMIC_RELAXED);
      return;
    case SurfaceOp::kMax:
      __atomic_fetch_max(to, value, __ATOMIC_RELAXED);
      return;
    case SurfaceOp::kAnd:
      __atomic_fetch_and(to, value, __ATOMIC_RELAXED);
      return;
    case SurfaceOp::kOr:
      __atomic_fetch_or(to, value, __ATOMIC_RELAXED);
      return;
    case SurfaceOp::kNone:
      return;
  }
}

}  // namespace

void SurfaceLoad(Warp& warp, const Ins& ins) {
  const auto form = std::bit_cast<SurfaceForm>(ins.imm);
  const uint32_t* const results = warp.kernel->slots.data() + ins.slots + ins.target;
  TextureState state;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const std::byte* const from = Locate(warp, ins, form, &state, lane);
    std::byte values[32] = {};
    if (from != nullptr) std::memcpy(values, from, size_t{form.bytes} * form.count);
    for (uint32_t k = 0; k < form.count; ++k) {
      uint64_t value = 0;
      std::memcpy(&value, values + size_t{k} * form.bytes, form.bytes);
      if (form.register_bytes == 2)
        warp.Reg<uint16_t>(results[k])[lane] = static_cast<uint16_t>(value);
      if (form.register_bytes == 4)
        warp.Reg<uint32_t>(results[k])[lane] = static_cast<uint32_t>(value);
      if (form.register_bytes == 8) warp.Reg<uint64_t>(results[k])[lane] = value;
    }
  }
}

void SurfaceStore(Warp& warp, const Ins& ins) {
  const auto form = std::bit_cast<SurfaceForm>(ins.imm);
  const uint32_t* const data = warp.kernel->slots.data() + ins.slots + ins.target;
  TextureState state;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::byte* const to = Locate(warp, ins, form, &state, lane);
    if (to == nullptr) continue;
    if (form.formatted) {
      StoreFormatted(warp, state, form, data, lane, to);
      continue;
    }
    std::byte values[32];
    for (uint32_t k = 0; k < form.count; ++k)
      ReadRegister(warp, form, data[k], lane, values + size_t{k} * form.bytes);
    std::memcpy(to, values, size_t{form.bytes} * form.count);
  }
}

void SurfaceReduce(Warp& warp, const Ins& ins) {
  const auto form = std::bit_cast<SurfaceForm>(ins.imm);
  const uint32_t data = warp.kernel->slots[ins.slots + ins.target];
  TextureState state;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    std::byte* const to = Locate(warp, ins, form, &state, lane);
    if (to == nullptr) continue;
    if (form.formatted && state.texel_bytes() != form.bytes)
      RaiseFault(warp, FaultKind::kIllegalAddress, warp.Reg<uint64_t>(ins.a)[lane], 1u << lane,
                 "texels of another size than the reduction's");
    const bool is_signed = form.formatted ? state.type == TexelType::kS32 : form.is_signed;
    if (form.bytes == 4 && is_signed) Reduce(form.op, to, warp.Reg<int32_t>(data)[lane]);
    if (form.bytes == 4 && !is_signed) Reduce(form.op, to, warp.Reg<uint32_t>(data)[lane]);
    if (form.bytes == 8 && is_signed) Reduce(form.op, to, warp.Reg<int64_t>(data)[lane]);
    if (form.bytes == 8 && !is_signed) Reduce(form.op, to, warp.Reg<uint64_t>(data)[lane]);
  }
}

}  // namespace farwarp::softgpu
