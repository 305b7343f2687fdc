// Where tests place the device memory of a session.
#pragma once

#include <cstdint>

namespace farwarp::tests {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FARWARP_TEST_LOW_WINDOW 1
#endif
#endif
// The thread sanitizer ends a program that maps above 2 TiB; the address sanitizer keeps its books
// below 16 TiB.
#ifdef FARWARP_TEST_LOW_WINDOW
inline constexpr std::uint64_t kTestWindow = 0x100'0000'0000;
#else
inline constexpr std::uint64_t kTestWindow = 0x3000'0000'0000;
#endif

}  // namespace farwarp::tests
