// Where the elements of a matrix lie in the registers of a warp: the fragments of mma, wmma,
// ldmatrix and stmatrix. The only place that knows. Pure functions.
//
// Lanes form eight groups of four: `group` = lane / 4 walks along rows of A and columns of B,
// `member` = lane % 4 along k, each with as many neighbouring elements as a register holds. All
// fragments are put together from such tiles:
//
//   A, 16 x k   registers alternate between rows 0-7 and rows 8-15, then go on along k
//   A,  8 x k   registers go on along k
//   B,  k x 8   registers go on along k
//   C, D        two neighbouring columns in a row, rows 0-7, then rows 8-15
//
// wmma's larger matrices are several tiles in a row. Its f16 fragments have more registers than
// elements; those left over repeat the first ones. m8n8k4 of f16 is older and has its own layout.
#pragma once

#include <cstdint>

#include "server/softgpu/ptx/types.h"

namespace farwarp::softgpu {

enum class MatrixRole : uint8_t { kA, kB, kC };

// What an instruction on matrices works on; in DecodedKernel::matrices. D = A * B + C, with A of
// m x k, B of k x n, C and D of m x n elements.
struct MatrixForm {
  uint8_t m = 0;
  uint8_t n = 0;
  uint16_t k = 0;
  Type a = Type::kNone;  // Of elements. Loads and stores use the type of their role.
  Type b = Type::kNone;
  Type c = Type::kNone;
  Type d = Type::kNone;
  // Registers of each lane, in the order in which they stand in DecodedKernel::slots.
  uint8_t d_registers = 0;
  uint8_t a_registers = 0;
  uint8_t b_registers = 0;
  uint8_t c_registers = 0;
  MatrixRole role = MatrixRole::kA;  // Of what is loaded or stored.
  bool a_by_column = false;          // Order in memory; m8n8k4 of f16: in registers.
  bool b_by_column = false;
  bool c_by_column = false;
  bool saturate = false;
  bool bitwise_and = false;  // b1: and instead of xor.
  bool transposed = false;
  bool shared = false;
  int16_t rounding = -1;  // MXCSR bits, or -1 for nearest.

  friend bool operator==(const MatrixForm&, const MatrixForm&) = default;
};

struct Place {
  uint32_t row = 0;
  uint32_t column = 0;
};

constexpr uint32_t ElementBits(Type type) {
  switch (type) {
    case Type::kB1:
      return 1;
    case Type::kS4:
    case Type::kU4:
      return 4;
    default:
      return 8 * TypeBytes(type);
  }
}
// Elements in one register: 32 bits, 64 for f64.
constexpr uint32_t PerRegister(Type type) {
  return type == Type::kF64 ? 1 : 32 / ElementBits(type);
}

constexpr uint32_t RowsOfTile(uint32_t m) {
  return m < 16 ? 8 : 16;
}

// Registers that hold each element once.
constexpr uint32_t DistinctRegisters(MatrixRole role, const MatrixForm& form) {
  switch (role) {
    case MatrixRole::kA:
      return uint32_t{form.m} * form.k / (32 * PerRegister(form.a));
    case MatrixRole::kB:
      return uint32_t{form.n} * form.k / (32 * PerRegister(form.b));
    case MatrixRole::kC:
      return uint32_t{form.m} * form.n / (32 * PerRegister(form.c));
  }
  return 0;
}

constexpr Place PlaceInA(const MatrixForm& form, uint32_t lane, uint32_t reg, uint32_t element) {
  const uint32_t per = PerRegister(form.a);
  const uint32_t along = 4 * per;  // k covered by one register of four lanes
  const uint32_t rows = RowsOfTile(form.m);
  const uint32_t halves = rows / 8;
  const uint32_t of_tile = halves * (form.k / along);
  reg %= DistinctRegisters(MatrixRole::kA, form);
  const uint32_t r = reg % of_tile;
  return {reg / of_tile * rows + r % halves * 8 + lane / 4,
          r / halves * along + lane % 4 * per + element};
}

constexpr Place PlaceInB(const MatrixForm& form, uint32_t lane, uint32_t reg, uint32_t element) {
  const uint32_t per = PerRegister(form.b);
  const uint32_t along = 4 * per;
  const uint32_t of_tile = form.k / along;
  reg %= DistinctRegisters(MatrixRole::kB, form);
  return {reg % of_tile * along + lane % 4 * per + element, reg / of_tile * 8 + lane / 4};
}

constexpr Place PlaceInC(const MatrixForm& form, uint32_t lane, uint32_t reg, uint32_t element) {
  const uint32_t i = reg * PerRegister(form.c) + element;
  const uint32_t rows = RowsOfTile(form.m);
  const uint32_t of_tile = rows / 4;
  const uint32_t tile = i / of_tile;
  const uint32_t across = form.n / 8u;
  const uint32_t r = i % of_tile;
  return {tile / across * rows + r / 2 * 8 + lane / 4, tile % across * 8 + lane % 4 * 2 + r % 2};
}

constexpr Place PlaceIn(MatrixRole role, const MatrixForm& form, uint32_t lane, uint32_t reg,
                        uint32_t element) {
  return role == MatrixRole::kA   ? PlaceInA(form, lane, reg, element)
         : role == MatrixRole::kB ? PlaceInB(form, lane, reg, element)
                                  : PlaceInC(form, lane, reg, element);
}

// m8n8k4 of f16: four products at once, one for each pair of quads (lanes 0-3 with 16-19, and so
// on).
constexpr uint32_t QuadPair(uint32_t lane) {
  return lane % 16 / 4;
}
constexpr Place QuadPlaceInA(bool by_column, uint32_t lane, uint32_t i) {
  const uint32_t lower = lane < 16 ? 0 : 4;
  return by_column ? Place{i + lower, lane % 4} : Place{lane % 4 + lower, i};
}
constexpr Place QuadPlaceInB(bool by_column, uint32_t lane, uint32_t i) {
  const uint32_t lower = lane < 16 ? 0 : 4;
  return by_column ? Place{i, lane % 4 + lower} : Place{lane % 4, i + lower};
}
constexpr Place QuadPlaceInC(Type type, uint32_t lane, uint32_t i) {
  const uint32_t lower = lane < 16 ? 0 : 4;
  if (type == Type::kF16) return {lane % 4 + lower, i};
  return {(lane & 1) + (i & 2) + lower, (i & 4) + (lane & 2) + (i & 1)};
}

}  // namespace farwarp::softgpu
