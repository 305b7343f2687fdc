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

// A kernel can always run with the threads that it is bound to, so occupancy is never 0 for them.
TEST(Scan, RegistersFitTheBoundThreads) {
  const std::string body = "{ .reg .b32 %r<900>; ret; }\n";
  ExpectFigures(".visible .entry k() " + body, {64, 0, 0}, 0);
  ExpectFigures(".visible .entry k() .maxntid 384, 1, 1 " + body, {168, 0, 0}, 0);
  ExpectFigures(".visible .entry k() .reqntid 8, 8, 2 " + body, {255, 0, 0}, 0);
  ExpectFigures(".visible .entry k() .maxntid 128 .minnctapersm 8 " + body, {64, 0, 0}, 0);
  ExpectFigures(".visible .entry k() .maxntid 1024 .minnctapersm 4294967295 " + body, {8, 0, 0}, 0);
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

TEST(Scan, AnySpaceAndNoSpaceSeparate) {
  ExpectFigures(
      ".visible .entry k() {\v.reg .b32 %r<9>;\f.shared .b8 a[3];.shared .b8 b[2];\r\n"
      "label:.local .b8 c[4];\n{.shared .b8 d;}\n st.shared.u8 [a], 1; ret; }\n",
      {9, 6, 16}, 0);
}

// A scan that trusted the last line would count what is text.
TEST(Scan, TextBehindQuotesTakesTheBody) {
  ExpectFigures(R"(
.visible .entry k() {
  .reg .b32 %r<9>;
  .pragma "nounroll"; .shared .b8 a[4];
  .pragma ".shared .b8 no[100];";
  st.shared.u32 [a], %r1;
  ret;
}
)",
                {9, 4, 0}, 1);
}

TEST(Scan, UnsizedMemoryInTheBodyTakesTheBody) {
  ExpectFigures(R"(
.visible .entry k() {
  .reg .b32 %r<9>;
  .shared .b8 a[3];
  .shared .align 16 .b8 dynamic[];
  st.shared.u32 [dynamic], %r1;
  ret;
}
)",
                {9, 16, 0}, 1);
}

// What is more than a kernel may have is refused when it is asked for, as it ever was, and the
// figures are no numbers to compute with.
TEST(Scan, TooMuchIsRefusedWhereItStands) {
  const auto refused = [](const std::string& declaration) {
    const std::string text =
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() {\n" + declaration +
        "\nret;\n}\n";
    TestPlacer placer;
    auto module = Module::Load(text, placer, nullptr);
    EXPECT_TRUE(module.ok()) << declaration;
    if (!module.ok()) return std::string();
    const Status status = (*module)->FindKernel("k")->Measure();
    EXPECT_FALSE(status.ok()) << declaration;
    EXPECT_EQ((*module)->FindKernel("k")->Prepare().message(), status.message());
    return status.message();
  };
  for (const char* declaration :
       {".shared .b8 a[1048577];", ".shared .b8 a[3000000000];", ".local .b8 a[524289];",
        ".shared .b8 a[4294967296][4294967296];", ".reg .b32 %r<1048577>;",
        ".reg .b32 %r<1048576>, %s;", ".reg %r<3>;", ".shared .b8 a[4]", ".local a[4];"}) {
    const std::string message = refused(declaration);
    EXPECT_EQ(message.rfind("ptx:", 0), 0u) << declaration << ": " << message;
  }
}

// Texts that make the same bytes be looked at again and again would take hours.
TEST(Scan, NoTextTakesLong) {
  constexpr size_t kBytes = size_t{8} << 20;
  const auto repeat = [](std::string_view part) {
    std::string text;
    while (text.size() < kBytes) text += part;
    return text;
  };
  for (const std::string& body :
       {repeat(".reg .b32 a;\n"), repeat(".reg .b32 a;"), repeat(".local "),
        repeat(".shared .b8 a,"), repeat(".shared .b8 a[1] = {1};\n"), repeat("//.shared\n"),
        repeat("a:.reg"), repeat("ld.shared.b32 a, b;"), repeat(".pragma \"x\";\n.local"),
        ".shared .b8 a[1] = " + std::string(kBytes, '{')}) {
    TestPlacer placer;
    std::string text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() {\n";
    text.append(body).append("\nret;\n}\n");
    auto module = Module::Load(text, placer, nullptr);
    if (!module.ok()) continue;
    // Whether it can be told is another matter.
    static_cast<void>((*module)->FindKernel("k")->Measure());
  }
}

}  // namespace
}  // namespace farwarp::softgpu
