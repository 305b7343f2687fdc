#include "client/runtime/array_format.h"

namespace farwarp::runtime {
namespace {

struct Plain {
  cudaChannelFormatKind kind;
  int bits;
  CUarray_format format;
};

constexpr Plain kPlain[] = {
    {cudaChannelFormatKindUnsigned, 8, CU_AD_FORMAT_UNSIGNED_INT8},
    {cudaChannelFormatKindUnsigned, 16, CU_AD_FORMAT_UNSIGNED_INT16},
    {cudaChannelFormatKindUnsigned, 32, CU_AD_FORMAT_UNSIGNED_INT32},
    {cudaChannelFormatKindSigned, 8, CU_AD_FORMAT_SIGNED_INT8},
    {cudaChannelFormatKindSigned, 16, CU_AD_FORMAT_SIGNED_INT16},
    {cudaChannelFormatKindSigned, 32, CU_AD_FORMAT_SIGNED_INT32},
    {cudaChannelFormatKindFloat, 16, CU_AD_FORMAT_HALF},
    {cudaChannelFormatKindFloat, 32, CU_AD_FORMAT_FLOAT},
};

}  // namespace

bool ToArrayFormat(const cudaChannelFormatDesc& descriptor, CUarray_format* format,
                   unsigned* channels) noexcept {
  const int bits[] = {descriptor.x, descriptor.y, descriptor.z, descriptor.w};
  unsigned count = 0;
  while (count < 4 && bits[count] != 0) ++count;
  for (unsigned i = 0; i < 4; ++i) {
    if (bits[i] != (i < count ? bits[0] : 0)) return false;
  }
  if (count != 1 && count != 2 && count != 4) return false;
  for (const Plain& plain : kPlain) {
    if (plain.kind == descriptor.f && plain.bits == bits[0]) {
      *format = plain.format;
      *channels = count;
      return true;
    }
  }
  return false;
}

cudaChannelFormatDesc ToChannelDescriptor(CUarray_format format, unsigned channels) noexcept {
  cudaChannelFormatDesc descriptor = {};
  descriptor.f = cudaChannelFormatKindNone;
  for (const Plain& plain : kPlain) {
    if (plain.format != format) continue;
    descriptor.x = plain.bits;
    descriptor.y = channels > 1 ? plain.bits : 0;
    descriptor.z = channels > 2 ? plain.bits : 0;
    descriptor.w = channels > 3 ? plain.bits : 0;
    descriptor.f = plain.kind;
  }
  return descriptor;
}

size_t FormatBytes(CUarray_format format) noexcept {
  for (const Plain& plain : kPlain) {
    if (plain.format == format) return static_cast<size_t>(plain.bits) / 8;
  }
  return 0;
}

}  // namespace farwarp::runtime
