// PTX that no compiler writes: refused with an error, never believed.
#include <string>

#include "gtest/gtest.h"
#include "server/softgpu/exec/module.h"
#include "server/softgpu/memory/address_space.h"

namespace farwarp::softgpu {
namespace {

class Placer : public GlobalPlacer {
 public:
  Result<uint64_t> Place(uint64_t bytes, uint64_t align, bool) override {
    auto space = AddressSpace::Get();
    if (!space.ok()) return space.status();
    const uint64_t whole =
        (bytes + AddressSpace::kPage - 1) / AddressSpace::kPage * AddressSpace::kPage;
    auto address = (*space)->Reserve(whole, std::max<uint64_t>(align, AddressSpace::kPage));
    if (!address.ok()) return address.status();
    if (const Status status = (*space)->Commit(*address, whole); !status.ok()) return status;
    return *address;
  }
};

const std::string kHead = ".version 9.0\n.target sm_90\n.address_size 64\n";

// What loading the module and preparing its first kernel says; empty if nothing is wrong.
std::string ErrorOf(const std::string& text) {
  Placer placer;
  auto module = Module::Load(kHead + text, placer, nullptr);
  if (!module.ok()) return module.status().message();
  if ((*module)->kernels().empty()) return "no kernel";
  const Status status = (*module)->kernels()[0]->Prepare();
  return status.ok() ? "" : status.message();
}

std::string Body(const std::string& code) {
  return ".visible .entry k(.param .u64 p)\n{\n.reg .pred %p<4>;\n.reg .b16 %h<4>;\n"
         ".reg .b32 %r<8>;\n.reg .b64 %rd<8>;\n.reg .b128 %q<4>;\n.reg .f64 %fd<4>;\n" +
         code + "\nret;\n}\n";
}

TEST(HostilePtx, TheFrameOfTheTestsIsLegal) {
  EXPECT_EQ(ErrorOf(Body("ld.param.u64 %rd1, [p];")), "");
}

TEST(HostilePtx, AnInstructionThatIsRefusedIsNoTargetOfLabels) {
  EXPECT_NE(ErrorOf(Body("L: bra L x;")), "");
  EXPECT_NE(ErrorOf(".visible .entry k()\n{\nL: bra L x\n}\n"), "");
}

TEST(HostilePtx, OperandsNestOnlySoDeep) {
  EXPECT_NE(ErrorOf(Body("mov.b64 %rd1, " + std::string(1 << 20, '{') + ";")), "");
  std::string coordinates;
  for (int i = 0; i < 1 << 18; ++i) coordinates += "[%rd1, ";
  EXPECT_NE(ErrorOf(Body("ld.global.b32 %r1, " + coordinates + ";")), "");
  EXPECT_NE(ErrorOf(Body("ld.global.b32 %r1, [%rd1, {%r2}];")), "");
  EXPECT_NE(ErrorOf(Body("suld.b.2d.b32.trap %r1, [%rd1, {%r2, [%rd1, {%r2, %r2}]}];")), "");
  EXPECT_NE(ErrorOf(Body("suld.b.2d.v4.b64.trap {%rd1, %rd1, %rd1, %rd1}, [%rd1, {%r2, %r2}];")),
            "");
  EXPECT_NE(ErrorOf(Body("suld.b.1d.b32.trap %r1, [%rd1, {%r2, %r2}];")), "");
  EXPECT_NE(ErrorOf(Body("suld.b.1d.b32.trap %r1, [%r1, {%r2}];")), "");
  EXPECT_NE(ErrorOf(Body("sured.b.1d.b32.trap [%rd1, {%r2}], %r1;")), "");
  EXPECT_NE(ErrorOf(Body("tex.2d.v4.s32.s32 {%r1, %r1, %r1}, [%rd1, {%r2, %r2}];")), "");
  EXPECT_NE(ErrorOf(Body("tex.2d.v4.s32.s32 {%r1, %r1, %r1, %r1}, [%rd1];")), "");
  EXPECT_EQ(ErrorOf(Body("tex.2d.v4.s32.s32 {%r1, %r1, %r1, %r1}, [%rd1, {%r2, %r2}];")), "");
  std::string pairs;
  for (int i = 0; i < 1 << 18; ++i) pairs += "%p1|";
  EXPECT_NE(ErrorOf(Body("setp.eq.u32 " + pairs + "%p1, %r1, %r2;")), "");
}

TEST(HostilePtx, MissingOperandsAreFound) {
  for (const char* code :
       {"bar.warp.sync;", "bar.warp.sync 1, 2;", "atom.global.add.u32 %r1, [%rd1];",
        "atom.global.cas.b32 %r1, [%rd1], %r2;", "red.global.cas.b32 [%rd1], %r2;",
        "bar.red.popc.u32 %r1, 0;", "testp.finite.f64 %p1;"}) {
    EXPECT_NE(ErrorOf(Body(code)), "") << code;
  }
}

TEST(HostilePtx, LoadsStayInTheKernelsParameters) {
  EXPECT_NE(ErrorOf(Body("ld.param.u64 %rd1, [p+8];")), "");
  EXPECT_NE(ErrorOf(Body("ld.param.v2.u64 {%rd1, %rd2}, [p];")), "");
  EXPECT_NE(ErrorOf(Body("ld.param.u64 %rd1, [p+0x7fffffff00000000];")), "");
  EXPECT_NE(ErrorOf(Body("ld.param.u64 %rd1, [p+-8];")), "");
}

TEST(HostilePtx, ParametersHaveALimit) {
  EXPECT_NE(ErrorOf(".visible .entry k(.param .b8 a[4294967296])\n{\nret;\n}\n"), "");
  EXPECT_NE(ErrorOf(".visible .entry k(.param .b8 a[32765])\n{\nret;\n}\n"), "");
  EXPECT_EQ(ErrorOf(".visible .entry k(.param .b8 a[32764])\n{\nret;\n}\n"), "");
}

TEST(HostilePtx, AlignmentsAreNeitherZeroNorHuge) {
  // Division by the alignment.
  EXPECT_EQ(ErrorOf(".visible .entry k(.param .align 0 .b8 a[4])\n{\nret;\n}\n"), "");
  ErrorOf(".visible .entry k(.param .align 0 .pred a)\n{\nret;\n}\n");
  EXPECT_NE(ErrorOf(".global .align 1099511627776 .b8 x[4];\n" + Body("")), "");
}

TEST(HostilePtx, AVariableHasOneSize) {
  EXPECT_NE(ErrorOf(".global .b8 x[70000] = {1, 2};\n.global .b8 x[1];\n" + Body("")), "");
}

TEST(HostilePtx, AWideSinkHasRoom) {
  EXPECT_EQ(ErrorOf(Body("mov.b128 _, {%rd1, %rd2};")), "");
}

TEST(HostilePtx, StoresOfConstantsHaveTheWidthOfTheirNeighbours) {
  EXPECT_NE(ErrorOf(Body("st.global.v2.b32 [%rd1], {%rd2, 5};")), "");
  EXPECT_EQ(ErrorOf(Body("st.global.v2.b32 [%rd1], {%r2, 5};")), "");
}

TEST(HostilePtx, AFunctionThatFailedOnceFailsAgain) {
  const std::string text = ".func f()\n{\n.reg .b32 %r<2>;\nbra NOWHERE;\n}\n" + Body("call f;") +
                           ".visible .entry second()\n{\ncall f;\nret;\n}\n";
  Placer placer;
  auto module = Module::Load(kHead + text, placer, nullptr);
  ASSERT_TRUE(module.ok()) << module.status().message();
  ASSERT_EQ((*module)->kernels().size(), 2u);
  EXPECT_FALSE((*module)->kernels()[0]->Prepare().ok());
  EXPECT_FALSE((*module)->kernels()[1]->Prepare().ok());
}

TEST(HostilePtx, LocalMemoryThatIsTooLargeIsRefusedBeforeItIsUsed) {
  EXPECT_NE(ErrorOf(Body(".local .b8 a[4000000];\n.local .b8 b[4];\n"
                         "mov.u64 %rd1, b;\nst.local.b32 [b], %r1;")),
            "");
}

}  // namespace
}  // namespace farwarp::softgpu
