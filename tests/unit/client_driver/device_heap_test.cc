// DeviceHeap against a model that knows nothing but intervals, driven by seeds.
#include "client/driver/memory/device_heap.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace farwarp::client {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr DeviceHeap::Range kWindow{std::uint64_t{1} << 44, 64 * kMiB};

std::vector<DeviceHeap::Range> Take(DeviceHeap& heap, std::uint64_t keep_bytes) {
  auto ranges = heap.EmptyRanges(keep_bytes);
  for (const DeviceHeap::Range& range : ranges) heap.RemoveEmptyRange(range);
  return ranges;
}

TEST(DeviceHeap, SmallAllocationsShareOneRange) {
  DeviceHeap heap(kWindow);
  EXPECT_FALSE(heap.Allocate(100, 1).has_value());
  ASSERT_TRUE(heap.AddRange(heap.RangeBytesFor(100)).has_value());
  const auto a = heap.Allocate(100, 1);
  const auto b = heap.Allocate(100, 1);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a % 256, 0u);
  EXPECT_EQ(*b - *a, DeviceHeap::kAlignment);
  EXPECT_EQ(heap.mapped_bytes(), 2 * kMiB);
  EXPECT_TRUE(heap.Consistent());
}

TEST(DeviceHeap, FindKnowsTheExactBounds) {
  DeviceHeap heap(kWindow);
  ASSERT_TRUE(heap.AddRange(2 * kMiB));
  const auto a = heap.Allocate(1000, 7);
  ASSERT_TRUE(a);
  EXPECT_EQ(heap.Find(*a)->owner, 7u);
  EXPECT_TRUE(heap.Find(*a + 999).has_value());
  EXPECT_FALSE(heap.Find(*a + 1000).has_value());
  EXPECT_FALSE(heap.Find(*a - 1).has_value());
  EXPECT_TRUE(heap.Covers(*a, 1000));
  EXPECT_FALSE(heap.Covers(*a, 1001));
  EXPECT_FALSE(heap.Covers(*a + 1, ~std::uint64_t{0}));
  EXPECT_TRUE(heap.Covers(*a + 1000, 0));
  EXPECT_FALSE(heap.Covers(0, 1));
}

TEST(DeviceHeap, OnlyTheBeginningOfAnAllocationCanBeFreedAndOnlyOnce) {
  DeviceHeap heap(kWindow);
  ASSERT_TRUE(heap.AddRange(2 * kMiB));
  const auto a = heap.Allocate(4096, 1);
  ASSERT_TRUE(a);
  EXPECT_FALSE(heap.Free(*a + 512));
  EXPECT_FALSE(heap.Free(0));
  EXPECT_TRUE(heap.Free(*a));
  EXPECT_FALSE(heap.Free(*a));
  EXPECT_TRUE(heap.Consistent());
}

TEST(DeviceHeap, EmptyRangesComeBackLargestFirst) {
  DeviceHeap heap(kWindow);
  ASSERT_TRUE(heap.AddRange(2 * kMiB));
  ASSERT_TRUE(heap.AddRange(8 * kMiB));
  ASSERT_TRUE(heap.AddRange(2 * kMiB));
  const auto a = heap.Allocate(kMiB, 1);  // Best fit: one of the small ranges.
  ASSERT_TRUE(a);
  const auto taken = Take(heap, 2 * kMiB);
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].bytes, 8 * kMiB);
  EXPECT_EQ(heap.mapped_bytes(), 4 * kMiB);
  EXPECT_EQ(Take(heap, 0).size(), 1u);
  EXPECT_EQ(heap.mapped_bytes(), 2 * kMiB);
  EXPECT_TRUE(heap.Consistent());
}

TEST(DeviceHeap, TheWindowIsALimit) {
  DeviceHeap heap(kWindow);
  EXPECT_EQ(heap.RangeBytesFor(0), 0u);
  EXPECT_EQ(heap.RangeBytesFor(kWindow.bytes + 1), 0u);
  EXPECT_EQ(heap.RangeBytesFor(~std::uint64_t{0}), 0u);
  EXPECT_TRUE(heap.AddRange(kWindow.bytes).has_value());
  EXPECT_FALSE(heap.AddRange(2 * kMiB).has_value());
  EXPECT_FALSE(heap.Allocate(~std::uint64_t{0}, 1).has_value());
  EXPECT_EQ(heap.Allocate(kWindow.bytes, 1), kWindow.address);
}

TEST(DeviceHeap, HolesBetweenRangesAreReused) {
  DeviceHeap heap(kWindow);
  const auto first = heap.AddRange(4 * kMiB);
  const auto second = heap.AddRange(4 * kMiB);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(heap.Allocate(4 * kMiB, 1));
  ASSERT_TRUE(heap.Allocate(4 * kMiB, 1));
  ASSERT_TRUE(heap.Free(first->address));
  EXPECT_EQ(Take(heap, 0).size(), 1u);
  EXPECT_EQ(heap.AddRange(2 * kMiB)->address, first->address);
  EXPECT_EQ(heap.AddRange(4 * kMiB)->address, second->address + second->bytes);
  EXPECT_TRUE(heap.Consistent());
}

class DeviceHeapSeeds : public testing::TestWithParam<unsigned> {};

TEST_P(DeviceHeapSeeds, NeverOverlapsAndNeverLoses) {
  SCOPED_TRACE(testing::Message() << "seed " << GetParam());
  std::mt19937_64 random(GetParam());
  DeviceHeap heap(kWindow);
  std::map<std::uint64_t, std::uint64_t> model;
  for (int step = 0; step < 3000; ++step) {
    const auto dice = random() % 100;
    if (dice < 55) {
      const std::uint64_t bytes = 1 + (random() % 4 == 0 ? random() % (6 * kMiB) : random() % 9000);
      auto address = heap.Allocate(bytes, random() % 3);
      if (!address) {
        if (!heap.AddRange(heap.RangeBytesFor(bytes))) continue;
        address = heap.Allocate(bytes, random() % 3);
      }
      ASSERT_TRUE(address.has_value()) << "a range that was added for it has no room";
      const auto after = model.lower_bound(*address);
      if (after != model.end()) ASSERT_LE(*address + bytes, after->first);
      if (after != model.begin()) {
        const auto before = std::prev(after);
        ASSERT_LE(before->first + before->second, *address);
      }
      ASSERT_GE(*address, kWindow.address);
      ASSERT_LE(*address + bytes, kWindow.address + kWindow.bytes);
      model[*address] = bytes;
    } else if (dice < 95 && !model.empty()) {
      auto victim = model.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random() % model.size()));
      ASSERT_TRUE(heap.Free(victim->first));
      model.erase(victim);
    } else {
      for (const auto& range : Take(heap, random() % (8 * kMiB))) {
        const auto inside = model.lower_bound(range.address);
        ASSERT_TRUE(inside == model.end() || inside->first >= range.address + range.bytes);
      }
    }
    ASSERT_TRUE(heap.Consistent()) << "step " << step;
    ASSERT_EQ(heap.allocations(), model.size());
  }
  for (const auto& [address, bytes] : model) ASSERT_TRUE(heap.Free(address));
  Take(heap, 0);
  EXPECT_EQ(heap.mapped_bytes(), 0u);
  EXPECT_EQ(heap.allocated_bytes(), 0u);
}
INSTANTIATE_TEST_SUITE_P(Seeds, DeviceHeapSeeds, testing::Range(1u, 9u));

}  // namespace
}  // namespace farwarp::client
