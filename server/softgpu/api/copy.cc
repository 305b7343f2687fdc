#include "server/softgpu/api/copy.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "server/softgpu/api/device_memory.h"

namespace farwarp::softgpu {
namespace {

// Pageable sources up to this size are staged; for larger ones the call waits, which costs less
// than another copy of that size.
constexpr std::size_t kMaxStagedBytes = std::size_t{1} << 20;

unsigned char* Bytes(std::uint64_t address) {
  return reinterpret_cast<unsigned char*>(address);
}

// From the first to behind the last byte touched; false if the numbers overflow.
bool Extent(std::size_t width, std::size_t height, std::size_t depth, std::size_t pitch,
            std::size_t slice, std::uint64_t* bytes) {
  std::uint64_t rows = 0, slices = 0;
  if (height > 1 && __builtin_mul_overflow(height - 1, pitch, &rows)) return false;
  if (depth > 1 && __builtin_mul_overflow(depth - 1, slice, &slices)) return false;
  return !__builtin_add_overflow(rows, slices, bytes) &&
         !__builtin_add_overflow(*bytes, width, bytes);
}

void Move(const Copy& copy) {
  const bool rows_join = copy.to_pitch == copy.width && copy.from_pitch == copy.width;
  for (std::size_t z = 0; z < copy.depth; ++z) {
    unsigned char* to = Bytes(copy.to + z * copy.to_slice);
    const unsigned char* from = Bytes(copy.from + z * copy.from_slice);
    if (rows_join || copy.height == 1) {
      std::memmove(to, from, copy.width * copy.height);
      continue;
    }
    for (std::size_t y = 0; y < copy.height; ++y) {
      std::memmove(to + y * copy.to_pitch, from + y * copy.from_pitch, copy.width);
    }
  }
}

struct Place {
  bool host = false;    // Host memory of any sort.
  bool pinned = false;  // Known to the driver: may be used after the call has returned.
  bool seen = false;    // The host sees it: synchronous calls wait.
};

// What one side of the copy is, or false if it is not what it must be.
bool Locate(Driver& driver, Side side, std::uint64_t address, std::uint64_t bytes, bool write,
            Place* place) {
  if (address == 0 || address + bytes < address) return false;
  if (driver.allocations.Covers(address, bytes, write)) {
    const std::optional<Allocation> found = driver.allocations.Find(address);
    place->pinned = true;
    place->host =
        !found || found->kind == MemoryKind::kPinned || found->kind == MemoryKind::kRegistered;
    place->seen = place->host || found->kind == MemoryKind::kManaged;
    // Registered memory is no device address.
    return side != Side::kDevice || (found && found->kind != MemoryKind::kRegistered);
  }
  if (side == Side::kDevice) return false;
  place->host = place->seen = true;
  return IsHostRange(driver, address, bytes, write);
}

// The source is in the application's own memory and must be read before the call returns.
CUresult RunStaged(Context& context, const std::shared_ptr<Stream>& stream, Copy copy,
                   std::uint64_t from_bytes) {
  auto staging = std::make_shared<std::vector<unsigned char>>(from_bytes);
  std::memcpy(staging->data(), Bytes(copy.from), from_bytes);
  copy.from = reinterpret_cast<std::uint64_t>(staging->data());
  context.Enqueue(stream, Lane::kCopy, [copy, staging] { Move(copy); });
  return CUDA_SUCCESS;
}

}  // namespace

namespace {

// Both sides of a copy, if all of it may be done.
CUresult CheckCopy(Driver& driver, const Copy& copy, Place* to, Place* from,
                   std::uint64_t* source_bytes) {
  if (copy.height > 1 && (copy.to_pitch < copy.width || copy.from_pitch < copy.width)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::uint64_t to_bytes = 0, from_bytes = 0;
  if (!Extent(copy.width, copy.height, copy.depth, copy.to_pitch, copy.to_slice, &to_bytes) ||
      !Extent(copy.width, copy.height, copy.depth, copy.from_pitch, copy.from_slice, &from_bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!Locate(driver, copy.to_side, copy.to, to_bytes, true, to) ||
      !Locate(driver, copy.from_side, copy.from, from_bytes, false, from)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *source_bytes = from_bytes;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult PrepareCopy(Driver& driver, const Copy& copy, Work::Body* body) {
  Place to, from;
  std::uint64_t bytes = 0;
  if (copy.empty()) return CUDA_SUCCESS;
  const CUresult result = CheckCopy(driver, copy, &to, &from, &bytes);
  if (result == CUDA_SUCCESS) *body = [copy] { Move(copy); };
  return result;
}

CUresult RunCopy(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Copy& copy, bool synchronous) {
  Place to, from;
  std::uint64_t from_bytes = 0;
  if (copy.empty()) return CUDA_SUCCESS;
  if (const CUresult result = CheckCopy(driver, copy, &to, &from, &from_bytes);
      result != CUDA_SUCCESS) {
    return result;
  }
  const bool between_devices = !to.seen && !from.seen;
  const bool wait = synchronous ? !between_devices : !to.pinned;
  if (!wait && !from.pinned && from_bytes <= kMaxStagedBytes) {
    return RunStaged(context, stream, copy, from_bytes);
  }
  const auto work = context.Enqueue(stream, Lane::kCopy, [copy] { Move(copy); });
  if (!wait && from.pinned) return CUDA_SUCCESS;
  work->Wait();
  if (synchronous) context.print().Flush();
  return context.error();
}

namespace {

void Set(const Fill& fill) {
  for (std::size_t y = 0; y < fill.height; ++y) {
    unsigned char* row = Bytes(fill.to + y * fill.pitch);
    if (fill.element == 1) {
      std::memset(row, static_cast<int>(fill.value & 0xff), fill.count);
    } else if (fill.element == 2) {
      std::fill_n(reinterpret_cast<std::uint16_t*>(row), fill.count,
                  static_cast<std::uint16_t>(fill.value));
    } else {
      std::fill_n(reinterpret_cast<std::uint32_t*>(row), fill.count, fill.value);
    }
  }
}

CUresult CheckFill(Driver& driver, const Fill& fill, Place* place) {
  std::size_t width = 0;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(fill.count, fill.element, &width) ||
      !Extent(width, fill.height, 1, fill.pitch, 0, &bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (fill.to % fill.element != 0 ||
      (fill.height > 1 && (fill.pitch < width || fill.pitch % fill.element != 0))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return Locate(driver, Side::kDevice, fill.to, bytes, true, place) ? CUDA_SUCCESS
                                                                    : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult PrepareFill(Driver& driver, const Fill& fill, Work::Body* body) {
  Place place;
  if (fill.count == 0 || fill.height == 0) return CUDA_SUCCESS;
  const CUresult result = CheckFill(driver, fill, &place);
  if (result == CUDA_SUCCESS) *body = [fill] { Set(fill); };
  return result;
}

CUresult RunFill(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Fill& fill, bool synchronous) {
  if (fill.count == 0 || fill.height == 0) return CUDA_SUCCESS;
  Place place;
  if (const CUresult result = CheckFill(driver, fill, &place); result != CUDA_SUCCESS) {
    return result;
  }
  const auto work = context.Enqueue(stream, Lane::kCopy, [fill] { Set(fill); });
  if (!synchronous || !place.seen) return CUDA_SUCCESS;
  work->Wait();
  return context.error();
}

}  // namespace farwarp::softgpu
