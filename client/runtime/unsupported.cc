// Exports that this runtime does not offer: each returns cudaErrorNotSupported and says so once in
// the log, by name.
//
// Defined without their prototypes, which is sound because the caller passes arguments in registers
// and on its own stack and nothing here reads them. Every exported name that no other file defines
// must stand here, or linking fails at the version script.
#include <atomic>

#include "client/runtime/process.h"
#include "farwarp/base/log.h"

namespace farwarp::runtime {
namespace {

cudaError_t NotSupported(const char* name, std::atomic<bool>* told) noexcept {
  if (!told->exchange(true, std::memory_order_relaxed)) {
    FARWARP_LOG(kError, "cuda runtime: %s is not supported", name);
  }
  return Process::Get().Record(cudaErrorNotSupported);
}

}  // namespace
}  // namespace farwarp::runtime

#define X(name)                                                                                \
  extern "C"                                                                                   \
      __attribute__((visibility("default"))) cudaError_t name##_unprototyped() __asm__(#name); \
  cudaError_t name##_unprototyped() {                                                          \
    static std::atomic<bool> told{false};                                                      \
    return farwarp::runtime::NotSupported(#name, &told);                                       \
  }
#include "client/runtime/unsupported.inc"
#undef X
