// mma and wmma.mma: fragments are gathered from the lanes' registers into plain matrices,
// multiplied, and scattered again.
//
// Products of narrow floats are exact in f32 and are added to the accumulator one after the other
// in the order of k, each sum rounded once; f16 results are rounded once more at the end. Hardware
// adds in an order that nobody specifies.
#include <algorithm>
#include <cstring>
#include <limits>

#include "server/softgpu/warp/half_value.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"
#include "server/softgpu/warp/narrow_value.h"

namespace farwarp::softgpu {
namespace {

constexpr uint32_t kMaxRows = 32;
constexpr uint32_t kMaxColumns = 32;
constexpr uint32_t kMaxDepth = 64;  // Of elements that are not single bits.

const MatrixForm& FormOf(const Warp& warp, const Ins& ins) {
  return warp.kernel->matrices[ins.target & 0xffff];
}

// Element number `e` of a register, as what the arithmetic works on.
template <Type type, typename T>
inline T Element(uint32_t bits, uint32_t e) {
  if constexpr (type == Type::kF16) {
    return F16Format::Widen(static_cast<uint16_t>(bits >> 16 * e));
  } else if constexpr (type == Type::kBf16) {
    return Bf16Format::Widen(static_cast<uint16_t>(bits >> 16 * e));
  } else if constexpr (type == Type::kTf32) {
    return std::bit_cast<float>(bits & 0xffffe000u);
  } else if constexpr (type == Type::kF32) {
    return std::bit_cast<float>(bits);
  } else if constexpr (type == Type::kE4m3) {
    return kE4m3Values[bits >> 8 * e & 0xff];
  } else if constexpr (type == Type::kE5m2) {
    return kE5m2Values[bits >> 8 * e & 0xff];
  } else if constexpr (type == Type::kS8) {
    return static_cast<int8_t>(bits >> 8 * e);
  } else if constexpr (type == Type::kU8) {
    return static_cast<uint8_t>(bits >> 8 * e);
  } else if constexpr (type == Type::kS4) {
    return static_cast<int32_t>(bits << (28 - 4 * e)) >> 28;
  } else if constexpr (type == Type::kU4) {
    return static_cast<int32_t>(bits >> 4 * e & 15);
  } else {
    static_assert(type == Type::kS32);
    return static_cast<int32_t>(bits);
  }
}

// Fills matrix[row][column] of a row length.
template <Type type, typename T>
void GatherOf(Warp& warp, MatrixRole role, const MatrixForm& form, const uint32_t* slots,
              uint32_t length, T* matrix) {
  const uint32_t registers = DistinctRegisters(role, form);
  for (uint32_t r = 0; r < registers; ++r) {
    const uint32_t* const values = warp.Reg<uint32_t>(slots[r]);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      for (uint32_t e = 0; e < PerRegister(type); ++e) {
        const Place place = PlaceIn(role, form, lane, r, e);
        matrix[place.row * length + place.column] = Element<type, T>(values[lane], e);
      }
    }
  }
}
void GatherFloat(Warp& warp, MatrixRole role, Type type, const MatrixForm& form,
                 const uint32_t* slots, uint32_t length, float* matrix) {
  switch (type) {
    case Type::kF16:
      return GatherOf<Type::kF16>(warp, role, form, slots, length, matrix);
    case Type::kBf16:
      return GatherOf<Type::kBf16>(warp, role, form, slots, length, matrix);
    case Type::kTf32:
      return GatherOf<Type::kTf32>(warp, role, form, slots, length, matrix);
    case Type::kE4m3:
      return GatherOf<Type::kE4m3>(warp, role, form, slots, length, matrix);
    case Type::kE5m2:
      return GatherOf<Type::kE5m2>(warp, role, form, slots, length, matrix);
    default:
      return GatherOf<Type::kF32>(warp, role, form, slots, length, matrix);
  }
}
void GatherInteger(Warp& warp, MatrixRole role, Type type, const MatrixForm& form,
                   const uint32_t* slots, uint32_t length, int32_t* matrix) {
  switch (type) {
    case Type::kS8:
      return GatherOf<Type::kS8>(warp, role, form, slots, length, matrix);
    case Type::kU8:
      return GatherOf<Type::kU8>(warp, role, form, slots, length, matrix);
    case Type::kS4:
      return GatherOf<Type::kS4>(warp, role, form, slots, length, matrix);
    case Type::kU4:
      return GatherOf<Type::kU4>(warp, role, form, slots, length, matrix);
    default:
      return GatherOf<Type::kS32>(warp, role, form, slots, length, matrix);
  }
}

// C and D may differ in type; their layout goes by elements.
MatrixForm ResultForm(const MatrixForm& form) {
  MatrixForm result = form;
  result.c = form.d;
  return result;
}

// Writes lanes' registers; value(row, column) gives the bits of an element.
template <typename F>
void Scatter(Warp& warp, const MatrixForm& form, const uint32_t* slots, F value) {
  const MatrixForm result = ResultForm(form);
  const uint32_t per = PerRegister(form.d);
  for (uint32_t r = 0; r < form.d_registers; ++r) {
    ForLanes<uint32_t>(warp, slots[r], [&](uint32_t lane) {
      uint32_t bits = 0;
      for (uint32_t e = 0; e < per; ++e) {
        const Place place = PlaceInC(result, lane, r, e);
        bits |= value(place.row, place.column) << (32 / per * e);
      }
      return bits;
    });
  }
}

struct FragmentSlots {
  const uint32_t* d;
  const uint32_t* a;
  const uint32_t* b;
  const uint32_t* c;
};
FragmentSlots SlotsOf(const Warp& warp, const Ins& ins, const MatrixForm& form) {
  const uint32_t* const first = warp.kernel->slots.data() + ins.slots;
  const uint32_t* const a = first + form.d_registers;
  const uint32_t* const b = a + form.a_registers;
  return {first, a, b, b + form.b_registers};
}

// sum[row][column] += a[row][k] * b[k][column], eight columns at a time.
template <typename T, typename F>
inline void Multiply(const MatrixForm& form, const T* a, const T* b, T* sum, F f) {
  for (uint32_t row = 0; row < form.m; ++row) {
    for (uint32_t column = 0; column < form.n; column += 8) {
      T part[8];
      for (uint32_t j = 0; j < 8; ++j) part[j] = sum[row * kMaxColumns + column + j];
      for (uint32_t k = 0; k < form.k; ++k) {
        const T factor = a[row * kMaxDepth + k];
        for (uint32_t j = 0; j < 8; ++j)
          part[j] = f(factor, b[k * kMaxColumns + column + j], part[j]);
      }
      for (uint32_t j = 0; j < 8; ++j) sum[row * kMaxColumns + column + j] = part[j];
    }
  }
}

void MultiplyFloats(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const FragmentSlots slots = SlotsOf(warp, ins, form);
  float a[kMaxRows * kMaxDepth];
  float b[kMaxDepth * kMaxColumns];
  float sum[kMaxRows * kMaxColumns];
  GatherFloat(warp, MatrixRole::kA, form.a, form, slots.a, kMaxDepth, a);
  GatherFloat(warp, MatrixRole::kB, form.b, form, slots.b, kMaxColumns, b);
  GatherFloat(warp, MatrixRole::kC, form.c, form, slots.c, kMaxColumns, sum);
  Multiply(form, a, b, sum, [](float x, float y, float z) { return __builtin_fmaf(x, y, z); });
  if (form.d == Type::kF16) {
    Scatter(warp, form, slots.d, [&](uint32_t row, uint32_t column) {
      return uint32_t{F16Format::Narrow(sum[row * kMaxColumns + column])};
    });
  } else {
    Scatter(warp, form, slots.d, [&](uint32_t row, uint32_t column) {
      return std::bit_cast<uint32_t>(sum[row * kMaxColumns + column]);
    });
  }
}

void MultiplyIntegers(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const FragmentSlots slots = SlotsOf(warp, ins, form);
  int32_t a[kMaxRows * kMaxDepth];
  int32_t b[kMaxDepth * kMaxColumns];
  int32_t c[kMaxRows * kMaxColumns];
  int32_t sum[kMaxRows * kMaxColumns] = {};
  GatherInteger(warp, MatrixRole::kA, form.a, form, slots.a, kMaxDepth, a);
  GatherInteger(warp, MatrixRole::kB, form.b, form, slots.b, kMaxColumns, b);
  GatherInteger(warp, MatrixRole::kC, form.c, form, slots.c, kMaxColumns, c);
  // At most 64 products of 16 bits: their sum needs 22.
  Multiply(form, a, b, sum, [](int32_t x, int32_t y, int32_t z) { return x * y + z; });
  Scatter(warp, form, slots.d, [&](uint32_t row, uint32_t column) {
    const int64_t exact = int64_t{sum[row * kMaxColumns + column]} + c[row * kMaxColumns + column];
    const int64_t kept = form.saturate
                             ? std::clamp<int64_t>(exact, std::numeric_limits<int32_t>::min(),
                                                   std::numeric_limits<int32_t>::max())
                             : exact;
    return static_cast<uint32_t>(kept);
  });
}

// Single bits: a sum of products is a count. A row of A and a column of B are k / 32 words.
void MultiplyBits(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const FragmentSlots slots = SlotsOf(warp, ins, form);
  constexpr uint32_t kWords = 8;
  uint32_t a[16][kWords];
  uint32_t b[8][kWords];
  int32_t c[kMaxRows * kMaxColumns];
  for (uint32_t r = 0; r < form.a_registers; ++r) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const Place place = PlaceInA(form, lane, r, 0);
      a[place.row][place.column / 32] = warp.Reg<uint32_t>(slots.a[r])[lane];
    }
  }
  for (uint32_t r = 0; r < form.b_registers; ++r) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const Place place = PlaceInB(form, lane, r, 0);
      b[place.column][place.row / 32] = warp.Reg<uint32_t>(slots.b[r])[lane];
    }
  }
  GatherInteger(warp, MatrixRole::kC, form.c, form, slots.c, kMaxColumns, c);
  Scatter(warp, form, slots.d, [&](uint32_t row, uint32_t column) {
    auto count = static_cast<uint32_t>(c[row * kMaxColumns + column]);
    for (uint32_t word = 0; word < form.k / 32u; ++word) {
      const uint32_t x = a[row][word];
      const uint32_t y = b[column][word];
      count += static_cast<uint32_t>(__builtin_popcount(form.bitwise_and ? x & y : x ^ y));
    }
    return count;
  });
}

void MultiplyDoubles(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const FragmentSlots slots = SlotsOf(warp, ins, form);
  constexpr uint32_t kDepth = 16;
  double a[16][kDepth];
  double b[kDepth][8];
  double sum[16][8];
  const auto gather = [&](MatrixRole role, uint32_t registers, const uint32_t* from, double* to,
                          uint32_t length) {
    for (uint32_t r = 0; r < registers; ++r) {
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        const Place place = PlaceIn(role, form, lane, r, 0);
        to[place.row * length + place.column] = warp.Reg<double>(from[r])[lane];
      }
    }
  };
  gather(MatrixRole::kA, form.a_registers, slots.a, &a[0][0], kDepth);
  gather(MatrixRole::kB, form.b_registers, slots.b, &b[0][0], 8);
  gather(MatrixRole::kC, form.c_registers, slots.c, &sum[0][0], 8);
  {
    const ScopedRounding rounding(form.rounding < 0 ? _MM_ROUND_NEAREST
                                                    : static_cast<unsigned>(form.rounding));
    for (uint32_t row = 0; row < form.m; ++row) {
      for (uint32_t k = 0; k < form.k; ++k) {
        for (uint32_t column = 0; column < 8; ++column)
          sum[row][column] = __builtin_fma(a[row][k], b[k][column], sum[row][column]);
      }
    }
    asm volatile("" : "+m"(sum));
  }
  for (uint32_t r = 0; r < form.d_registers; ++r) {
    ForLanes<double>(warp, slots.d[r], [&](uint32_t lane) {
      const Place place = PlaceInC(form, lane, r, 0);
      return sum[place.row][place.column];
    });
  }
}

// m8n8k4 of f16: four independent products.
void MultiplyQuadPairs(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const FragmentSlots slots = SlotsOf(warp, ins, form);
  float a[4][8][4];
  float b[4][4][8];
  float sum[4][8][8];
  const auto half = [&](const uint32_t* from, uint32_t lane, uint32_t i) {
    return F16Format::Widen(
        static_cast<uint16_t>(warp.Reg<uint32_t>(from[i / 2])[lane] >> 16 * (i % 2)));
  };
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t q = QuadPair(lane);
    for (uint32_t i = 0; i < 4; ++i) {
      const Place in_a = QuadPlaceInA(form.a_by_column, lane, i);
      const Place in_b = QuadPlaceInB(form.b_by_column, lane, i);
      a[q][in_a.row][in_a.column] = half(slots.a, lane, i);
      b[q][in_b.row][in_b.column] = half(slots.b, lane, i);
    }
    for (uint32_t i = 0; i < 8; ++i) {
      const Place in_c = QuadPlaceInC(form.c, lane, i);
      sum[q][in_c.row][in_c.column] =
          form.c == Type::kF16 ? half(slots.c, lane, i) : warp.Reg<float>(slots.c[i])[lane];
    }
  }
  for (auto q = 0u; q < 4; ++q) {
    for (uint32_t row = 0; row < 8; ++row) {
      for (uint32_t k = 0; k < 4; ++k) {
        for (uint32_t column = 0; column < 8; ++column)
          sum[q][row][column] = __builtin_fmaf(a[q][row][k], b[q][k][column], sum[q][row][column]);
      }
    }
  }
  const auto result = [&](uint32_t lane, uint32_t i) {
    const Place place = QuadPlaceInC(form.d, lane, i);
    return sum[QuadPair(lane)][place.row][place.column];
  };
  for (uint32_t r = 0; r < form.d_registers; ++r) {
    ForLanes<uint32_t>(warp, slots.d[r], [&](uint32_t lane) {
      if (form.d != Type::kF16) return std::bit_cast<uint32_t>(result(lane, r));
      return F16Format::Narrow(result(lane, 2 * r)) |
             uint32_t{F16Format::Narrow(result(lane, 2 * r + 1))} << 16;
    });
  }
}

}  // namespace

Handler FindMatrixMultiply(const MatrixForm& form) {
  if (form.a == Type::kF64) return MultiplyDoubles;
  if (form.a == Type::kB1) return MultiplyBits;
  if (form.d == Type::kS32) return MultiplyIntegers;
  if (form.m == 8 && form.n == 8 && form.k == 4) return MultiplyQuadPairs;
  return MultiplyFloats;
}

}  // namespace farwarp::softgpu
