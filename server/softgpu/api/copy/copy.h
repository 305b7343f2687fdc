// Copies and fills: one description for all of CUDA's memcpy and memset calls, checked against what
// is allocated, and the rules on when a call may return.
//
// A copy from pageable memory has been read when an asynchronous call returns (small ones through a
// staging buffer), one to pageable memory is complete; with pinned memory nothing waits. The
// synchronous calls wait, except between two places on the device. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/softgpu/api/driver.h"

namespace farwarp::softgpu {

// What a side of a copy must be. kAny: whatever the address turns out to be.
enum class Side { kHost, kDevice, kAny };

// `depth` slices of `height` rows of `width` bytes. Pitches count bytes; they do not matter where
// there is only one row or slice.
struct Copy {
  std::uint64_t to = 0;
  std::uint64_t from = 0;
  Side to_side = Side::kAny;
  Side from_side = Side::kAny;
  std::size_t width = 0;
  std::size_t height = 1;
  std::size_t depth = 1;
  std::size_t to_pitch = 0;
  std::size_t from_pitch = 0;
  std::size_t to_slice = 0;
  std::size_t from_slice = 0;

  bool empty() const noexcept { return width == 0 || height == 0 || depth == 0; }
};

// What CUDA_MEMCPY3D means.
CUresult DescribeCopy(const CUDA_MEMCPY3D& params, Copy* copy);
// Checks a copy or a fill for later: `body` does it.
CUresult PrepareCopy(Driver& driver, Context* context, const Copy& copy, Work::Body* body);

CUresult RunCopy(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Copy& copy, bool synchronous);

// `height` rows of `count` elements of 1, 2 or 4 bytes.
struct Fill {
  std::uint64_t to = 0;
  std::uint32_t value = 0;
  std::size_t element = 1;
  std::size_t count = 0;
  std::size_t height = 1;
  std::size_t pitch = 0;  // In bytes.
};

CUresult RunFill(Driver& driver, Context& context, const std::shared_ptr<Stream>& stream,
                 const Fill& fill, bool synchronous);

CUresult PrepareFill(Driver& driver, Context* context, const Fill& fill, Work::Body* body);

}  // namespace farwarp::softgpu
