#include "server/softgpu/api/copy/copy.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <memory>
#include <vector>

#include "farwarp/base/log.h"
#include "server/softgpu/api/memory/device_memory.h"

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
  InUse::Range range{};
};

// What one side of the copy is, or false if it is not what it must be.
bool Locate(Driver& driver, Side side, std::uint64_t address, std::uint64_t bytes, bool write,
            Place* place) {
  if (address == 0 || address + bytes < address) return false;
  place->range = {address, bytes};
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

// Runs body() while both places count as in use, if they are still allocated: memory may have been
// freed since the copy was queued. If it was, the context fails as by a kernel that uses freed
// memory.
template <typename Body>
void WhileAllocated(Driver& driver, Context& context, const Place& to, const Place& from,
                    Body&& body) {
  const InUse::Entry entry(driver.in_use, to.range, from.range);
  if ((to.pinned && !driver.allocations.Covers(to.range.address, to.range.bytes, true)) ||
      (from.pinned && !driver.allocations.Covers(from.range.address, from.range.bytes, false))) {
    FARWARP_LOG(kError,
                "softgpu: device %d: a copy of %" PRIu64 " bytes from 0x%" PRIx64 " to 0x%" PRIx64
                " meets memory that has been freed",
                context.device().ordinal(), to.range.bytes, from.range.address, to.range.address);
    return context.Fail(CUDA_ERROR_ILLEGAL_ADDRESS);
  }
  body();
}

// The source is in the application's own memory and must be read before the call returns.
CUresult RunStaged(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                   Copy copy, const Place& to, const Place& from) {
  auto staging = std::make_shared<std::vector<unsigned char>>(from.range.bytes);
  std::memcpy(staging->data(), Bytes(copy.from), staging->size());
  copy.from = reinterpret_cast<std::uint64_t>(staging->data());
  context.Enqueue(stream, Lane::kCopy, [&driver, &context, copy, staging, to] {
    WhileAllocated(driver, context, to, Place{}, [&] { Move(copy); });
  });
  return CUDA_SUCCESS;
}

// Both sides of a copy, if all of it may be done.
CUresult CheckCopy(Driver& driver, const Copy& copy, Place* to, Place* from) {
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
  return CUDA_SUCCESS;
}

Work::Body BodyOf(Driver& driver, Context& context, const Copy& copy, const Place& to,
                  const Place& from) {
  return [&driver, &context, copy, to, from] {
    WhileAllocated(driver, context, to, from, [&] { Move(copy); });
  };
}

}  // namespace

CUresult PrepareCopy(Driver& driver, Context* context, const Copy& copy, Work::Body* body) {
  Place to, from;
  if (copy.empty()) return CUDA_SUCCESS;
  const CUresult result = CheckCopy(driver, copy, &to, &from);
  if (result == CUDA_SUCCESS && context != nullptr) {
    *body = BodyOf(driver, *context, copy, to, from);
  }
  return result;
}

CUresult RunCopy(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Copy& copy, bool synchronous) {
  Place to, from;
  if (copy.empty()) return CUDA_SUCCESS;
  if (const CUresult result = CheckCopy(driver, copy, &to, &from); result != CUDA_SUCCESS) {
    return result;
  }
  const bool between_devices = !to.seen && !from.seen;
  const bool wait = synchronous ? !between_devices : !to.pinned;
  if (!wait && !from.pinned && from.range.bytes <= kMaxStagedBytes) {
    return RunStaged(driver, context, stream, copy, to, from);
  }
  const auto work = context.Enqueue(stream, Lane::kCopy, BodyOf(driver, context, copy, to, from));
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

Work::Body BodyOf(Driver& driver, Context& context, const Fill& fill, const Place& place) {
  return [&driver, &context, fill, place] {
    WhileAllocated(driver, context, place, Place{}, [&] { Set(fill); });
  };
}

}  // namespace

CUresult PrepareFill(Driver& driver, Context* context, const Fill& fill, Work::Body* body) {
  Place place;
  if (fill.count == 0 || fill.height == 0) return CUDA_SUCCESS;
  const CUresult result = CheckFill(driver, fill, &place);
  if (result == CUDA_SUCCESS && context != nullptr) *body = BodyOf(driver, *context, fill, place);
  return result;
}

CUresult RunFill(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Fill& fill, bool synchronous) {
  if (fill.count == 0 || fill.height == 0) return CUDA_SUCCESS;
  Place place;
  if (const CUresult result = CheckFill(driver, fill, &place); result != CUDA_SUCCESS) {
    return result;
  }
  const auto work = context.Enqueue(stream, Lane::kCopy, BodyOf(driver, context, fill, place));
  if (!synchronous || !place.seen) return CUDA_SUCCESS;
  work->Wait();
  return context.error();
}

}  // namespace farwarp::softgpu
