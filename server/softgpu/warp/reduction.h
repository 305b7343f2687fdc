// What atom, red, and the reducing copies make of an old value and an operand.
//
// Reduction::Run(old, b) for values of a type; those with Bits take and give the bits of a float.
// Functions of their arguments.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "server/softgpu/warp/half_value.h"

namespace farwarp::softgpu::reduction {

struct Add {
  template <typename T>
  static T Run(T old, T b) {
    // Sums of integers wrap around.
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) +
                            static_cast<std::make_unsigned_t<T>>(b));
    else
      return old + b;
  }
};
struct Min {
  template <typename T>
  static T Run(T old, T b) {
    return b < old ? b : old;
  }
};
struct Max {
  template <typename T>
  static T Run(T old, T b) {
    return b > old ? b : old;
  }
};
struct And {
  template <typename T>
  static T Run(T old, T b) {
    return old & b;
  }
};
struct Or {
  template <typename T>
  static T Run(T old, T b) {
    return old | b;
  }
};
struct Xor {
  template <typename T>
  static T Run(T old, T b) {
    return old ^ b;
  }
};
struct Inc {
  template <typename T>
  static T Run(T old, T b) {
    return old >= b ? T{0} : static_cast<T>(old + 1);
  }
};
struct Dec {
  template <typename T>
  static T Run(T old, T b) {
    return old == 0 || old > b ? b : static_cast<T>(old - 1);
  }
};

template <typename T>
struct AddFloat {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  static Bits Run(Bits old, Bits b) {
    return std::bit_cast<Bits>(std::bit_cast<T>(old) + std::bit_cast<T>(b));
  }
};
template <typename Format>
struct AddHalf {
  using Bits = uint16_t;
  static Bits Run(Bits old, Bits b) {
    return Format::Narrow(Format::Widen(old) + Format::Widen(b));
  }
};
// The smaller or the larger; a NaN loses against a number.
template <typename Format, bool maximum>
struct BestHalf {
  using Bits = uint16_t;
  static Bits Run(Bits old, Bits b) {
    const float x = Format::Widen(old);
    const float y = Format::Widen(b);
    if (x != x) return y != y ? kHalfNan : b;
    if (y != y) return old;
    if (x == y) return ((old & 0x8000) != 0) != maximum ? old : b;
    return (maximum ? x > y : x < y) ? old : b;
  }
};

}  // namespace farwarp::softgpu::reduction
