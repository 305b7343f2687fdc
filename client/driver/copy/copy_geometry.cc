#include "client/driver/copy/copy_geometry.h"

#include <cstring>

namespace farwarp::client {
namespace {

bool MulAdd(std::uint64_t a, std::uint64_t b, std::uint64_t* sum) {
  std::uint64_t product = 0;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

std::byte* At(std::uint64_t address) {
  return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address));
}

// Calls `visit(address of the row on this side, index of the row)`.
template <typename Visit>
void ForEachRow(const wire::CopyPlane& plane, const wire::CopyExtent& extent, Visit visit) {
  std::uint64_t index = 0;
  for (std::uint64_t z = 0; z < extent.slices; ++z) {
    for (std::uint64_t y = 0; y < extent.rows; ++y) {
      visit(plane.address + z * plane.slice_pitch + y * plane.pitch, index++);
    }
  }
}

}  // namespace

std::optional<wire::CopyPlane> PlaneOf(const CopySide& side, const wire::CopyExtent& extent) {
  wire::CopyPlane plane{};
  plane.pitch = side.pitch != 0 ? side.pitch : side.x_bytes + extent.row_bytes;
  const std::uint64_t height = side.height != 0 ? side.height : side.y + extent.rows;
  if ((extent.rows > 1 || extent.slices > 1) &&
      (extent.row_bytes > plane.pitch || side.x_bytes > plane.pitch - extent.row_bytes)) {
    return std::nullopt;
  }
  if (extent.slices > 1 && (extent.rows > height || side.y > height - extent.rows)) {
    return std::nullopt;
  }
  if (!MulAdd(plane.pitch, height, &plane.slice_pitch)) return std::nullopt;
  plane.address = side.base;
  if (!MulAdd(side.x_bytes, 1, &plane.address) || !MulAdd(side.y, plane.pitch, &plane.address) ||
      !MulAdd(side.z, plane.slice_pitch, &plane.address)) {
    return std::nullopt;
  }
  // The last byte must have an address too.
  std::uint64_t end = plane.address;
  if (extent.rows > 0 && !MulAdd(extent.rows - 1, plane.pitch, &end)) return std::nullopt;
  if (extent.slices > 0 && !MulAdd(extent.slices - 1, plane.slice_pitch, &end)) {
    return std::nullopt;
  }
  if (!MulAdd(extent.row_bytes, 1, &end)) return std::nullopt;
  return plane;
}

std::optional<std::uint64_t> CopyBytes(const wire::CopyExtent& extent) {
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(extent.row_bytes, extent.rows, &bytes) ||
      __builtin_mul_overflow(bytes, extent.slices, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

std::uint64_t SpanBytes(const wire::CopyPlane& plane, const wire::CopyExtent& extent) {
  return (extent.slices - 1) * plane.slice_pitch + (extent.rows - 1) * plane.pitch +
         extent.row_bytes;
}

bool IsDense(const wire::CopyPlane& plane, const wire::CopyExtent& extent) {
  return (extent.rows <= 1 || plane.pitch == extent.row_bytes) &&
         (extent.slices <= 1 || plane.slice_pitch == extent.row_bytes * extent.rows);
}

void Simplify(wire::CopyPlane* to, wire::CopyPlane* from, wire::CopyExtent* extent) {
  const auto rows_touch = [&](const wire::CopyPlane& plane) {
    return extent->rows <= 1 || plane.pitch == extent->row_bytes;
  };
  const auto slices_touch = [&](const wire::CopyPlane& plane) {
    return extent->slices <= 1 || plane.slice_pitch == plane.pitch * extent->rows;
  };
  if (slices_touch(*to) && slices_touch(*from)) {
    extent->rows *= extent->slices;
    extent->slices = 1;
  }
  if (extent->slices == 1 && rows_touch(*to) && rows_touch(*from)) {
    extent->row_bytes *= extent->rows;
    extent->rows = 1;
  }
  for (wire::CopyPlane* plane : {to, from}) {
    if (extent->slices == 1) plane->slice_pitch = 0;
    if (extent->rows == 1 && extent->slices == 1) plane->pitch = 0;
  }
}

void PackRows(const wire::CopyPlane& from, const wire::CopyExtent& extent, std::byte* dense) {
  ForEachRow(from, extent, [&](std::uint64_t address, std::uint64_t row) {
    std::memcpy(dense + row * extent.row_bytes, At(address), extent.row_bytes);
  });
}

void UnpackRows(const std::byte* dense, const wire::CopyPlane& to, const wire::CopyExtent& extent) {
  ForEachRow(to, extent, [&](std::uint64_t address, std::uint64_t row) {
    std::memcpy(At(address), dense + row * extent.row_bytes, extent.row_bytes);
  });
}

void CopyRows(const wire::CopyPlane& from, const wire::CopyPlane& to,
              const wire::CopyExtent& extent) {
  for (std::uint64_t z = 0; z < extent.slices; ++z) {
    for (std::uint64_t y = 0; y < extent.rows; ++y) {
      std::memmove(At(to.address + z * to.slice_pitch + y * to.pitch),
                   At(from.address + z * from.slice_pitch + y * from.pitch), extent.row_bytes);
    }
  }
}

}  // namespace farwarp::client
