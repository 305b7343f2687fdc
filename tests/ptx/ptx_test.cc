// Runs every file in cases/ and compares what it left in memory with what the file says.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "server/softgpu/warp/decoded.h"
#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

constexpr size_t kMargin = 16;  // Words behind the results that must stay as they were.

std::vector<std::string> CasePaths() {
  std::vector<std::string> paths;
  for (const char* folder : {FARWARP_PTX_CASES, FARWARP_PTX_GENERATED_CASES}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".ptx") paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

class PtxCase : public testing::TestWithParam<std::string> {};

// What was told before the body was read is what the body takes.
void ExpectScanAgrees(const Kernel& kernel) {
  const DecodedKernel& decoded = *kernel.decoded();
  EXPECT_EQ(kernel.info().static_shared_bytes, decoded.static_shared_bytes);
  EXPECT_EQ(kernel.info().registers, CompiledRegisters(kernel.info(), decoded.registers));
  EXPECT_EQ(kernel.info().local_bytes, decoded.local_bytes);
}

// Loads the case and, unless it is to be refused, runs it and compares.
void RunCase(const std::string& path, uint64_t seed) {
  const CaseFile c = ReadCase(path);
  ASSERT_EQ(c.problem, "");
  TestPlacer placer;
  JitLog log;
  auto module = Module::Load(c.ptx, placer, &log);
  Status prepared = module.ok() ? Status::Ok() : module.status();
  const Kernel* kernel = module.ok() ? (*module)->FindKernel("test") : nullptr;
  if (module.ok()) {
    ASSERT_NE(kernel, nullptr) << "the entry is called test";
    prepared = kernel->Prepare();
  }
  if (c.refused) {
    ASSERT_FALSE(prepared.ok());
    EXPECT_NE(prepared.message().find(c.text), std::string::npos) << prepared.message();
    return;
  }
  ASSERT_TRUE(prepared.ok()) << prepared.message();
  ExpectScanAgrees(*kernel);

  const DeviceWords in(c.in.size() + 1, 0);
  const DeviceWords out(c.out.size() + kMargin, kPoison);
  ASSERT_NE(in.address(), 0u);
  ASSERT_NE(out.address(), 0u);
  for (size_t i = 0; i < c.in.size(); ++i) in.words()[i] = c.in[i];
  const BoundTextures textures(c.textures);
  std::unique_ptr<DeviceWords> memory;
  DeviceHeap heap(
      c.heap_bytes,
      [&](uint64_t bytes) {
        memory = std::make_unique<DeviceWords>(bytes / 4, kPoison);
        return memory->address();
      },
      [](uint64_t, uint64_t) {});
  const Fault fault =
      RunWithDeadline(*kernel, c.grid, c.block, c.shared_bytes, in, out, seed, &heap);
  ASSERT_EQ(std::string(FaultKindName(fault.kind)), c.fault.empty() ? "none" : c.fault)
      << fault.text;
  EXPECT_NE(fault.text.find(c.text), std::string::npos) << fault.text;
  if (!c.fault.empty()) EXPECT_EQ(fault.kernel, "test");
  int shown = 0;
  for (size_t i = 0; i < c.out.size() && shown < 20; ++i) {
    const std::string difference = CompareWord(c.out[i], out.words()[i]);
    if (difference.empty()) continue;
    ++shown;
    ADD_FAILURE() << "word " << i << ": " << difference;
  }
  for (size_t i = c.out.size(); i < c.out.size() + kMargin; ++i)
    ASSERT_EQ(out.words()[i], kPoison) << "word " << i << " was overwritten";
}

TEST_P(PtxCase, LeavesWhatItsFileSays) {
  RunCase(GetParam(), 0);
}

// Control flow, barriers, atomics and collectives must not depend on who runs when.
TEST_P(PtxCase, DoesNotDependOnTheSchedule) {
  const std::string name = std::filesystem::path(GetParam()).stem().string();
  // Which of several threads is reported differs from schedule to schedule.
  if (ReadCase(GetParam()).usual_schedule_only) return;
  if (name.starts_with("fault_") || name.starts_with("deadlock_")) return;
  for (const uint64_t seed : {1u, 2u, 3u, 42u, 65537u}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RunCase(GetParam(), seed);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, PtxCase, testing::ValuesIn(CasePaths()), [](const auto& info) {
  return std::filesystem::path(info.param).stem().string();
});

}  // namespace
}  // namespace farwarp::softgpu
