// HostRegistry: bounds, overlaps, ownership.
#include "client/driver/memory/host_registry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace farwarp::client {
namespace {

using Outcome = HostRegistry::Outcome;

std::uint64_t Address(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

TEST(HostRegistry, AllocatedMemoryIsZeroedUsableAndKnown) {
  HostRegistry registry;
  auto* bytes = static_cast<unsigned char*>(registry.Allocate(10000, 3, 42));
  ASSERT_NE(bytes, nullptr);
  EXPECT_EQ(bytes[9999], 0);
  std::memset(bytes, 1, 10000);
  const auto block = registry.Find(Address(bytes) + 9999);
  ASSERT_TRUE(block.has_value());
  EXPECT_EQ(block->flags, 3u);
  EXPECT_EQ(block->owner, 42u);
  EXPECT_TRUE(registry.Contains(Address(bytes), 10000));
  EXPECT_FALSE(registry.Contains(Address(bytes), 10001));
  EXPECT_FALSE(registry.Contains(Address(bytes) + 1, ~std::uint64_t{0}));
  EXPECT_EQ(registry.Free(Address(bytes) + 1), Outcome::kUnknown);
  EXPECT_EQ(registry.Unregister(Address(bytes)), Outcome::kWrongKind);
  EXPECT_EQ(registry.Free(Address(bytes)), Outcome::kDone);
  EXPECT_EQ(registry.Free(Address(bytes)), Outcome::kUnknown);
}

TEST(HostRegistry, ImpossibleSizesAreRefused) {
  HostRegistry registry;
  EXPECT_EQ(registry.Allocate(0, 0, 1), nullptr);
  EXPECT_EQ(registry.Allocate(~std::uint64_t{0}, 0, 1), nullptr);
}

TEST(HostRegistry, RegistrationsMayNotOverlap) {
  HostRegistry registry;
  std::vector<char> memory(4096);
  const std::uint64_t base = Address(memory.data());
  EXPECT_EQ(registry.Register(base + 1000, 1000, 0, 1), Outcome::kDone);
  EXPECT_EQ(registry.Register(base + 1999, 10, 0, 1), Outcome::kOverlaps);
  EXPECT_EQ(registry.Register(base + 500, 501, 0, 1), Outcome::kOverlaps);
  EXPECT_EQ(registry.Register(base, 4096, 0, 1), Outcome::kOverlaps);
  EXPECT_EQ(registry.Register(base + 500, 500, 0, 1), Outcome::kDone);
  EXPECT_EQ(registry.Register(base + 2000, 10, 0, 1), Outcome::kDone);
  EXPECT_EQ(registry.Free(base + 1000), Outcome::kWrongKind);
  EXPECT_EQ(registry.Unregister(base + 1000), Outcome::kDone);
  EXPECT_FALSE(registry.Find(base + 1500).has_value());
  EXPECT_TRUE(registry.Find(base + 999).has_value());
}

TEST(HostRegistry, ADestroyedContextTakesItsBlocksAlong) {
  HostRegistry registry;
  char memory[64];
  void* mine = registry.Allocate(100, 0, 1);
  void* other = registry.Allocate(100, 0, 2);
  ASSERT_EQ(registry.Register(Address(memory), 64, 0, 1), Outcome::kDone);
  registry.DropOwnedBy(1);
  EXPECT_FALSE(registry.Find(Address(mine)).has_value());
  EXPECT_FALSE(registry.Find(Address(memory)).has_value());
  EXPECT_TRUE(registry.Find(Address(other)).has_value());
}

}  // namespace
}  // namespace farwarp::client
