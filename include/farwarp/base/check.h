// FARWARP_CHECK: stops the process on a broken invariant of our own, with the failed condition on
// standard error.
//
// For bugs only, never for input. Forbidden in code that is loaded into the application (client/):
// there every failure is a CUresult. A server process may stop on it: one worker dies, its one
// client gets a CUDA error.
#pragma once

namespace farwarp {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition) noexcept;
}

#define FARWARP_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::farwarp::CheckFailed(__FILE__, __LINE__, #condition))
