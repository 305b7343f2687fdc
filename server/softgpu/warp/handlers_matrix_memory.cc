// Matrices between memory and registers: wmma.load, wmma.store, ldmatrix, stmatrix, movmatrix.
#include <cstring>

#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

const MatrixForm& FormOf(const Warp& warp, const Ins& ins) {
  return warp.kernel->matrices[ins.target & 0xffff];
}

// What lies together in memory and in a register: an element, or where a register's elements are
// neighbours in memory too, the whole register.
struct Unit {
  uint32_t bits;
  uint32_t elements;
};
Unit UnitOf(const MatrixForm& form, Type type, bool by_column) {
  const bool neighbours = form.role == MatrixRole::kA   ? !by_column
                          : form.role == MatrixRole::kB ? by_column
                                                        : false;
  const uint32_t bits = ElementBits(type);
  return neighbours ? Unit{bits * PerRegister(type), PerRegister(type)} : Unit{bits, 1};
}

template <MatrixRole role>
Type TypeOf(const MatrixForm& form) {
  return role == MatrixRole::kA ? form.a : role == MatrixRole::kB ? form.b : form.c;
}
template <MatrixRole role>
bool ByColumn(const MatrixForm& form) {
  return role == MatrixRole::kA   ? form.a_by_column
         : role == MatrixRole::kB ? form.b_by_column
                                  : form.c_by_column;
}

// Calls f(address, bytes, register slot, byte in the register, lane) for every piece.
template <MatrixRole role, typename F>
void ForPieces(Warp& warp, const Ins& ins, const MatrixForm& form, uint32_t registers, F f) {
  const Type type = TypeOf<role>(form);
  const bool by_column = ByColumn<role>(form);
  const Unit unit = UnitOf(form, type, by_column);
  const uint32_t bytes = unit.bits / 8;
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  const uint32_t* const strides = warp.Reg<uint32_t>(ins.b);
  for (uint32_t r = 0; r < registers; ++r) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.active >> lane & 1) == 0) continue;
      const uint64_t base = AddressOfLane(warp, ins, lane);
      for (uint32_t e = 0; e < PerRegister(type); e += unit.elements) {
        const Place place = PlaceIn(role, form, lane, r, e);
        const uint64_t index = by_column ? uint64_t{place.column} * strides[lane] + place.row
                                         : uint64_t{place.row} * strides[lane] + place.column;
        const uint64_t address = base + index * ElementBits(type) / 8;
        std::byte* const where = Access(warp, form.shared, address, bytes, bytes, lane);
        f(where, bytes, slots[r], e * ElementBits(type) / 8, lane);
      }
    }
  }
}

template <MatrixRole role>
void LoadFragment(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const uint32_t width = TypeOf<role>(form) == Type::kF64 ? 8 : 4;
  const uint32_t registers = role == MatrixRole::kA   ? form.a_registers
                             : role == MatrixRole::kB ? form.b_registers
                                                      : form.c_registers;
  ForPieces<role>(
      warp, ins, form, registers,
      [&](const std::byte* from, uint32_t bytes, uint32_t slot, uint32_t at, uint32_t lane) {
        std::memcpy(warp.regs + slot + lane * width + at, from, bytes);
      });
}
void StoreFragment(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const uint32_t width = form.c == Type::kF64 ? 8 : 4;
  ForPieces<MatrixRole::kC>(
      warp, ins, form, form.c_registers,
      [&](std::byte* to, uint32_t bytes, uint32_t slot, uint32_t at, uint32_t lane) {
        std::memcpy(to, warp.regs + slot + lane * width + at, bytes);
      });
}

constexpr uint32_t kRowBytes = 16;

// The row that `lane` names, readable and writable.
std::byte* RowOf(Warp& warp, const Ins& ins, const MatrixForm& form, uint32_t lane,
                 uint32_t bytes) {
  return Access(warp, form.shared, AddressOfLane(warp, ins, lane), bytes, bytes, lane);
}

// ldmatrix and stmatrix move tiles of 8 x 8 elements of 16 bits; lane 8 * t + r names row r of tile
// t, and each lane holds two neighbours of a row, or of a column if transposed.
struct TilePlace {
  uint32_t row;
  uint32_t column;
};
TilePlace PlaceInTile(bool transposed, uint32_t lane, uint32_t element) {
  const uint32_t across = lane % 4 * 2 + element;
  return transposed ? TilePlace{across, lane / 4} : TilePlace{lane / 4, across};
}

}  // namespace

Handler FindMatrixLoad(const MatrixForm& form) {
  switch (form.role) {
    case MatrixRole::kA:
      return LoadFragment<MatrixRole::kA>;
    case MatrixRole::kB:
      return LoadFragment<MatrixRole::kB>;
    case MatrixRole::kC:
      return LoadFragment<MatrixRole::kC>;
  }
  return nullptr;
}
Handler FindMatrixStore(const MatrixForm& form) {
  return form.role == MatrixRole::kC ? StoreFragment : nullptr;
}

void LoadTiles(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const uint32_t tiles = form.d_registers;
  uint16_t rows[32][8];
  for (uint32_t lane = 0; lane < 8 * tiles; ++lane)
    std::memcpy(rows[lane], RowOf(warp, ins, form, lane, kRowBytes), kRowBytes);
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  for (uint32_t tile = 0; tile < tiles; ++tile) {
    ForLanes<uint32_t>(warp, slots[tile], [&](uint32_t lane) {
      const TilePlace low = PlaceInTile(form.transposed, lane, 0);
      const TilePlace high = PlaceInTile(form.transposed, lane, 1);
      return rows[8 * tile + low.row][low.column] | uint32_t{rows[8 * tile + high.row][high.column]}
                                                        << 16;
    });
  }
}

void StoreTiles(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const uint32_t tiles = form.d_registers;
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  for (uint32_t tile = 0; tile < tiles; ++tile) {
    uint16_t rows[8][8];
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t bits = warp.Reg<uint32_t>(slots[tile])[lane];
      for (uint32_t e = 0; e < 2; ++e) {
        const TilePlace place = PlaceInTile(form.transposed, lane, e);
        rows[place.row][place.column] = static_cast<uint16_t>(bits >> 16 * e);
      }
    }
    for (uint32_t row = 0; row < 8; ++row)
      std::memcpy(RowOf(warp, ins, form, 8 * tile + row, kRowBytes), rows[row], kRowBytes);
  }
}

// Tiles of 16 x 16 bytes, transposed, two registers each: register r has rows 2 * r and 2 * r + 1
// of every four, at two columns eight apart. Lane 16 * t + row names a row of tile t.
void LoadByteTiles(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  uint8_t rows[32][kRowBytes];
  for (uint32_t lane = 0; lane < 8u * form.d_registers; ++lane)
    std::memcpy(rows[lane], RowOf(warp, ins, form, lane, kRowBytes), kRowBytes);
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  for (uint32_t r = 0; r < form.d_registers; ++r) {
    ForLanes<uint32_t>(warp, slots[r], [&](uint32_t lane) {
      uint32_t bits = 0;
      for (uint32_t e = 0; e < 4; ++e) {
        const uint32_t row = lane % 4 * 4 + r % 2 * 2 + e % 2;
        bits |= uint32_t{rows[16 * (r / 2) + row][lane / 4 + e / 2 * 8]} << 8 * e;
      }
      return bits;
    });
  }
}

// Tiles of 16 x 8 bytes in the layout of an accumulator (two neighbours in a row, the same eight
// rows below), stored transposed: eight rows of 16 bytes.
void StoreByteTiles(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  const MatrixForm& form = FormOf(warp, ins);
  const uint32_t* const slots = warp.kernel->slots.data() + ins.slots;
  for (uint32_t tile = 0; tile < form.d_registers; ++tile) {
    uint8_t rows[8][kRowBytes];
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t bits = warp.Reg<uint32_t>(slots[tile])[lane];
      for (uint32_t e = 0; e < 4; ++e)
        rows[lane % 4 * 2 + e % 2][lane / 4 + e / 2 * 8] = static_cast<uint8_t>(bits >> 8 * e);
    }
    for (uint32_t row = 0; row < 8; ++row)
      std::memcpy(RowOf(warp, ins, form, 8 * tile + row, kRowBytes), rows[row], kRowBytes);
  }
}

void TransposeTile(Warp& warp, const Ins& ins) {
  if (!GatheredLive(warp)) return;
  uint16_t tile[8][8];
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    for (uint32_t e = 0; e < 2; ++e) {
      const TilePlace place = PlaceInTile(false, lane, e);
      tile[place.row][place.column] = static_cast<uint16_t>(a[lane] >> 16 * e);
    }
  }
  ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) {
    const TilePlace low = PlaceInTile(true, lane, 0);
    const TilePlace high = PlaceInTile(true, lane, 1);
    return tile[low.row][low.column] | uint32_t{tile[high.row][high.column]} << 16;
  });
}

}  // namespace farwarp::softgpu
