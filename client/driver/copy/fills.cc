// cuMemset*: always asynchronous, in stream order; the range is checked here.
#include "client/custom.h"
#include "client/driver/copy/copy.h"
#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

constexpr auto kLegacy = NullStream::kLegacy;
constexpr auto kPerThread = NullStream::kPerThread;

struct FillShape {
  CUdeviceptr address;
  size_t pitch;
  size_t width;  // Elements.
  size_t height;
};

CUresult Fill(const FillShape& shape, unsigned value, unsigned element_bytes, CUstream stream,
              NullStream null) {
  FARWARP_ENTER_CONTEXT(caller);
  if (graph::Graphs& graphs = caller.process->graphs(); graphs.capturing()) {
    graph::NodeWork work;
    CUresult captured;
    work.type = CU_GRAPH_NODE_TYPE_MEMSET;
    work.fill = {shape.address, shape.pitch, value, element_bytes, shape.width, shape.height};
    if (graphs.Capture(stream, null == kPerThread, std::move(work), &captured)) return captured;
  }
  if (Managed& managed = caller.process->managed(); managed.any()) {
    if (const CUresult result = managed.BeforeWork(caller); result != CUDA_SUCCESS) return result;
  }
  StreamUse use;
  if (const CUresult result = ResolveForWork(caller, stream, null, &use); result != CUDA_SUCCESS)
    return result;
  if (shape.width == 0 || shape.height == 0) return CUDA_SUCCESS;
  wire::CopyExtent extent{0, shape.height, 1};
  if (__builtin_mul_overflow(shape.width, std::uint64_t{element_bytes}, &extent.row_bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto plane = PlaneOf({.base = shape.address, .pitch = shape.pitch}, extent);
  if (!plane.has_value() || shape.address % element_bytes != 0 ||
      (shape.height > 1 && shape.pitch % element_bytes != 0) ||
      !CoversDevice(*caller.process, *plane, extent)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Command command(caller.session(), wire::IdOf(wire::InternalCommand::kFill));
  command.body().PutPointer(use.wire);
  command.body().Put(static_cast<std::uint64_t>(shape.address));
  command.body().Put(plane->pitch);
  command.body().Put(std::uint32_t{element_bytes});
  command.body().Put(std::uint32_t{value});
  command.body().Put(static_cast<std::uint64_t>(shape.width));
  command.body().Put(static_cast<std::uint64_t>(shape.height));
  use.context->work.Begin(use.beside_legacy());
  return command.Post();
}

}  // namespace

CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
  return Fill({dstDevice, 0, N, 1}, uc, 1, nullptr, kLegacy);
}
CUresult cuMemsetD8_v2_ptds(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
  return Fill({dstDevice, 0, N, 1}, uc, 1, nullptr, kPerThread);
}
CUresult cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N) {
  return Fill({dstDevice, 0, N, 1}, us, 2, nullptr, kLegacy);
}
CUresult cuMemsetD16_v2_ptds(CUdeviceptr dstDevice, unsigned short us, size_t N) {
  return Fill({dstDevice, 0, N, 1}, us, 2, nullptr, kPerThread);
}
CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned int ui, size_t N) {
  return Fill({dstDevice, 0, N, 1}, ui, 4, nullptr, kLegacy);
}
CUresult cuMemsetD32_v2_ptds(CUdeviceptr dstDevice, unsigned int ui, size_t N) {
  return Fill({dstDevice, 0, N, 1}, ui, 4, nullptr, kPerThread);
}
CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, uc, 1, hStream, kLegacy);
}
CUresult cuMemsetD8Async_ptsz(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, uc, 1, hStream, kPerThread);
}
CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, us, 2, hStream, kLegacy);
}
CUresult cuMemsetD16Async_ptsz(CUdeviceptr dstDevice, unsigned short us, size_t N,
                               CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, us, 2, hStream, kPerThread);
}
CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, ui, 4, hStream, kLegacy);
}
CUresult cuMemsetD32Async_ptsz(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) {
  return Fill({dstDevice, 0, N, 1}, ui, 4, hStream, kPerThread);
}

#define FARWARP_FILL_2D(bits, type, name)                                                          \
  CUresult cuMemsetD2D##bits##_v2(CUdeviceptr dstDevice, size_t dstPitch, type name, size_t Width, \
                                  size_t Height) {                                                 \
    return Fill({dstDevice, dstPitch, Width, Height}, name, bits / 8, nullptr, kLegacy);           \
  }                                                                                                \
  CUresult cuMemsetD2D##bits##_v2_ptds(CUdeviceptr dstDevice, size_t dstPitch, type name,          \
                                       size_t Width, size_t Height) {                              \
    return Fill({dstDevice, dstPitch, Width, Height}, name, bits / 8, nullptr, kPerThread);        \
  }                                                                                                \
  CUresult cuMemsetD2D##bits##Async(CUdeviceptr dstDevice, size_t dstPitch, type name,             \
                                    size_t Width, size_t Height, CUstream hStream) {               \
    return Fill({dstDevice, dstPitch, Width, Height}, name, bits / 8, hStream, kLegacy);           \
  }                                                                                                \
  CUresult cuMemsetD2D##bits##Async_ptsz(CUdeviceptr dstDevice, size_t dstPitch, type name,        \
                                         size_t Width, size_t Height, CUstream hStream) {          \
    return Fill({dstDevice, dstPitch, Width, Height}, name, bits / 8, hStream, kPerThread);        \
  }
FARWARP_FILL_2D(8, unsigned char, uc)
FARWARP_FILL_2D(16, unsigned short, us)
FARWARP_FILL_2D(32, unsigned int, ui)
#undef FARWARP_FILL_2D

}  // namespace farwarp::client::custom

namespace farwarp::client {

CUresult CheckFillShape(Process& process, std::uint64_t address, std::uint64_t pitch,
                        std::uint64_t width, std::uint64_t height, unsigned element_bytes) {
  wire::CopyExtent extent{0, height, 1};
  if (__builtin_mul_overflow(width, std::uint64_t{element_bytes}, &extent.row_bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto plane = PlaneOf({.base = address, .pitch = height > 1 ? pitch : 0}, extent);
  const bool valid = plane.has_value() && address % element_bytes == 0 &&
                     (height <= 1 || pitch % element_bytes == 0) &&
                     CoversDevice(process, *plane, extent);
  return valid ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace farwarp::client
