// Fills of device memory with values of 8, 16 and 32 bits.
#include "server/softgpu/api/copy/copy.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;

namespace {

CUresult Run(CUdeviceptr to, std::size_t pitch, std::uint32_t value, std::size_t element,
             std::size_t count, std::size_t height, CUstream stream, bool synchronous) noexcept {
  return CallStream(stream, [&](Driver& driver, Context& context, std::shared_ptr<Stream>& s) {
    const Fill fill{to, value, element, count, height, pitch};
    if (CUresult captured; CaptureFill(stream, fill, synchronous, &captured)) return captured;
    return RunFill(driver, context, s, fill, synchronous);
  });
}

constexpr bool kSync = true;
constexpr bool kAsync = false;

}  // namespace

extern "C" {

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t n) {
  return Run(to, 0, value, 1, n, 1, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD8_v2_ptds(CUdeviceptr to, unsigned char value, size_t n) {
  return Run(to, 0, value, 1, n, 1, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream s) {
  return Run(to, 0, value, 1, n, 1, s, kAsync);
}
CUresult cuMemsetD8Async_ptsz(CUdeviceptr to, unsigned char value, size_t n, CUstream s) {
  return Run(to, 0, value, 1, n, 1, PerThread(s), kAsync);
}
CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                         size_t height) {
  return Run(to, pitch, value, 1, width, height, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD2D8_v2_ptds(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                              size_t height) {
  return Run(to, pitch, value, 1, width, height, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                           size_t height, CUstream s) {
  return Run(to, pitch, value, 1, width, height, s, kAsync);
}
CUresult cuMemsetD2D8Async_ptsz(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                                size_t height, CUstream s) {
  return Run(to, pitch, value, 1, width, height, PerThread(s), kAsync);
}

CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t n) {
  return Run(to, 0, value, 2, n, 1, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD16_v2_ptds(CUdeviceptr to, unsigned short value, size_t n) {
  return Run(to, 0, value, 2, n, 1, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t n, CUstream s) {
  return Run(to, 0, value, 2, n, 1, s, kAsync);
}
CUresult cuMemsetD16Async_ptsz(CUdeviceptr to, unsigned short value, size_t n, CUstream s) {
  return Run(to, 0, value, 2, n, 1, PerThread(s), kAsync);
}
CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                          size_t height) {
  return Run(to, pitch, value, 2, width, height, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD2D16_v2_ptds(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                               size_t height) {
  return Run(to, pitch, value, 2, width, height, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                            size_t height, CUstream s) {
  return Run(to, pitch, value, 2, width, height, s, kAsync);
}
CUresult cuMemsetD2D16Async_ptsz(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                                 size_t height, CUstream s) {
  return Run(to, pitch, value, 2, width, height, PerThread(s), kAsync);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t n) {
  return Run(to, 0, value, 4, n, 1, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD32_v2_ptds(CUdeviceptr to, unsigned int value, size_t n) {
  return Run(to, 0, value, 4, n, 1, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t n, CUstream s) {
  return Run(to, 0, value, 4, n, 1, s, kAsync);
}
CUresult cuMemsetD32Async_ptsz(CUdeviceptr to, unsigned int value, size_t n, CUstream s) {
  return Run(to, 0, value, 4, n, 1, PerThread(s), kAsync);
}
CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                          size_t height) {
  return Run(to, pitch, value, 4, width, height, CU_STREAM_LEGACY, kSync);
}
CUresult cuMemsetD2D32_v2_ptds(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                               size_t height) {
  return Run(to, pitch, value, 4, width, height, CU_STREAM_PER_THREAD, kSync);
}
CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                            size_t height, CUstream s) {
  return Run(to, pitch, value, 4, width, height, s, kAsync);
}
CUresult cuMemsetD2D32Async_ptsz(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                                 size_t height, CUstream s) {
  return Run(to, pitch, value, 4, width, height, PerThread(s), kAsync);
}

}  // extern "C"
