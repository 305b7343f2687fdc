// Loading a large module reads the heads of its functions only; bodies are read one by one, when a
// kernel is prepared. Counts are asserted, the time is printed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "tests/bench/large_ptx.h"
#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

TEST(Lazy, ALargeModuleIsOnlyIndexed) {
  const std::string text = bench::LibrarySizedPtx();
  ASSERT_GT(text.size(), 38u << 20);
  TestPlacer placer;
  const auto start = std::chrono::steady_clock::now();
  auto module = Module::Load(text, placer, nullptr);
  const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(module.ok()) << module.status().message();
  std::printf("%zu bytes indexed in %.1f ms\n", text.size(), passed.count());
  EXPECT_EQ((*module)->kernels().size(), 1265u);
  EXPECT_EQ((*module)->bodies_read(), 0u);
  const auto asked = std::chrono::steady_clock::now();
  for (const Kernel* kernel : (*module)->kernels()) {
    ASSERT_TRUE(kernel->Measure().ok());
    ASSERT_EQ(kernel->info().registers, CompiledRegisters(kernel->info(), 72));
  }
  const std::chrono::duration<double, std::milli> measured =
      std::chrono::steady_clock::now() - asked;
  std::printf("all kernels measured in %.1f ms\n", measured.count());
  EXPECT_EQ((*module)->bodies_read(), 0u);
  const Kernel* kernel = (*module)->FindKernel("k700");
  ASSERT_NE(kernel, nullptr);
  ASSERT_TRUE(kernel->Prepare().ok()) << kernel->Prepare().message();
  EXPECT_EQ((*module)->bodies_read(), 1u);
  const DeviceWords in(4, 0);
  const DeviceWords out(16, kPoison);
  ASSERT_TRUE(RunWithDeadline(*kernel, {}, {}, 0, in, out).ok());
  EXPECT_EQ((*module)->bodies_read(), 1u);
}

TEST(Lazy, ALargeKernelIsPreparedOnce) {
  const std::string text = bench::LargePtx(1, 30000);
  TestPlacer placer;
  auto module = Module::Load(text, placer, nullptr);
  ASSERT_TRUE(module.ok()) << module.status().message();
  const Kernel* kernel = (*module)->FindKernel("k0");
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(kernel->Prepare().ok()) << kernel->Prepare().message();
  const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
  std::printf("30000 instructions prepared in %.1f ms\n", passed.count());
  EXPECT_TRUE(kernel->Prepare().ok());
  EXPECT_EQ((*module)->bodies_read(), 1u);
}

}  // namespace
}  // namespace farwarp::softgpu
