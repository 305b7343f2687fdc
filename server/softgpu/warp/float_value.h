// Floating-point helpers shared by the handlers: subnormal flushing, NaN rules of min and max,
// rounding modes. Pure functions.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "server/softgpu/ptx/ast.h"
#include "server/softgpu/warp/decoded.h"

namespace farwarp::softgpu {

using Half = _Float16;

template <typename T>
inline T Flush(T x) {
  return x;
}
template <>
inline float Flush<float>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
}

template <typename T>
inline T FlushIf(bool ftz, T x) {
  return ftz ? Flush(x) : x;
}

// Saturation to [0, 1]; NaN becomes 0.
template <typename T>
inline T Clamp01(T x) {
  return x > T{0} ? (x < T{1} ? x : T{1}) : T{0};
}

inline float CanonicalNan() {
  return std::bit_cast<float>(0x7fffffffu);
}

// The MXCSR rounding of a modifier; -1 for round-to-nearest-even.
inline int RoundingOf(const Instruction& i) {
  if (i.Has(Mod::kRz) || i.Has(Mod::kRzi)) return _MM_ROUND_TOWARD_ZERO;
  if (i.Has(Mod::kRm) || i.Has(Mod::kRmi)) return _MM_ROUND_DOWN;
  if (i.Has(Mod::kRp) || i.Has(Mod::kRpi)) return _MM_ROUND_UP;
  return -1;
}

// Sets the rounding mode for its lifetime. The compiler does not know: put memory barriers around
// the work.
class ScopedRounding {
 public:
  explicit ScopedRounding(unsigned mode) : old_(_mm_getcsr()) {
    _mm_setcsr((old_ & ~static_cast<unsigned>(_MM_ROUND_MASK)) | mode);
    asm volatile("" ::: "memory");
  }
  ~ScopedRounding() {
    asm volatile("" ::: "memory");
    _mm_setcsr(old_);
  }
  ScopedRounding(const ScopedRounding&) = delete;
  ScopedRounding& operator=(const ScopedRounding&) = delete;

 private:
  unsigned old_;
};

// The same handler under another rounding mode.
template <Handler inner, unsigned mode>
void Rounded(Warp& warp, const Ins& ins) {
  const ScopedRounding rounding(mode);
  inner(warp, ins);
}
template <Handler inner>
Handler RoundedBy(int mode) {
  if (mode == _MM_ROUND_TOWARD_ZERO) return Rounded<inner, _MM_ROUND_TOWARD_ZERO>;
  if (mode == _MM_ROUND_DOWN) return Rounded<inner, _MM_ROUND_DOWN>;
  if (mode == _MM_ROUND_UP) return Rounded<inner, _MM_ROUND_UP>;
  return inner;
}

}  // namespace farwarp::softgpu
