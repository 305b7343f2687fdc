// Floats of eight bits and less: their formats, widening to f32, and rounding from f32 once. Pure
// functions.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace farwarp::softgpu {

struct NarrowFormat {
  int exponent_bits;
  int mantissa_bits;
  uint32_t largest;  // Code of the largest finite value.
  uint32_t nan;      // Code of NaN; `largest` where there is none.
  bool infinity;     // The code behind `largest` is infinity.

  constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  constexpr uint32_t sign() const { return 1u << (exponent_bits + mantissa_bits); }
};
inline constexpr NarrowFormat kE4m3Format{4, 3, 0x7e, 0x7f, false};
inline constexpr NarrowFormat kE5m2Format{5, 2, 0x7b, 0x7f, true};
inline constexpr NarrowFormat kE2m1Format{2, 1, 0x07, 0x07, false};
inline constexpr NarrowFormat kE2m3Format{2, 3, 0x1f, 0x1f, false};
inline constexpr NarrowFormat kE3m2Format{3, 2, 0x1f, 0x1f, false};

// 2 to the power of a small integer.
constexpr float PowerOfTwo(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

constexpr float WidenNarrow(const NarrowFormat& format, uint32_t code) {
  const uint32_t magnitude = code & (format.sign() - 1);
  const float sign = (code & format.sign()) != 0 ? -1.0f : 1.0f;
  if (magnitude > format.largest) {
    return format.infinity && magnitude == format.largest + 1
               ? sign * std::numeric_limits<float>::infinity()
               : std::bit_cast<float>(0x7fffffffu);
  }
  const auto exponent = static_cast<int>(magnitude >> format.mantissa_bits);
  const uint32_t mantissa = magnitude & ((1u << format.mantissa_bits) - 1);
  const uint32_t whole = exponent == 0 ? mantissa : mantissa | 1u << format.mantissa_bits;
  return sign * static_cast<float>(whole) *
         PowerOfTwo((exponent == 0 ? 1 : exponent) - format.bias() - format.mantissa_bits);
}

constexpr std::array<float, 256> ValuesOf(const NarrowFormat& format) {
  std::array<float, 256> values{};
  for (uint32_t code = 0; code < 256; ++code) values[code] = WidenNarrow(format, code);
  return values;
}
inline constexpr std::array<float, 256> kE4m3Values = ValuesOf(kE4m3Format);
inline constexpr std::array<float, 256> kE5m2Values = ValuesOf(kE5m2Format);

// To nearest even, saturating to the largest finite value. NaN becomes the format's NaN, or its
// largest value. relu: what is negative becomes zero.
inline uint32_t RoundToNarrow(const NarrowFormat& format, float value, bool relu) {
  if (value != value) return format.nan;
  const bool negative = std::signbit(value);
  if (relu && negative) return 0;
  const uint32_t sign = negative ? format.sign() : 0;
  const float magnitude = std::fabs(value);
  if (magnitude >= WidenNarrow(format, format.largest)) return sign | format.largest;
  const int exponent =
      magnitude == 0 ? 1 - format.bias() : std::max(std::ilogb(magnitude), 1 - format.bias());
  // Scaling by a power of two is exact in f64.
  const auto units = static_cast<uint32_t>(
      std::nearbyint(std::ldexp(static_cast<double>(magnitude), format.mantissa_bits - exponent)));
  const uint32_t code =
      (static_cast<uint32_t>(exponent + format.bias() - 1) << format.mantissa_bits) + units;
  return sign | (units >> format.mantissa_bits == 0 ? units : code);
}

}  // namespace farwarp::softgpu
