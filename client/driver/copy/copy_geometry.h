// Copy geometry: turns CUDA's one-, two- and three-dimensional copies into two planes and an extent
// (wire/internal_command.h), checks them, and packs or unpacks rows of host memory.
//
// A plane whose rows touch each other is "dense"; host data always travels dense. Pure functions,
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

// One side of a copy as the application states it: base, position in it, and strides. A pitch of 0
// means rows of just the copied width; a height of 0 slices of just the copied rows.
struct CopySide {
  std::uint64_t base = 0;
  std::uint64_t x_bytes = 0;
  std::uint64_t y = 0;
  std::uint64_t z = 0;
  std::uint64_t pitch = 0;
  std::uint64_t height = 0;
};

// Where the copy touches this side; nullopt if the numbers are impossible (a pitch below the width,
// more than an address can express).
std::optional<wire::CopyPlane> PlaneOf(const CopySide& side, const wire::CopyExtent& extent);

// Bytes copied; nullopt if they overflow.
std::optional<std::uint64_t> CopyBytes(const wire::CopyExtent& extent);
// Bytes between the first and the last byte that the copy touches on this side, both included. The
// plane is valid for the extent and the extent is not empty.
std::uint64_t SpanBytes(const wire::CopyPlane& plane, const wire::CopyExtent& extent);
bool IsDense(const wire::CopyPlane& plane, const wire::CopyExtent& extent);

// Merges rows that touch on both sides into longer ones, so that a dense copy is one row.
void Simplify(wire::CopyPlane* to, wire::CopyPlane* from, wire::CopyExtent* extent);

// Host rows → dense bytes, and back.
void PackRows(const wire::CopyPlane& from, const wire::CopyExtent& extent, std::byte* dense);
void UnpackRows(const std::byte* dense, const wire::CopyPlane& to, const wire::CopyExtent& extent);
// Both sides in host memory; they may overlap only if equal.
void CopyRows(const wire::CopyPlane& from, const wire::CopyPlane& to,
              const wire::CopyExtent& extent);

}  // namespace farwarp::client
