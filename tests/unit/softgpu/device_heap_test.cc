// The heap of malloc in kernels: what it gives never overlaps, and comes back whole.
#include "server/softgpu/memory/device_heap.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>
#include <vector>

namespace farwarp::softgpu {
namespace {

constexpr std::uint64_t kBase = 0x200000001000;

struct Range {
  int taken = 0;
  int given_back = 0;
  std::uint64_t bytes = 0;
  bool exhausted = false;

  DeviceHeap::Take take() {
    return [this](std::uint64_t wanted) {
      ++taken;
      bytes = wanted;
      return exhausted ? 0 : kBase;
    };
  }
  DeviceHeap::GiveBack give_back() {
    return [this](std::uint64_t address, std::uint64_t size) {
      EXPECT_EQ(address, kBase);
      EXPECT_EQ(size, bytes);
      ++given_back;
    };
  }
};

TEST(DeviceHeap, TakesItsRangeOnlyWhenNeeded) {
  Range range;
  {
    DeviceHeap heap(4096, range.take(), range.give_back());
    EXPECT_TRUE(heap.Resize(8192));
    EXPECT_FALSE(heap.Free(kBase));
    EXPECT_EQ(range.taken, 0);
    EXPECT_EQ(heap.Allocate(8192), kBase);
    EXPECT_EQ(range.bytes, 8192u);
    EXPECT_FALSE(heap.Resize(4096));
    EXPECT_EQ(heap.bytes(), 8192u);
    EXPECT_EQ(heap.Allocate(1), 0u);
    heap.Close();
    EXPECT_EQ(range.given_back, 1);
    EXPECT_EQ(heap.Allocate(1), 0u);
    EXPECT_FALSE(heap.Free(kBase));
  }
  EXPECT_EQ(range.taken, 1);
  EXPECT_EQ(range.given_back, 1);
}

TEST(DeviceHeap, GivesNothingWhereThereIsNoMemory) {
  Range range;
  range.exhausted = true;
  DeviceHeap heap(4096, range.take(), range.give_back());
  EXPECT_EQ(heap.Allocate(16), 0u);
  EXPECT_EQ(heap.Allocate(16), 0u);
  EXPECT_EQ(range.taken, 1);
}

TEST(DeviceHeap, RandomUseNeverOverlapsAndComesBackWhole) {
  constexpr std::uint64_t kBytes = 1 << 16;
  Range range;
  DeviceHeap heap(kBytes, range.take(), range.give_back());
  std::mt19937 random(20);
  std::map<std::uint64_t, std::uint64_t> blocks;
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 5 < 3) {
      const std::uint64_t bytes = random() % 3000 + 1;
      const std::uint64_t align = std::uint64_t{1} << random() % 12;
      const std::uint64_t address = heap.Allocate(bytes, align);
      if (address == 0) {
        ++refused;
        continue;
      }
      ASSERT_EQ(address % std::max<std::uint64_t>(align, 16), 0u);
      ASSERT_GE(address, kBase);
      ASSERT_LE(address + bytes, kBase + kBytes);
      const auto behind = blocks.lower_bound(address);
      ASSERT_TRUE(behind == blocks.end() || address + bytes <= behind->first);
      ASSERT_TRUE(behind == blocks.begin() ||
                  std::prev(behind)->first + std::prev(behind)->second <= address);
      blocks[address] = bytes;
      const auto found = heap.BlockAt(address + bytes - 1);
      ASSERT_TRUE(found);
      ASSERT_EQ(found->first, address);
    } else if (!blocks.empty()) {
      auto block = blocks.begin();
      std::advance(block, random() % blocks.size());
      ASSERT_FALSE(heap.Free(block->first + 1));
      ASSERT_TRUE(heap.Free(block->first));
      ASSERT_FALSE(heap.Free(block->first));
      ASSERT_FALSE(heap.BlockAt(block->first));
      blocks.erase(block);
    }
  }
  EXPECT_GT(refused, 0);
  for (const auto& [address, bytes] : blocks) ASSERT_TRUE(heap.Free(address));
  EXPECT_EQ(heap.Allocate(kBytes), kBase);
}

TEST(DeviceHeap, ThreadsShareIt) {
  Range range;
  DeviceHeap heap(1 << 16, range.take(), range.give_back());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&heap] {
      for (int i = 0; i < 2000; ++i) {
        const std::uint64_t address = heap.Allocate(48);
        ASSERT_NE(address, 0u);
        ASSERT_TRUE(heap.Free(address));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(heap.Allocate(1 << 16), kBase);
}

}  // namespace
}  // namespace farwarp::softgpu
