#include "farwarp/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace farwarp {

void CheckFailed(const char* file, int line, const char* condition) noexcept {
  std::fprintf(stderr, "farwarp: %s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace farwarp
