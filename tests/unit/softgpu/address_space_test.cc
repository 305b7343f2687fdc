#include "server/softgpu/memory/address_space.h"

#include <gtest/gtest.h>

#include <csetjmp>
#include <csignal>
#include <thread>
#include <vector>

namespace farwarp::softgpu {
namespace {

AddressSpace& Space() {
  static AddressSpace* space = AddressSpace::Get().value();
  return *space;
}

unsigned char& ByteAt(std::uint64_t address) {
  return *reinterpret_cast<unsigned char*>(address);
}

sigjmp_buf fault_exit;
void OnFault(int) {
  siglongjmp(fault_exit, 1);
}

// Whether reading a byte at `address` raises SIGSEGV.
bool ReadFaults(std::uint64_t address) {
  struct sigaction action = {}, before = {};
  action.sa_handler = OnFault;
  sigaction(SIGSEGV, &action, &before);
  bool faulted = true;
  if (sigsetjmp(fault_exit, 1) == 0) {
    const volatile unsigned char* byte = &ByteAt(address);
    (void)*byte;
    faulted = false;
  }
  sigaction(SIGSEGV, &before, nullptr);
  return faulted;
}

TEST(AddressSpace, IsAlignedToItsSize) {
  EXPECT_EQ(Space().base() % Space().bytes(), 0u);
  EXPECT_GE(Space().bytes(), std::uint64_t{1} << 37);
}

TEST(AddressSpace, ContainsKnowsItsEdges) {
  const std::uint64_t base = Space().base(), end = base + Space().bytes();
  EXPECT_TRUE(Space().Contains(base));
  EXPECT_TRUE(Space().Contains(end - 1));
  EXPECT_FALSE(Space().Contains(base - 1));
  EXPECT_FALSE(Space().Contains(end));
  EXPECT_TRUE(Space().Contains(base, Space().bytes()));
  EXPECT_FALSE(Space().Contains(base + 1, Space().bytes()));
  EXPECT_FALSE(Space().Contains(end - 8, 16));
  EXPECT_FALSE(Space().Contains(base + 8, ~std::uint64_t{0}));
}

TEST(AddressSpace, ReservedMemoryFaultsUntilCommitted) {
  const std::uint64_t at = Space().Reserve(1 << 20).value();
  EXPECT_TRUE(ReadFaults(at));
  ASSERT_TRUE(Space().Commit(at, 1 << 16).ok());
  EXPECT_FALSE(ReadFaults(at));
  EXPECT_TRUE(ReadFaults(at + (1 << 16)));
  ASSERT_TRUE(Space().Release(at).ok());
  EXPECT_TRUE(ReadFaults(at));
}

TEST(AddressSpace, CommittedAgainIsZero) {
  const std::uint64_t at = Space().Reserve(8192).value();
  ASSERT_TRUE(Space().Commit(at, 8192).ok());
  ByteAt(at + 5000) = 7;
  ASSERT_TRUE(Space().Decommit(at, 8192).ok());
  ASSERT_TRUE(Space().Commit(at, 8192).ok());
  EXPECT_EQ(ByteAt(at + 5000), 0);
  ASSERT_TRUE(Space().Release(at).ok());
}

TEST(AddressSpace, FixedAddressIsHonoured) {
  const std::uint64_t window = Space().bytes() / 8;
  const std::uint64_t want = Space().base() + window;
  ASSERT_EQ(Space().Reserve(window, 0, want).value(), want);
  EXPECT_EQ(Space().Reserve(4096, 0, want + window / 2).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Space().Reserve(8192, 0, want - 4096).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Space().Reserve(4096, 0, 0x1000).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Space().ReservedBytes(want), window);
  ASSERT_TRUE(Space().Release(want).ok());
  EXPECT_EQ(Space().Release(want).code(), StatusCode::kNotFound);
}

TEST(AddressSpace, AlignmentAndGapsAreUsed) {
  const std::uint64_t align = std::uint64_t{1} << 30;
  const std::uint64_t a = Space().Reserve(4096, align).value();
  const std::uint64_t b = Space().Reserve(4096, align).value();
  const std::uint64_t c = Space().Reserve(4096, align).value();
  EXPECT_EQ(a % align, 0u);
  EXPECT_EQ(b % align, 0u);
  ASSERT_TRUE(Space().Release(b).ok());
  EXPECT_EQ(Space().Reserve(4096, align).value(), b);
  for (std::uint64_t address : {a, b, c}) ASSERT_TRUE(Space().Release(address).ok());
}

TEST(AddressSpace, ImpossibleRequestsAreRefused) {
  EXPECT_FALSE(Space().Reserve(0).ok());
  EXPECT_FALSE(Space().Reserve(~std::uint64_t{0}).ok());
  EXPECT_FALSE(Space().Reserve(4096, 3).ok());
  EXPECT_FALSE(Space().Commit(Space().base() + 1, 4096).ok());
  EXPECT_FALSE(Space().Commit(Space().base() - 4096, 8192).ok());
  EXPECT_FALSE(Space().Decommit(Space().base(), 0).ok());
}

TEST(AddressSpace, ThreadsNeverShareARange) {
  constexpr int kThreads = 4, kRounds = 200;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kRounds; ++i) {
        const std::uint64_t at = Space().Reserve(16384).value();
        ASSERT_TRUE(Space().Commit(at, 16384).ok());
        EXPECT_EQ(ByteAt(at), 0);
        ByteAt(at) = static_cast<unsigned char>(t + 1);
        EXPECT_EQ(ByteAt(at), t + 1);
        ASSERT_TRUE(Space().Release(at).ok());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace farwarp::softgpu
