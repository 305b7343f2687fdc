// Fuzzes what cuModuleLoad reads from a file: containers with damaged offsets, sizes and payloads.
#include <cstdint>

#include "server/softgpu/image/fatbin.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace farwarp::softgpu;
  const LoadedImage image =
      LoadImageBytes({reinterpret_cast<const std::byte*>(data), size}, size % 2 == 0 ? 121 : 75);
  if ((image.problem == ImageProblem::kNone) == image.ptx.empty()) __builtin_trap();
  if (image.problem != ImageProblem::kNone && image.message.empty()) __builtin_trap();
  return 0;
}
