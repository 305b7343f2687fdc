#include "server/softgpu/memory/allocation_map.h"

#include <gtest/gtest.h>

#include "server/softgpu/memory/budget.h"

namespace farwarp::softgpu {
namespace {

Allocation At(std::uint64_t address, std::uint64_t bytes, MemoryKind kind = MemoryKind::kDevice) {
  Allocation allocation;
  allocation.address = address;
  allocation.bytes = bytes;
  allocation.kind = kind;
  return allocation;
}

TEST(AllocationMap, FindsByAnyAddressInside) {
  AllocationMap map;
  ASSERT_TRUE(map.Insert(At(1000, 100)));
  EXPECT_FALSE(map.Insert(At(1099, 10)));
  EXPECT_FALSE(map.Insert(At(950, 51)));
  EXPECT_FALSE(map.Insert(At(1, 0)));
  EXPECT_FALSE(map.Insert(At(~std::uint64_t{0}, 2)));
  EXPECT_TRUE(map.Insert(At(1100, 10)));
  EXPECT_EQ(map.Find(1099)->address, 1000u);
  EXPECT_FALSE(map.Find(999));
  EXPECT_FALSE(map.Find(1110));
  EXPECT_FALSE(map.Remove(1001));
  EXPECT_TRUE(map.Remove(1000));
  EXPECT_FALSE(map.Find(1050));
}

TEST(AllocationMap, OnlyMappingsJoin) {
  AllocationMap map;
  ASSERT_TRUE(map.Insert(At(1000, 100)));
  ASSERT_TRUE(map.Insert(At(1100, 100)));
  EXPECT_TRUE(map.Covers(1000, 100, true));
  EXPECT_FALSE(map.Covers(1000, 101, true));
  ASSERT_TRUE(map.Insert(At(2000, 100, MemoryKind::kMapped)));
  ASSERT_TRUE(map.Insert(At(2100, 100, MemoryKind::kMapped)));
  EXPECT_TRUE(map.Covers(2050, 150, true));
  EXPECT_FALSE(map.Covers(2050, 151, true));
  ASSERT_TRUE(map.Update(2100, [](Allocation& allocation) { allocation.writable = false; }));
  EXPECT_FALSE(map.Covers(2050, 150, true));
  EXPECT_TRUE(map.Covers(2050, 150, false));
  EXPECT_EQ(map.Exactly(2000, 200).size(), 2u);
  EXPECT_TRUE(map.Exactly(2000, 150).empty());
  EXPECT_TRUE(map.Overlaps(1950, 51));
  EXPECT_FALSE(map.Overlaps(1950, 50));
}

TEST(MemoryBudget, NeverExceedsItsTotal) {
  MemoryBudget budget(100);
  EXPECT_TRUE(budget.Charge(60));
  EXPECT_FALSE(budget.Charge(41));
  EXPECT_FALSE(budget.Charge(~std::uint64_t{0}));
  EXPECT_TRUE(budget.Charge(40));
  EXPECT_EQ(budget.free(), 0u);
  budget.Refund(100);
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace farwarp::softgpu
