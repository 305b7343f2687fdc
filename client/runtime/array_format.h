// Element formats of arrays: the runtime's channel descriptors and the driver's formats.
//
// Pure functions, thread-safe.
#pragma once

#include <cstddef>

#include "cuda/driver_api.h"
#include "cuda/runtime_api.h"

namespace farwarp::runtime {

// False for descriptors that no array can have.
bool ToArrayFormat(const cudaChannelFormatDesc& descriptor, CUarray_format* format,
                   unsigned* channels) noexcept;
cudaChannelFormatDesc ToChannelDescriptor(CUarray_format format, unsigned channels) noexcept;
// Bytes of one channel; 0 for formats without a fixed size per channel.
size_t FormatBytes(CUarray_format format) noexcept;

}  // namespace farwarp::runtime
