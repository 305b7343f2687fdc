// The smallest CUDA program: what `farwarp doctor` runs through client library, wire and server.
#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdio>

#include "client/cli/doctor.h"
#include "client/cli/exit_code.h"

namespace farwarp::cli {
namespace {

// Stores 42 where its parameter points.
constexpr char kKernel[] = R"(
.version 7.0
.target sm_52
.address_size 64
.visible .entry answer(.param .u64 where)
{
  .reg .b64 %rd<3>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [where];
  cvta.to.global.u64 %rd2, %rd1;
  mov.u32 %r1, 42;
  st.global.u32 [%rd2], %r1;
  ret;
}
)";

using Clock = std::chrono::steady_clock;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Functions of the driver, as CUDA's documentation declares them, and the first failure.
class Driver {
 public:
  explicit Driver(void* library) : library_(library) {}
  template <typename... Arguments>
  bool Call(const char* name, Arguments... arguments) {
    if (failed_) return false;
    auto* function = reinterpret_cast<int (*)(Arguments...)>(::dlsym(library_, name));
    const int error = function == nullptr ? -1 : function(arguments...);
    if (error == 0) return true;
    failed_ = true;
    if (function == nullptr) {
      std::fprintf(stderr, "libcuda.so.1 has no %s\n", name);
    } else {
      std::fprintf(stderr, "%s fails with CUDA error %d\n", name, error);
    }
    return false;
  }

 private:
  void* library_;
  bool failed_ = false;
};

}  // namespace

int FirstKernel() {
  const Clock::time_point start = Clock::now();
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    return kFailed;
  }
  Driver cuda(library);
  int device = 0;
  void* context = nullptr;
  void* module = nullptr;
  void* function = nullptr;
  std::uint64_t memory = 0;
  std::uint32_t value = 0;
  if (!cuda.Call("cuInit", 0u) || !cuda.Call("cuDeviceGet", &device, 0) ||
      !cuda.Call("cuDevicePrimaryCtxRetain", &context, device) ||
      !cuda.Call("cuCtxSetCurrent", context))
    return kFailed;
  const double attached = MillisecondsSince(start);
  void* parameters[] = {&memory};
  void** no_extra = nullptr;
  void* no_stream = nullptr;
  if (!cuda.Call("cuModuleLoadData", &module, static_cast<const void*>(kKernel)) ||
      !cuda.Call("cuModuleGetFunction", &function, module, "answer") ||
      !cuda.Call("cuMemAlloc_v2", &memory, sizeof value) ||
      !cuda.Call("cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, no_stream,
                 static_cast<void**>(parameters), no_extra) ||
      !cuda.Call("cuCtxSynchronize"))
    return kFailed;
  const double computed = MillisecondsSince(start);
  const Clock::time_point again = Clock::now();
  if (!cuda.Call("cuMemcpyDtoH_v2", static_cast<void*>(&value), memory, sizeof value))
    return kFailed;
  if (value != 42) {
    std::fprintf(stderr, "the kernel computed %u instead of 42\n", value);
    return kFailed;
  }
  std::printf(
      "attached after %.1f ms, first kernel done after %.1f ms, a small copy back takes %.2f ms\n",
      attached, computed, MillisecondsSince(again));
  return kSuccess;
}

}  // namespace farwarp::cli
