// What is known of a kernel before its body is read, and that reading it changes none of it.
#include <gtest/gtest.h>

#include <string>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

struct Figures {
  uint32_t registers, shared;
  uint64_t local;
  bool operator==(const Figures&) const = default;
};

Figures FiguresOf(const Kernel& kernel) {
  return {kernel.info().registers, kernel.info().static_shared_bytes, kernel.info().local_bytes};
}

// Measures the kernel `k` of a module, and expects the same figures of it when it is prepared, or
// when it is prepared at once. `bodies` is how many bodies measuring may read.
void ExpectFigures(const std::string& text, const Figures& expected, size_t bodies) {
  const std::string whole = ".version 8.0\n.target sm_80\n.address_size 64\n" + text;
  TestPlacer placer;
  auto measured = Module::Load(whole, placer, nullptr);
  ASSERT_TRUE(measured.ok()) << measured.status().message();
  const Kernel* kernel = (*measured)->FindKernel("k");
  ASSERT_NE(kernel, nullptr);
  ASSERT_TRUE(kernel->Measure().ok()) << kernel->Measure().message();
  EXPECT_EQ((*measured)->bodies_read(), bodies) << text;
  const Figures before = FiguresOf(*kernel);
  EXPECT_EQ(before.registers, expected.registers) << text;
  EXPECT_EQ(before.shared, expected.shared) << text;
  EXPECT_EQ(before.local, expected.local) << text;
  ASSERT_TRUE(kernel->Prepare().ok()) << kernel->Prepare().message();
  EXPECT_EQ(FiguresOf(*kernel), before) << text;
  auto prepared = Module::Load(whole, placer, nullptr);
  ASSERT_TRUE(prepared.ok());
  const Kernel* other = (*prepared)->FindKernel("k");
  ASSERT_TRUE(other->Prepare().ok());
  EXPECT_EQ(FiguresOf(*other), before) << text;
}

TEST(Scan, DeclarationsTellWhatAKernelTakes) {
  ExpectFigures(R"(
.visible .entry k() {
  .local .align 8 .b8 depot[20];  // A declaration in a comment: .shared .b8 no[100];
  .reg .b64 %rd<4>; .reg .pred %p<3>;
  .reg .b32 %r<9>, %x;
  .shared .align 4 .b8 a[6];
  .shared .align 16 .b8 b[10];
  .shared .b8 c[3];
  {.shared .u16 d;
   .reg .f64 %fd; }
  st.shared.u32 [a], %r1;
  ld.local.u32 %r2, [depot];
  ret;
}
)",
                {8 + 3 + 10 + 2, 32, 32}, 0);
}

TEST(Scan, AKernelWithoutDeclarations) {
  ExpectFigures(".visible .entry k() { ret; }\n", {8, 0, 0}, 0);
}

TEST(Scan, DynamicSharedMemoryIsNoneOfTheKernels) {
  ExpectFigures(R"(
.extern .shared .align 16 .b8 dynamic[];
.visible .entry k() {
  .reg .b32 %r<9>;
  .shared .align 4 .b8 a[32];
  st.shared.u32 [dynamic], %r1;
  st.shared.u32 [a], %r1;
  ret;
}
)",
                {9, 32, 0}, 0);
}

// Here only the body can tell.
TEST(Scan, SharedMemoryOutsideOfTheBodyTakesTheBody) {
  ExpectFigures(R"(
.shared .align 4 .b8 used[40];
.shared .align 4 .b8 unused[400];
.visible .entry k() {
  .reg .b32 %r<9>;
  st.shared.u32 [used], %r1;
  ret;
}
)",
                {9, 40, 0}, 1);
  ExpectFigures(R"(
.func f() {
  .shared .align 4 .b8 own[8];
  st.shared.u32 [own], 1;
  ret;
}
.visible .entry k() {
  .reg .b32 %r<9>;
  call f;
  ret;
}
)",
                {9, 8, 0}, 2);
}

TEST(Scan, TextThatIsHardToScanTakesTheBody) {
  ExpectFigures(R"(
.visible .entry k() {
  /* .shared .b8 no[100]; */
  .reg .b32 %r<9>;
  .shared .align 4 .b8 a[32];
  st.shared.u32 [a], %r1;
  ret;
}
)",
                {9, 32, 0}, 1);
}

}  // namespace
}  // namespace farwarp::softgpu
