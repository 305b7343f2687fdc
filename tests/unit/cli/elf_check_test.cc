// Recognition of statically linked CUDA runtimes, on made files, damaged files and nvcc's output.
#include "client/cli/elf_check.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace farwarp::cli {
namespace {

// A minimal ELF file: names, strings, a dynamic section and a section called `kernels`.
std::string MakeElf(const std::string& kernels, const std::vector<std::string>& needed) {
  std::string names = std::string("\0.shstrtab\0.dynstr\0.dynamic\0", 28) + kernels + '\0';
  std::string strings(1, '\0');
  std::vector<Elf64_Dyn> dynamic;
  for (const std::string& library : needed) {
    dynamic.push_back({DT_NEEDED, {strings.size()}});
    strings += library + '\0';
  }
  dynamic.push_back({DT_STRTAB, {0x1000}});
  dynamic.push_back({DT_NULL, {0}});

  std::string file(sizeof(Elf64_Ehdr), '\0');
  std::vector<Elf64_Shdr> sections(5);
  const auto add = [&](std::size_t index, std::uint32_t name, std::uint32_t type, const void* data,
                       std::size_t bytes) {
    sections[index].sh_name = name;
    sections[index].sh_type = type;
    sections[index].sh_offset = file.size();
    sections[index].sh_size = bytes;
    file.append(static_cast<const char*>(data), bytes);
  };
  add(1, 1, SHT_STRTAB, names.data(), names.size());
  add(2, 11, SHT_STRTAB, strings.data(), strings.size());
  sections[2].sh_addr = 0x1000;
  add(3, 19, SHT_DYNAMIC, dynamic.data(), dynamic.size() * sizeof(Elf64_Dyn));
  add(4, 28, SHT_PROGBITS, "fatbin", 6);

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_shoff = file.size();
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = static_cast<Elf64_Half>(sections.size());
  header.e_shstrndx = 1;
  std::memcpy(file.data(), &header, sizeof header);
  file.append(reinterpret_cast<const char*>(sections.data()), sections.size() * sizeof(Elf64_Shdr));
  return file;
}

class ElfCheckTest : public ::testing::Test {
 protected:
  ElfCheckTest() : path_(::testing::TempDir() + "/elf-check-" + std::to_string(::getpid())) {}
  ~ElfCheckTest() override { std::filesystem::remove(path_); }
  CudaLinkage Inspect(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    return InspectProgram(path_);
  }
  std::string path_;
};

TEST_F(ElfCheckTest, TellsStaticFromShared) {
  EXPECT_EQ(Inspect(MakeElf(".nv_fatbin", {"libc.so.6"})), CudaLinkage::kProbablyStatic);
  EXPECT_EQ(Inspect(MakeElf(".nvFatBinSegment", {})), CudaLinkage::kProbablyStatic);
  EXPECT_EQ(Inspect(MakeElf(".nv_fatbin", {"libc.so.6", "libcudart.so.13"})), CudaLinkage::kShared);
  EXPECT_EQ(Inspect(MakeElf(".nv_fatbin", {"libcuda.so.1"})), CudaLinkage::kShared);
  EXPECT_EQ(Inspect(MakeElf(".text", {"libc.so.6"})), CudaLinkage::kUnknown);
}

TEST_F(ElfCheckTest, KnowsNothingOfOtherFiles) {
  EXPECT_EQ(Inspect("#!/bin/sh\n"), CudaLinkage::kUnknown);
  EXPECT_EQ(Inspect(""), CudaLinkage::kUnknown);
  EXPECT_EQ(InspectProgram("/does/not/exist"), CudaLinkage::kUnknown);
  EXPECT_EQ(InspectProgram("/dev/zero"), CudaLinkage::kUnknown);
  EXPECT_EQ(InspectProgram("/bin/sh"), CudaLinkage::kUnknown);
}

// Cut anywhere, and with any byte of headers and tables changed: some answer, never a crash.
TEST_F(ElfCheckTest, SurvivesDamage) {
  const std::string whole = MakeElf(".nv_fatbin", {"libc.so.6", "libcudart.so.13"});
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += 7) Inspect(whole.substr(0, bytes));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(~damaged[at]);
    Inspect(damaged);
  }
}

TEST_F(ElfCheckTest, RecognisesWhatNvccBuilds) {
  std::string nvcc;
  const char* const wanted = std::getenv("CUDACXX");
  for (const char* candidate : {wanted, "/usr/local/cuda/bin/nvcc"}) {
    if (candidate != nullptr && ::access(candidate, X_OK) == 0) nvcc = candidate;
  }
  if (nvcc.empty()) GTEST_SKIP() << "no nvcc here: programs built by it are not inspected";
  const std::string source = path_ + ".cu";
  std::ofstream(source) << "__global__ void k() {}\nint main() { k<<<1, 1>>>(); }\n";
  const auto build = [&](const char* how) {
    return std::system((nvcc + " --cudart " + how + " -o " + path_ + " " + source).c_str());
  };
  ASSERT_EQ(build("static"), 0);
  EXPECT_EQ(InspectProgram(path_), CudaLinkage::kProbablyStatic);
  ASSERT_EQ(build("shared"), 0);
  EXPECT_EQ(InspectProgram(path_), CudaLinkage::kShared);
  std::filesystem::remove(source);
}

}  // namespace
}  // namespace farwarp::cli
