// One vector loop over 32 lanes: the shape of every arithmetic handler. All lanes are computed,
// active ones are stored; so functions given here must be defined for every input (no traps, no
// undefined shifts).
#pragma once

#include <cstdint>

#include "server/softgpu/warp/warp.h"

namespace farwarp::softgpu {

template <typename D, typename F>
inline __attribute__((always_inline)) void ForLanes(Warp& warp, uint32_t slot, F f) {
  D* const out = warp.Reg<D>(slot);
  if (warp.active == ~0u) {
#pragma clang loop vectorize(assume_safety)
    for (uint32_t lane = 0; lane < kLanes; ++lane) out[lane] = f(lane);
    return;
  }
  D results[kLanes];
#pragma clang loop vectorize(assume_safety)
  for (uint32_t lane = 0; lane < kLanes; ++lane) results[lane] = f(lane);
  const uint32_t active = warp.active;
#pragma clang loop vectorize(assume_safety)
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    out[lane] = (active >> lane & 1) != 0 ? results[lane] : out[lane];
}

// d = Op(a), d = Op(a, b), d = Op(a, b, c), with Op::Run static and pure.
template <typename Op, typename D, typename A>
void Unary(Warp& warp, const Ins& ins) {
  const A* const a = warp.Reg<A>(ins.a);
  ForLanes<D>(warp, ins.d, [=](uint32_t lane) { return Op::Run(a[lane]); });
}
template <typename Op, typename D, typename A, typename B>
void Binary(Warp& warp, const Ins& ins) {
  const A* const a = warp.Reg<A>(ins.a);
  const B* const b = warp.Reg<B>(ins.b);
  ForLanes<D>(warp, ins.d, [=](uint32_t lane) { return Op::Run(a[lane], b[lane]); });
}
template <typename Op, typename D, typename A, typename B, typename C>
void Ternary(Warp& warp, const Ins& ins) {
  const A* const a = warp.Reg<A>(ins.a);
  const B* const b = warp.Reg<B>(ins.b);
  const C* const c = warp.Reg<C>(ins.c);
  ForLanes<D>(warp, ins.d, [=](uint32_t lane) { return Op::Run(a[lane], b[lane], c[lane]); });
}

// Sets the active bits of a predicate register to `values`.
inline void StorePredicate(Warp& warp, uint32_t slot, uint32_t values) {
  uint32_t& mask = *warp.Reg<uint32_t>(slot);
  mask = (mask & ~warp.active) | (values & warp.active);
}

}  // namespace farwarp::softgpu
