// SoftGpuConfig: what FARWARP_SOFTGPU says about the devices to imitate, for instance
//   FARWARP_SOFTGPU="devices=2,memory=16GiB,name=Test GPU,cc=12.1,sms=16"
// Each key may be left out. Value type.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "farwarp/base/status.h"

namespace farwarp::softgpu {

struct SoftGpuConfig {
  int devices = 1;  // 0 to 64; 0 makes cuInit say that there is no device.
  std::uint64_t memory_bytes = std::uint64_t{16} << 30;  // Of each device, 1 MiB to 1 TiB.
  std::string name = "Farwarp Software GPU";             // At most 255 characters.
  int major = 12;  // Compute capability, 5.0 to 12.9: which PTX is accepted and chosen.
  int minor = 1;
  int multiprocessors = 16;  // 1 to 1024; what programs size their grids by.

  std::chrono::milliseconds watchdog{0};  // Ends kernels that run longer; 0: never. At most a day.
  int threads = 0;                        // Threads that run kernels; 0: one per core. 1 to 256.
  std::uint64_t seed = 0;  // Other than 0: kernels are scheduled at random, for tests.

  // The error names the key and what is allowed.
  static Result<SoftGpuConfig> Parse(std::string_view text);
};

}  // namespace farwarp::softgpu
