// Forward progress and order: what must not hang, what must hang no longer than it is allowed to,
// and results that must not depend on who runs when. Each under the usual schedule and random ones.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

const std::string kHead = R"(
.version 7.8
.target sm_80
.address_size 64
.visible .entry test(.param .u64 in, .param .u64 out) {
  .reg .pred %p<4>;
  .reg .b32 %r<10>;
  .reg .b64 %rd<10>;
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %ctaid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.u64 %rd4, %rd2, %rd3;
)";

struct Options {
  Dim3 grid;
  Dim3 block;
  uint64_t seed = 0;
  unsigned threads = 0;
  bool cooperative = false;
  std::chrono::milliseconds time_limit{120000};
};

Fault RunBody(const std::string& text, const DeviceWords& in, const DeviceWords& out,
              const Options& options) {
  TestPlacer placer;
  auto module = Module::Load(text, placer, nullptr);
  if (!module.ok()) {
    ADD_FAILURE() << module.status().message();
    return {};
  }
  const uint64_t params[] = {in.address(), out.address()};
  WorkerPool pool(options.threads);
  LaunchRequest request;
  request.kernel = (*module)->FindKernel("test");
  request.grid = options.grid;
  request.block = options.block;
  request.params = std::as_bytes(std::span(params));
  request.cooperative = options.cooperative;
  request.schedule_seed = options.seed;
  request.time_limit = options.time_limit;
  return Run(request, pool);
}

constexpr uint64_t kSeeds[] = {0, 1, 2, 3, 17, 1234567};

// Every thread of a block takes one lock, one after the other.
TEST(Progress, LanesOfOneWarpTakeALockInTurn) {
  const std::string text = kHead + R"(
again:
  atom.global.cas.b32 %r2, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra again;
  ld.volatile.global.u32 %r3, [%rd2];
  add.u32 %r3, %r3, 1;
  st.volatile.global.u32 [%rd2], %r3;
  membar.gl;
  atom.global.exch.b32 %r4, [%rd1], 0;
  ret;
})";
  for (const uint64_t seed : kSeeds) {
    const DeviceWords in(1, 0), out(1, 0);
    const Fault fault = RunBody(text, in, out, {{4, 1, 1}, {70, 1, 1}, seed, 1});
    EXPECT_TRUE(fault.ok()) << fault.text << ", seed " << seed;
    EXPECT_EQ(out.words()[0], 280u) << "seed " << seed;
  }
}

// Block i waits for block i - 1, as scans with look-back do; far more blocks than threads.
TEST(Progress, BlocksWaitForEarlierOnes) {
  const std::string text = kHead + R"(
  mov.u32 %r5, 1;
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra store;
again:
  ld.acquire.gpu.global.u32 %r5, [%rd4-4];
  setp.eq.u32 %p2, %r5, 0;
  @%p2 bra again;
  add.u32 %r5, %r5, 1;
store:
  st.release.gpu.global.u32 [%rd4], %r5;
  ret;
})";
  for (const uint64_t seed : kSeeds) {
    for (const unsigned threads : {0u, 2u}) {
      const DeviceWords in(1, 0), out(200, 0);
      const Fault fault = RunBody(text, in, out, {{200, 1, 1}, {1, 1, 1}, seed, threads});
      EXPECT_TRUE(fault.ok()) << fault.text << ", seed " << seed;
      for (uint32_t i = 0; i < 200; ++i) ASSERT_EQ(out.words()[i], i + 1) << "seed " << seed;
    }
  }
}

// All blocks of a cooperative launch meet, twice, on however few threads.
TEST(Progress, BlocksOfACooperativeLaunchMeet) {
  const std::string text = kHead + R"(
  mov.u32 %r6, %nctaid.x;
  mov.u32 %r7, 0;
phase:
  add.u32 %r7, %r7, %r6;
  atom.global.add.u32 %r2, [%rd1], 1;
again:
  ld.acquire.gpu.global.u32 %r3, [%rd1];
  setp.lt.u32 %p1, %r3, %r7;
  @%p1 bra again;
  mul.lo.u32 %r8, %r6, 2;
  setp.lt.u32 %p2, %r7, %r8;
  @%p2 bra phase;
  st.global.u32 [%rd4], %r3;
  ret;
})";
  for (const uint64_t seed : kSeeds) {
    for (const unsigned threads : {0u, 2u}) {
      const DeviceWords in(1, 0), out(100, 0);
      const Fault fault = RunBody(text, in, out, {{100, 1, 1}, {1, 1, 1}, seed, threads, true});
      EXPECT_TRUE(fault.ok()) << fault.text << ", seed " << seed;
      for (uint32_t i = 0; i < 100; ++i) ASSERT_EQ(out.words()[i], 200u) << "seed " << seed;
    }
  }
}

TEST(Progress, TheWatchdogEndsWhatRunsTooLong) {
  const std::string text = kHead + "again:\n  bra again;\n}";
  for (const uint64_t seed : {uint64_t{0}, uint64_t{5}}) {
    const DeviceWords in(1, 0), out(1, 0);
    Options options{{3, 1, 1}, {40, 1, 1}, seed, 1};
    options.time_limit = std::chrono::milliseconds(30);
    const Fault fault = RunBody(text, in, out, options);
    EXPECT_EQ(fault.kind, FaultKind::kTimeout);
    EXPECT_NE(fault.text.find("kernel test ran longer than 30 ms"), std::string::npos)
        << fault.text;
    EXPECT_NE(fault.text.find("ptx line"), std::string::npos) << fault.text;
  }
}

// One warp computes without an end while the others wait for it: its block must still be left.
TEST(Progress, TheWatchdogSeesABlockWhoseWarpsDiffer) {
  const std::string text = kHead + R"(
  mov.u32 %r2, %tid.x;
  setp.ge.u32 %p1, %r2, 32;
  @%p1 bra meet;
again:
  bar.sync 1, 64;
  add.u32 %r3, %r3, 1;
  bra again;
meet:
  setp.ge.u32 %p1, %r2, 64;
  @%p1 bra other;
  bra again;
other:
  add.u32 %r3, %r3, 1;
  bra other;
})";
  const DeviceWords in(1, 0), out(1, 0);
  Options options{{1, 1, 1}, {96, 1, 1}};
  options.time_limit = std::chrono::milliseconds(30);
  EXPECT_EQ(RunBody(text, in, out, options).kind, FaultKind::kTimeout);
}

// Registers of nested calls: 8 MiB for each call of one warp, a depth that only the sum forbids.
TEST(Progress, RegistersOfNestedCallsAreBounded) {
  const std::string text = R"(
.version 7.8
.target sm_80
.address_size 64
.func forever() {
  .reg .b64 %rd<32000>;
  mov.u64 %rd31999, 1;
  call.uni forever, ();
  ret;
}
.visible .entry test(.param .u64 in, .param .u64 out) {
  call.uni forever, ();
  ret;
})";
  const DeviceWords in(1, 0), out(1, 0);
  const Fault fault = RunBody(text, in, out, {{1, 1, 1}, {1024, 1, 1}});
  EXPECT_EQ(fault.kind, FaultKind::kStackOverflow) << fault.text;
}

}  // namespace
}  // namespace farwarp::softgpu
