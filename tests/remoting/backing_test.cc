// What a client's memory is made of on the server: large pages of the worker's own, which go with
// the worker at once, and a file only where memory has several addresses.
#include <fstream>
#include <string>

#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

constexpr std::size_t kBytes = std::size_t{16} << 20;

// Mappings of the device's memory file in this process.
int FileMappings() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:farwarp-softgpu") != std::string::npos) ++count;
  }
  return count;
}

// The flags of the mapping that holds an address, as the system writes them.
std::string FlagsAt(CUdeviceptr address) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::size_t dash = line.find('-');
    if (dash != std::string::npos && dash < line.find(' ')) {
      inside = std::stoull(line, nullptr, 16) <= address &&
               address < std::stoull(line.substr(dash + 1), nullptr, 16);
    } else if (inside && line.rfind("VmFlags:", 0) == 0) {
      return line + " ";
    }
  }
  return {};
}

using Backing = SoftLoop;

TEST_F(Backing, MemoryWithOneAddressIsNoFile) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8_v2(memory, 7, kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(FileMappings(), 0);
  const std::string flags = FlagsAt(memory);
  ASSERT_NE(flags, "");
  EXPECT_EQ(flags.find(" sh "), std::string::npos) << flags;
  // hg: large pages are wanted, where the system has any.
  if (std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled").good()) {
    EXPECT_NE(flags.find(" hg "), std::string::npos) << flags;
  }
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
