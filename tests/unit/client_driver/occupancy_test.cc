// Occupancy against values worked out by hand for a multiprocessor of compute capability 12.x:
// 1536 threads, 24 blocks, 64 K registers, 100 KiB shared memory of which each block reserves 1
// KiB.
#include "client/driver/launch/occupancy.h"

#include <gtest/gtest.h>

namespace farwarp::client {
namespace {

const DeviceLimits kDevice;

TEST(Occupancy, ThreadsLimitLargeBlocks) {
  const KernelResources kernel{.registers = 16};
  EXPECT_EQ(ActiveBlocks(kDevice, kernel, 1024, 0), 1);
  EXPECT_EQ(ActiveBlocks(kDevice, kernel, 768, 0), 2);
  EXPECT_EQ(ActiveBlocks(kDevice, kernel, 256, 0), 6);
  EXPECT_EQ(ActiveBlocks(kDevice, kernel, 255, 0), 6);
}

TEST(Occupancy, BlocksLimitSmallBlocks) {
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 32, 0), 24);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 1, 0), 24);
}

TEST(Occupancy, RegistersLimit) {
  // 64 registers: 2048 per warp, 8 warps per scheduler, 32 in all: 4 blocks of 8 warps.
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 64}, 256, 0), 4);
  // 255 registers: 8192 per warp, 2 warps per scheduler, 8 in all.
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 255}, 256, 0), 1);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 255}, 512, 0), 0);
}

TEST(Occupancy, SharedMemoryLimits) {
  // 48 KiB + 1 KiB reserved: two fit into 100 KiB.
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16, .static_shared_bytes = 49152}, 128, 0), 2);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 128, 24 * 1024), 4);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 128, 101377), 0);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 128, ~std::uint64_t{0}), 0);
}

TEST(Occupancy, ImpossibleBlocksAreZero) {
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 0, 0), 0);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, -1, 0), 0);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 1025, 0), 0);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16, .max_threads_per_block = 128}, 129, 0), 0);
}

TEST(Occupancy, TheBestBlockIsTheLargestOfEquals) {
  const auto none = [](int) { return std::uint64_t{0}; };
  const auto best = BestBlockSize(kDevice, {.registers = 16}, none, 0);
  EXPECT_EQ(best.block, 768);
  EXPECT_EQ(best.min_grid, 2);
  EXPECT_EQ(BestBlockSize(kDevice, {.registers = 16}, none, 100).block, 96);
}

TEST(Occupancy, TheBestBlockFollowsTheSharedMemoryOfEachSize) {
  const auto per_thread = [](int threads) { return static_cast<std::uint64_t>(threads) * 256; };
  const auto best = BestBlockSize(kDevice, {.registers = 16}, per_thread, 0);
  EXPECT_GT(best.block, 0);
  EXPECT_LE(best.block * 256, 102400);
}

TEST(Occupancy, AvailableSharedMemoryPerBlock) {
  std::uint64_t bytes = 0;
  ASSERT_TRUE(AvailableSharedPerBlock(kDevice, {.registers = 16}, 4, 128, &bytes));
  EXPECT_EQ(bytes, 25u * 1024 - 1024);
  EXPECT_EQ(ActiveBlocks(kDevice, {.registers = 16}, 128, bytes), 4);
  EXPECT_FALSE(AvailableSharedPerBlock(kDevice, {.registers = 16}, 100, 128, &bytes));
  EXPECT_FALSE(AvailableSharedPerBlock(kDevice, {.registers = 16}, 0, 128, &bytes));
}

}  // namespace
}  // namespace farwarp::client
