// What is not data: launches that are stopped from outside, and results that must not depend on
// the order of groups.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

constexpr const char* kEndless = R"(
.version 7.0
.target sm_75
.address_size 64
.visible .entry test(.param .u64 in, .param .u64 out) {
  .reg .b64 %rd<2>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, 1;
  st.global.u32 [%rd1], %r1;
again:
  bra again;
}
)";

TEST(Scheduling, CancelStopsAnEndlessLoop) {
  TestPlacer placer;
  auto module = Module::Load(kEndless, placer, nullptr);
  ASSERT_TRUE(module.ok()) << module.status().message();
  const DeviceWords out(4, kPoison);
  std::atomic<bool> cancel = false;
  std::thread stopper([&] {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (out.words()[0] != 1 && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    cancel = true;
  });
  const uint64_t params[] = {0, out.address()};
  WorkerPool pool(0);
  LaunchRequest request;
  request.kernel = (*module)->FindKernel("test");
  request.grid = {3, 1, 1};
  request.block = {40, 1, 1};
  request.params = std::as_bytes(std::span(params));
  request.cancel = &cancel;
  const Fault fault = softgpu::Run(request, pool);
  stopper.join();
  EXPECT_EQ(fault.kind, FaultKind::kCancelled) << fault.text;
  EXPECT_EQ(out.words()[0], 1u);
  // The engine is usable afterwards.
  cancel = true;
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kCancelled);
}

// Warps that keep meeting at a barrier use up their turns in different rounds.
TEST(Scheduling, CancelStopsWarpsThatMeetForEver) {
  std::string text = kEndless;
  text.replace(text.find("  bra again;"), 0,
               "  bar.sync 0;\n  mov.u32 %r1, %tid.x;\n  setp.lt.u32 %p1, %r1, 32;\n"
               "  @%p1 bra again;\n  mov.u32 %r1, 2;\n");
  text.replace(text.find("  .reg .b32"), 0, "  .reg .pred %p<2>;\n");
  TestPlacer placer;
  auto module = Module::Load(text, placer, nullptr);
  ASSERT_TRUE(module.ok()) << module.status().message();
  const DeviceWords out(4, kPoison);
  const uint64_t params[] = {0, out.address()};
  std::atomic<bool> cancel = false;
  std::thread stopper([&] {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (out.words()[0] != 1 && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    cancel = true;
  });
  WorkerPool pool(0);
  LaunchRequest request;
  request.kernel = (*module)->FindKernel("test");
  request.block = {200, 1, 1};
  request.params = std::as_bytes(std::span(params));
  request.cancel = &cancel;
  const Fault fault = softgpu::Run(request, pool);
  stopper.join();
  EXPECT_EQ(fault.kind, FaultKind::kCancelled) << fault.text;
}

TEST(Scheduling, ImpossibleLaunchesAreRefused) {
  TestPlacer placer;
  auto module = Module::Load(kEndless, placer, nullptr);
  ASSERT_TRUE(module.ok());
  WorkerPool pool(0);
  LaunchRequest request;
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kInvalidLaunch);
  request.kernel = (*module)->FindKernel("test");
  const uint64_t params[] = {0, 0};
  request.params = std::as_bytes(std::span(params)).first(12);
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kInvalidLaunch) << "parameters too short";
  request.params = std::as_bytes(std::span(params));
  request.block = {1025, 1, 1};
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kInvalidLaunch);
  request.block = {65536, 65536, 1};
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kInvalidLaunch);
  request.block = {0, 1, 1};
  EXPECT_EQ(softgpu::Run(request, pool).kind, FaultKind::kInvalidLaunch);
}

}  // namespace
}  // namespace farwarp::softgpu
