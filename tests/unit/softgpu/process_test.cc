// What is decided once per process: configuration, and how the process ends while work runs. Each
// case runs in a child of its own, which opens the finished library as a program does. The parent
// has no threads and never opens it.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "cuda/driver_api.h"

namespace {

using Clock = std::chrono::steady_clock;

// Says that it runs, then spins until the second word is not zero. Blocks beyond the first too.
constexpr char kSpin[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 flags)
{
  .reg .pred %p<2>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [flags];
  mov.u32 %r1, 1;
  st.volatile.global.u32 [%rd1], %r1;
again:
  ld.volatile.global.u32 %r2, [%rd1+4];
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra again;
  ret;
}
)";

void* library = nullptr;

template <typename F>
F* Entry(const char* name) {
  void* function = dlsym(library, name);
  if (function == nullptr) _exit(90);
  return reinterpret_cast<F*>(function);
}
#define CU(name) Entry<decltype(name)>(#name)

// In a child: leaves with a code that names the line.
#define REQUIRE(condition) \
  if (!(condition)) _exit(100 + __LINE__ % 100)

bool Within(std::chrono::milliseconds limit, const std::function<bool()>& true_now) {
  const auto until = Clock::now() + limit;
  while (!true_now()) {
    if (Clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

// Runs body() in a child with this configuration and returns its exit status; -1 if it did not end
// within 20 seconds. What body() returns is the status, through exit().
int InChild(const char* config, const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("FARWARP_SOFTGPU", config, 1);
    setenv("FARWARP_LOG", "error", 1);
    library = dlopen(FARWARP_SOFTGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) _exit(91);
    std::exit(body());
  }
  int status = 0;
  const bool ended =
      Within(std::chrono::seconds(20), [&] { return waitpid(child, &status, WNOHANG) == child; });
  if (!ended) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// A context with a kernel of `blocks` blocks that spins.
class Spinning {
 public:
  explicit Spinning(unsigned blocks) {
    REQUIRE(CU(cuInit)(0) == CUDA_SUCCESS);
    REQUIRE(CU(cuCtxCreate_v2)(&context_, 0, 0) == CUDA_SUCCESS);
    void* flags = nullptr;
    REQUIRE(CU(cuMemAllocHost_v2)(&flags, 8) == CUDA_SUCCESS);
    flags_ = static_cast<unsigned*>(flags);
    flags_[0] = flags_[1] = 0;
    CUmodule module = nullptr;
    CUfunction spin = nullptr;
    REQUIRE(CU(cuModuleLoadData)(&module, kSpin) == CUDA_SUCCESS);
    REQUIRE(CU(cuModuleGetFunction)(&spin, module, "spin") == CUDA_SUCCESS);
    void* params[] = {&flags};
    REQUIRE(CU(cuLaunchKernel)(spin, blocks, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr) ==
            CUDA_SUCCESS);
    REQUIRE(Within(std::chrono::seconds(10),
                   [&] { return __atomic_load_n(flags_, __ATOMIC_ACQUIRE) != 0; }));
  }
  CUcontext context() const { return context_; }
  void Release() const { __atomic_store_n(flags_ + 1, 1u, __ATOMIC_RELEASE); }

  // Whether call() returns only once the kernel may end.
  template <typename Call>
  bool HoldsUp(Call call) const {
    std::atomic<bool> over{false};
    std::thread caller([&] {
      REQUIRE(CU(cuCtxSetCurrent)(context_) == CUDA_SUCCESS);
      REQUIRE(call() == CUDA_SUCCESS);
      over = true;
    });
    const bool early = Within(std::chrono::milliseconds(1500), [&] { return over.load(); });
    Release();
    caller.join();
    return !early;
  }

 private:
  CUcontext context_ = nullptr;
  unsigned* flags_ = nullptr;
};

TEST(Process, EndsWhileAKernelSpins) {
  const auto begin = Clock::now();
  EXPECT_EQ(7, InChild("memory=64MiB", [] {
              const Spinning spinning(8);
              return 7;
            }));
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
}

TEST(Process, AContextEndsAfterItsKernels) {
  EXPECT_EQ(7, InChild("memory=64MiB", [] {
              const Spinning spinning(8);
              REQUIRE(spinning.HoldsUp([&] { return CU(cuCtxDestroy_v2)(spinning.context()); }));
              return 7;
            }));
}

TEST(Process, AFreeWaitsForTheKernelsOfItsContext) {
  EXPECT_EQ(7, InChild("memory=64MiB", [] {
              const Spinning spinning(1);
              CUdeviceptr memory = 0;
              REQUIRE(CU(cuMemAlloc_v2)(&memory, 4096) == CUDA_SUCCESS);
              REQUIRE(spinning.HoldsUp([&] { return CU(cuMemFree_v2)(memory); }));
              REQUIRE(CU(cuCtxSynchronize)() == CUDA_SUCCESS);
              return 7;
            }));
}

// The watchdog ends what spins, and a context's end with it.
TEST(Process, TheWatchdogIsConfigured) {
  EXPECT_EQ(7, InChild("memory=64MiB,watchdog=200ms", [] {
              const Spinning spinning(4);
              REQUIRE(CU(cuCtxSynchronize)() == CUDA_ERROR_LAUNCH_TIMEOUT);
              CUdeviceptr memory = 0;
              REQUIRE(CU(cuMemAlloc_v2)(&memory, 4096) == CUDA_ERROR_LAUNCH_TIMEOUT);
              REQUIRE(CU(cuCtxDestroy_v2)(spinning.context()) == CUDA_SUCCESS);
              const Spinning again(4);
              REQUIRE(CU(cuCtxDestroy_v2)(again.context()) == CUDA_SUCCESS);
              return 7;
            }));
}

// A store of thread 3 to 8 bytes behind what was allocated.
constexpr char kBehind[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry behind(.param .u64 at)
{
  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [at];
  mov.u32 %r1, %tid.x;
  setp.eq.u32 %p1, %r1, 3;
  @%p1 st.global.u16 [%rd1+4104], 7;
  ret;
}
)";

TEST(Process, AFaultIsDescribedInTheLog) {
  char path[] = "/tmp/farwarp_fault_XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  unlink(path);
  EXPECT_EQ(7, InChild("memory=64MiB", [file] {
              REQUIRE(dup2(file, STDERR_FILENO) == STDERR_FILENO);
              REQUIRE(CU(cuInit)(0) == CUDA_SUCCESS);
              CUcontext context = nullptr;
              REQUIRE(CU(cuCtxCreate_v2)(&context, 0, 0) == CUDA_SUCCESS);
              CUdeviceptr memory = 0;
              REQUIRE(CU(cuMemAlloc_v2)(&memory, 4096) == CUDA_SUCCESS);
              CUmodule module = nullptr;
              CUfunction behind = nullptr;
              REQUIRE(CU(cuModuleLoadData)(&module, kBehind) == CUDA_SUCCESS);
              REQUIRE(CU(cuModuleGetFunction)(&behind, module, "behind") == CUDA_SUCCESS);
              void* params[] = {&memory};
              REQUIRE(CU(cuLaunchKernel)(behind, 1, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr) ==
                      CUDA_SUCCESS);
              REQUIRE(CU(cuCtxSynchronize)() == CUDA_ERROR_ILLEGAL_ADDRESS);
              return 7;
            }));
  char text[4096] = "";
  ASSERT_GT(pread(file, text, sizeof text - 1, 0), 0);
  close(file);
  const std::string log = text;
  for (const char* part :
       {"illegal address 0x", "in kernel behind, block (0,0,0), thread (3,0,0), ptx line 13",
        "'st.global.u16 [%rd1+4104], 7' writes 2 bytes of global memory",
        "; the nearest allocation, 4096 bytes at 0x", ", ended 8 bytes before"}) {
    EXPECT_NE(log.find(part), std::string::npos) << part << " is not in: " << log;
  }
}

TEST(Process, AWrongConfigurationIsRefused) {
  for (const char* config : {"watchdog=soon", "devices=many", "memory=", "colour=blue", "cc"}) {
    EXPECT_EQ(7,
              InChild(config,
                      [] {
                        REQUIRE(CU(cuInit)(0) == CUDA_ERROR_INVALID_VALUE);
                        REQUIRE(CU(cuInit)(0) == CUDA_ERROR_INVALID_VALUE);
                        CUcontext context = nullptr;
                        REQUIRE(CU(cuCtxCreate_v2)(&context, 0, 0) == CUDA_ERROR_NOT_INITIALIZED);
                        return 7;
                      }))
        << config;
  }
}

}  // namespace
