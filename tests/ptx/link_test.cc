// Modules out of several texts: whose definition counts, what stays private, what is an error.
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

const std::string kHead = ".version 7.8\n.target sm_80\n.address_size 64\n";

// An entry that stores, one word after the other, what the functions named return.
std::string Caller(std::initializer_list<const char*> functions) {
  std::string text = kHead;
  for (const char* name : functions)
    text += std::string(".extern .func (.param .b32 r) ") + name + "();\n";
  text +=
      ".visible .entry test(.param .u64 in, .param .u64 out) {\n"
      "  .reg .b64 %rd<2>;\n  .reg .b32 %r<2>;\n  ld.param.u64 %rd1, [out];\n";
  int offset = 0;
  for (const char* name : functions) {
    text += std::string("  { .param .b32 got;\n  call (got), ") + name +
            ", ();\n  ld.param.b32 %r1, [got];\n  st.global.u32 [%rd1+" + std::to_string(offset) +
            "], %r1; }\n";
    offset += 4;
  }
  return text + "  ret;\n}\n";
}

std::string Returns(const std::string& linkage, const std::string& name, const std::string& value) {
  return linkage + " .func (.param .b32 r) " + name +
         "() {\n  .reg .b32 %r<2>;\n  .reg .b64 %rd<2>;\n  " +
         (value[0] == '[' ? "ld.global.u32 %r1, " : "mov.u32 %r1, ") + value +
         ";\n  st.param.b32 [r], %r1;\n  ret;\n}\n";
}

// Links a caller with two more texts and checks what it stores; "" or the error.
std::string LinkAndRun(const std::string& caller, const std::string& b, const std::string& c,
                       std::initializer_list<uint32_t> expected) {
  TestPlacer placer;
  const LinkInput inputs[] = {{"a.ptx", caller}, {"b.ptx", b}, {"c.ptx", c}};
  JitLog log;
  auto module = Module::Link(inputs, placer, &log);
  if (!module.ok()) return log.error;
  const Kernel* kernel = (*module)->FindKernel("test");
  if (kernel == nullptr) return "no kernel";
  if (Status ready = kernel->Prepare(); !ready.ok()) return ready.message();
  const DeviceWords in(4, 0);
  const DeviceWords out(16, kPoison);
  const Fault fault = RunWithDeadline(*kernel, {}, {}, 0, in, out);
  EXPECT_TRUE(fault.ok()) << fault.text;
  size_t k = 0;
  for (const uint32_t word : expected) EXPECT_EQ(out.words()[k++], word) << "word " << k - 1;
  return "";
}

TEST(Link, CallsAndVariablesCrossTexts) {
  const std::string b =
      kHead + ".visible .global .u32 shared_word = 41;\n" + Returns(".visible", "from_b", "7");
  const std::string c = kHead + ".extern .global .u32 shared_word;\n" +
                        Returns(".visible", "from_c", "[shared_word]");
  EXPECT_EQ(LinkAndRun(Caller({"from_b", "from_c"}), b, c, {7, 41}), "");
}

TEST(Link, UnusedTextsMayLackWhatTheyUse) {
  const std::string lacking = kHead + ".extern .func (.param .b32 r) nowhere();\n" +
                              ".visible .func (.param .b32 r) unused() {\n"
                              "  { .param .b32 got;\n  call (got), nowhere, (); }\n  ret;\n}\n";
  const std::string b = kHead + Returns(".visible", "from_b", "7");
  EXPECT_EQ(LinkAndRun(Caller({"from_b"}), b, lacking, {7}), "");
  EXPECT_EQ(LinkAndRun(Caller({"from_b", "unused"}), b, lacking, {}),
            "Undefined reference to 'nowhere' in 'c.ptx'");
  // A text that uses it and is not used itself is no library's member.
  const std::string user = kHead + ".extern .func (.param .b32 r) unused();\n" +
                           ".visible .func (.param .b32 r) from_b() {\n"
                           "  { .param .b32 got;\n  call (got), unused, (); }\n  ret;\n}\n";
  EXPECT_EQ(LinkAndRun(Caller({}), user, lacking, {}),
            "Undefined reference to 'nowhere' in 'c.ptx'");
}

TEST(Link, NamesWithoutLinkageArePrivate) {
  const std::string b = kHead + ".global .u32 own = 5;\n" + Returns(".visible", "from_b", "[own]");
  const std::string c = kHead + ".global .u32 own = 6;\n" + Returns(".visible", "from_c", "[own]");
  EXPECT_EQ(LinkAndRun(Caller({"from_b", "from_c"}), b, c, {5, 6}), "");
}

TEST(Link, AStrongDefinitionWinsOverAWeakOneInAnyOrder) {
  const std::string weak = kHead + Returns(".weak", "chosen", "1");
  const std::string strong = kHead + Returns(".visible", "chosen", "2");
  EXPECT_EQ(LinkAndRun(Caller({"chosen"}), weak, strong, {2}), "");
  EXPECT_EQ(LinkAndRun(Caller({"chosen"}), strong, weak, {2}), "");
}

TEST(Link, OfWeakDefinitionsTheFirstIsKept) {
  const std::string b = kHead + Returns(".weak", "chosen", "1");
  const std::string c = kHead + Returns(".weak", "chosen", "2");
  EXPECT_EQ(LinkAndRun(Caller({"chosen"}), b, c, {1}), "");
}

TEST(Link, ACommonVariableYieldsToADefinition) {
  const std::string b = kHead + ".common .global .u32 word;\n" + Returns(".visible", "f", "[word]");
  const std::string c = kHead + ".visible .global .u32 word = 9;\n";
  EXPECT_EQ(LinkAndRun(Caller({"f"}), b, c, {9}), "");
}

TEST(Link, ErrorsNameSymbolAndText) {
  const std::string f = kHead + Returns(".visible", "f", "1");
  const std::string twice = LinkAndRun(Caller({"f"}), f, f, {});
  EXPECT_NE(twice.find("Multiple definition of 'f'"), std::string::npos) << twice;
  EXPECT_NE(twice.find("'b.ptx'"), std::string::npos) << twice;
  EXPECT_NE(twice.find("c.ptx: ptx:"), std::string::npos) << twice;
  EXPECT_EQ(LinkAndRun(Caller({"f", "missing"}), f, kHead, {}),
            "Undefined reference to 'missing' in 'a.ptx'");
  const std::string size = LinkAndRun(Caller({"f"}), f + ".visible .global .u32 word;\n",
                                      kHead + ".extern .global .u64 word;\n", {});
  EXPECT_NE(size.find("doesn't match for 'word'"), std::string::npos) << size;
}

TEST(Link, AnUnusedDeclarationIsNoReference) {
  const std::string b = kHead + ".extern .func nobody();\n" + Returns(".visible", "f", "3");
  EXPECT_EQ(LinkAndRun(Caller({"f"}), b, kHead, {3}), "");
}

}  // namespace
}  // namespace farwarp::softgpu
