// 16-bit floats, f16 and bf16: their formats, widening to f32 and rounding back once. Pure
// functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "server/softgpu/warp/float_value.h"

namespace farwarp::softgpu {

// bfloat16 as a type of its own: bits that convert to their value.
struct Bf16 {
  uint16_t bits;
  // NOLINTNEXTLINE(google-explicit-constructor): it is a number like any other.
  operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// The NaN that operations give.
inline constexpr uint16_t kHalfNan = 0x7fff;

// f64 to f32 for a second rounding to 16 bits: what is lost stays visible in the last bit ("round
// to odd"), so that rounding twice gives what rounding once does.
inline float ToOdd(double source) {
  const auto value = static_cast<float>(source);
  if (source != source || static_cast<double>(value) == source) return value;
  auto bits = std::bit_cast<uint32_t>(value);
  if (std::fabs(static_cast<double>(value)) > std::fabs(source)) --bits;
  return std::bit_cast<float>(bits | 1);
}

// Rounds the last `count` bits of a finite f32 off, as the mode says (MXCSR's two bits: nearest,
// down, up, toward zero). A carry may go on into the exponent.
inline uint32_t RoundOff(uint32_t bits, int count, uint32_t mode) {
  const uint32_t rest = (1u << count) - 1;
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits & ~rest;
  const bool negative = (bits >> 31) != 0;
  switch (mode) {
    case 1:
      return (bits + (negative ? rest : 0)) & ~rest;
    case 2:
      return (bits + (negative ? 0 : rest)) & ~rest;
    case 3:
      return bits & ~rest;
    default:
      return (bits + (rest >> 1) + (bits >> count & 1)) & ~rest;
  }
}

// a + b in f64, rounded to odd.
inline double AddToOdd(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  const double lost = (a - (sum - part)) + (b - part);
  if (!(lost != 0) || !(std::fabs(sum) <= std::numeric_limits<double>::max())) return sum;
  auto bits = std::bit_cast<uint64_t>(sum);
  if ((lost < 0) != (sum < 0)) --bits;
  return std::bit_cast<double>(bits | 1);
}

struct F16Format {
  static constexpr uint16_t kOne = 0x3c00;
  static constexpr uint16_t kExponent = 0x7c00;
  static float Widen(uint16_t bits) { return static_cast<float>(std::bit_cast<Half>(bits)); }
  // To nearest even.
  static uint16_t Narrow(float value) {
    const auto bits = std::bit_cast<uint16_t>(static_cast<Half>(value));
    return value != value ? kHalfNan : bits;
  }
};
struct Bf16Format {
  static constexpr uint16_t kOne = 0x3f80;
  static constexpr uint16_t kExponent = 0x7f80;
  static float Widen(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
  static uint16_t Narrow(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const auto near = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return value != value ? kHalfNan : near;
  }
};

template <typename Format>
inline uint16_t FlushHalf(uint16_t bits) {
  return (bits & Format::kExponent) == 0 ? static_cast<uint16_t>(bits & 0x8000) : bits;
}

// Any f16 subnormal becomes a zero of its sign.
template <>
inline Half Flush<Half>(Half x) {
  return std::bit_cast<Half>(FlushHalf<F16Format>(std::bit_cast<uint16_t>(x)));
}

}  // namespace farwarp::softgpu
