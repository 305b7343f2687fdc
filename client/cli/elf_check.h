// Recognises programs whose CUDA runtime is linked statically: they look for NVIDIA's own driver
// and cannot use a vGPU.
//
// Reads the file with limits on everything it finds there. Pure, thread-safe.
#pragma once

#include <string>

namespace farwarp::cli {

enum class CudaLinkage {
  kUnknown,         // Not an ELF file that could be read, or nothing of CUDA in it.
  kShared,          // Kernels inside, and a shared CUDA runtime or driver among its libraries.
  kProbablyStatic,  // Kernels inside, and neither.
};

CudaLinkage InspectProgram(const std::string& path);

}  // namespace farwarp::cli
