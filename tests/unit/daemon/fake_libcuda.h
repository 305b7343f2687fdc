// What tests and the fake driver (fake_libcuda.cc) agree on. Constants.
#pragma once

#include <cstddef>

namespace farwarp::testing {

inline constexpr int kFakeDevices = 2;
inline constexpr std::size_t kFakeDeviceBytes = std::size_t{16} << 30;

// Sizes of physical memory that make the fake driver misbehave.
inline constexpr std::size_t kHangBytes = std::size_t{26} << 20;   // Never returns.
inline constexpr std::size_t kCrashBytes = std::size_t{28} << 20;  // SIGSEGV.
// Takes host memory until there is none.
inline constexpr std::size_t kHogBytes = std::size_t{32} << 20;
inline constexpr std::size_t kPrintBytes = std::size_t{30}
                                           << 20;  // Prints a line as a kernel would.

}  // namespace farwarp::testing
