// ForEachPiece: a copy as pieces of at most wire::kMaxCopyBytes, in order. Pure, thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>

#include "client/driver/copy/copy.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

// Calls `visit(to, from, extent, last)` for pieces of at most wire::kMaxCopyBytes, in order, until
// one fails.
template <typename Visit>
CUresult ForEachPiece(const CopyRequest& request, Visit visit) {
  wire::CopyExtent piece = request.extent;
  if (request.extent.row_bytes > wire::kMaxCopyBytes) {
    piece = {wire::kMaxCopyBytes, 1, 1};
  } else {
    piece.rows = std::min(request.extent.rows, wire::kMaxCopyBytes / request.extent.row_bytes);
    // Whole boxes only if all of it fits: a piece of several slices must have all their rows.
    const bool whole =
        piece.rows == request.extent.rows &&
        request.extent.slices <= wire::kMaxCopyBytes / (piece.row_bytes * piece.rows);
    if (!whole) piece.slices = 1;
  }
  const auto& all = request.extent;
  for (std::uint64_t z = 0; z < all.slices; z += piece.slices) {
    for (std::uint64_t y = 0; y < all.rows; y += piece.rows) {
      for (std::uint64_t x = 0; x < all.row_bytes; x += piece.row_bytes) {
        const wire::CopyExtent extent{std::min(piece.row_bytes, all.row_bytes - x),
                                      std::min(piece.rows, all.rows - y), piece.slices};
        const auto at = [&](wire::CopyPlane plane) {
          plane.address += z * plane.slice_pitch + y * plane.pitch + x;
          return plane;
        };
        const bool last = z + piece.slices >= all.slices && y + piece.rows >= all.rows &&
                          x + piece.row_bytes >= all.row_bytes;
        const CUresult result = visit(at(request.to), at(request.from), extent, last);
        if (result != CUDA_SUCCESS) return result;
      }
    }
  }
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client
