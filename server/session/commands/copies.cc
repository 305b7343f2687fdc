// Copies and fills. Bytes to the device come with the command; bytes from the device are sent by a
// host function in the stream, right behind the copy into staging memory, so that they leave before
// anything that depends on the copy can complete.
#include <cstring>
#include <memory>
#include <utility>

#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/staging.h"
#include "server/session/commands/state.h"
#include "server/session/commands/wait.h"
#include "server/session/session.h"

namespace farwarp::server {
namespace {

using wire::CopyExtent;
using wire::CopyPlane;

void* At(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

// Reads an extent; its bytes are at most `max_bytes`.
CopyExtent ReadExtent(Call& call, std::uint64_t max_bytes, std::uint64_t* bytes) {
  const auto extent = call.args().GetStruct<CopyExtent>();
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0 ||
      __builtin_mul_overflow(extent.row_bytes, extent.rows, bytes) ||
      __builtin_mul_overflow(*bytes, extent.slices, bytes) || *bytes > max_bytes) {
    call.MarkBad();
    *bytes = 0;
  }
  return extent;
}

// Reads the device's side of a copy; it must be the session's memory. Slices must be a whole number
// of rows apart: the driver is told their height, and another one would be other memory than was
// checked.
CopyPlane ReadPlane(Call& call, const CopyExtent& extent) {
  const auto plane = call.args().GetStruct<CopyPlane>();
  const bool has_height =
      extent.slices <= 1 || (plane.pitch != 0 && plane.slice_pitch % plane.pitch == 0 &&
                             plane.slice_pitch / plane.pitch >= extent.rows);
  if (!has_height || !StateOf(call).Covers(plane, extent)) call.MarkBad();
  return plane;
}

struct Side {
  CUmemorytype type;
  CopyPlane plane;
};
Side Host(const void* data, const CopyExtent& extent) {
  return {
      CU_MEMORYTYPE_HOST,
      {reinterpret_cast<std::uint64_t>(data), extent.row_bytes, extent.row_bytes * extent.rows}};
}
Side OnDevice(const CopyPlane& plane) {
  return {CU_MEMORYTYPE_DEVICE, plane};
}

std::size_t HeightOf(const CopyPlane& plane, const CopyExtent& extent) {
  if (extent.slices == 1) return static_cast<std::size_t>(extent.rows);
  return static_cast<std::size_t>(plane.slice_pitch / plane.pitch);
}

CUresult CopyRow(const driver::Table& driver, const Side& to, const Side& from, std::uint64_t bytes,
                 CUstream stream) {
  if (from.type == CU_MEMORYTYPE_HOST) {
    return driver.cuMemcpyHtoDAsync_v2(to.plane.address, At(from.plane.address), bytes, stream);
  }
  if (to.type == CU_MEMORYTYPE_HOST) {
    return driver.cuMemcpyDtoHAsync_v2(At(to.plane.address), from.plane.address, bytes, stream);
  }
  return driver.cuMemcpyDtoDAsync_v2(to.plane.address, from.plane.address, bytes, stream);
}

CUresult CopyBox(const driver::Table& driver, const Side& to, const Side& from,
                 const CopyExtent& extent, CUstream stream) {
  if (extent.rows == 1 && extent.slices == 1) {
    return CopyRow(driver, to, from, extent.row_bytes, stream);
  }
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = from.type;
  copy.srcHost = At(from.plane.address);
  copy.srcDevice = from.plane.address;
  copy.srcPitch = from.plane.pitch;
  copy.srcHeight = HeightOf(from.plane, extent);
  copy.dstMemoryType = to.type;
  copy.dstHost = At(to.plane.address);
  copy.dstDevice = to.plane.address;
  copy.dstPitch = to.plane.pitch;
  copy.dstHeight = HeightOf(to.plane, extent);
  copy.WidthInBytes = extent.row_bytes;
  copy.Height = extent.rows;
  copy.Depth = extent.slices;
  return driver.cuMemcpy3DAsync_v2(&copy, stream);
}

}  // namespace

void HandleCopyToDevice(Call& call) {
  auto* stream = call.ResolveStream();
  std::uint64_t bytes = 0;
  const CopyExtent extent = ReadExtent(call, wire::kMaxCopyBytes, &bytes);
  const CopyPlane to = ReadPlane(call, extent);
  const auto data = ReadBulk(call, wire::kMaxCopyBytes);
  if (data.size() != bytes) call.MarkBad();
  if (!Readable(call)) return;
  // Small data may go as pageable memory: the driver has taken it when the call returns. Larger
  // data would make the driver wait for the stream, so it stays until the stream has been there.
  if (extent.row_bytes == bytes && bytes <= wire::kInlineDataBytes) {
    return call.Finish(
        CopyBox(call.driver(), OnDevice(to), Host(data.data(), extent), extent, stream));
  }
  auto staged = StateOf(call).staging->Take(call.driver(), static_cast<std::size_t>(bytes));
  if (staged == nullptr) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  std::memcpy(staged->data(), data.data(), data.size());
  staged->HoldCharge(call.BulkCharge());
  CUresult result =
      CopyBox(call.driver(), OnDevice(to), Host(staged->data(), extent), extent, stream);
  if (result == CUDA_SUCCESS) {
    // Owning the buffer until then is all that the function does.
    result = ReleaseBehind(call, stream, [staged] {});
  }
  call.Finish(result);
}

void HandleCopyFromDevice(Call& call) {
  auto* stream = call.ResolveStream();
  std::uint64_t bytes = 0;
  const CopyExtent extent = ReadExtent(call, wire::kMaxCopyBytes, &bytes);
  const CopyPlane from = ReadPlane(call, extent);
  const auto transfer = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  auto staged = StateOf(call).staging->Take(call.driver(), static_cast<std::size_t>(bytes));
  if (staged == nullptr) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  CUresult result =
      CopyBox(call.driver(), Host(staged->data(), extent), OnDevice(from), extent, stream);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  Session& session = call.session();
  result = ReleaseBehind(
      call, stream, [&session, staged, transfer, bytes, staging = StateOf(call).staging.get()] {
        staging->Leaves(*staged);
        session.SendBulk(transfer, {staged->data(), static_cast<std::size_t>(bytes)}, staged);
      });
  if (result != CUDA_SUCCESS || !call.has_ticket()) return call.Finish(result);
  WaitForStream(call, stream);
}

void HandleCopyOnDevice(Call& call) {
  auto* stream = call.ResolveStream();
  std::uint64_t bytes = 0;
  const CopyExtent extent = ReadExtent(call, ~std::uint64_t{0}, &bytes);
  const CopyPlane to = ReadPlane(call, extent);
  const CopyPlane from = ReadPlane(call, extent);
  if (!Readable(call)) return;
  call.Finish(CopyBox(call.driver(), OnDevice(to), OnDevice(from), extent, stream));
}

void HandleCopyToPeer(Call& call) {
  auto* stream = call.ResolveStream();
  const auto to = call.args().Get<std::uint64_t>();
  auto* to_context = call.Resolve<CUcontext>(wire::HandleKind::kContext);
  const auto from = call.args().Get<std::uint64_t>();
  auto* from_context = call.Resolve<CUcontext>(wire::HandleKind::kContext);
  const auto bytes = call.args().Get<std::uint64_t>();
  const CopyExtent extent{bytes, 1, 1};
  if (!StateOf(call).Covers({to, 0, 0}, extent) || !StateOf(call).Covers({from, 0, 0}, extent)) {
    call.MarkBad();
  }
  if (!Readable(call)) return;
  call.Finish(call.driver().cuMemcpyPeerAsync(to, to_context, from, from_context, bytes, stream));
}

void HandleFill(Call& call) {
  auto* stream = call.ResolveStream();
  const auto address = call.args().Get<std::uint64_t>();
  const auto pitch = call.args().Get<std::uint64_t>();
  const auto element_bytes = call.args().Get<std::uint32_t>();
  const auto value = call.args().Get<std::uint32_t>();
  const auto width = call.args().Get<std::uint64_t>();
  const auto height = call.args().Get<std::uint64_t>();
  CopyExtent extent{0, height, 1};
  if ((element_bytes != 1 && element_bytes != 2 && element_bytes != 4) ||
      __builtin_mul_overflow(width, std::uint64_t{element_bytes}, &extent.row_bytes) ||
      !StateOf(call).Covers({address, pitch, 0}, extent)) {
    call.MarkBad();
  }
  if (!Readable(call)) return;
  const driver::Table& driver = call.driver();
  const auto byte = static_cast<unsigned char>(value);
  const auto half = static_cast<unsigned short>(value);
  CUresult result;
  if (height == 1) {
    result = element_bytes == 1   ? driver.cuMemsetD8Async(address, byte, width, stream)
             : element_bytes == 2 ? driver.cuMemsetD16Async(address, half, width, stream)
                                  : driver.cuMemsetD32Async(address, value, width, stream);
  } else {
    result = element_bytes == 1
                 ? driver.cuMemsetD2D8Async(address, pitch, byte, width, height, stream)
             : element_bytes == 2
                 ? driver.cuMemsetD2D16Async(address, pitch, half, width, height, stream)
                 : driver.cuMemsetD2D32Async(address, pitch, value, width, height, stream);
  }
  call.Finish(result);
}

}  // namespace farwarp::server
