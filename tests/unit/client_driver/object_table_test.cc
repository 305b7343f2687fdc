// ObjectTable: minting, stale and forged handles, concurrent use.
#include "client/driver/object_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

namespace farwarp::client {
namespace {

struct Record {
  int value = 0;
};
using Table = ObjectTable<Record, wire::HandleKind::kStream>;

TEST(ObjectTable, AStaleHandleIsRefusedAfterItsIndexIsReused) {
  Table table;
  const auto first = table.Mint(std::make_unique<Record>(Record{1}));
  ASSERT_EQ(table.Find(first)->value, 1);
  EXPECT_EQ(table.Remove(first)->value, 1);
  EXPECT_EQ(table.Find(first), nullptr);
  EXPECT_TRUE(table.Remove(first) == nullptr);
  const auto second = table.Mint(std::make_unique<Record>(Record{2}));
  EXPECT_EQ(second.index(), first.index());
  EXPECT_NE(second.bits(), first.bits());
  EXPECT_EQ(table.Find(first), nullptr);
  EXPECT_EQ(table.Find(second)->value, 2);
}

TEST(ObjectTable, AnIndexIsFreeWhenWhatWasRemovedHasEnded) {
  Table table;
  const auto first = table.Mint(std::make_unique<Record>(Record{1}));
  {
    const auto removed = table.Remove(first);
    ASSERT_EQ(removed->value, 1);
    EXPECT_EQ(table.Find(first), nullptr);
    EXPECT_EQ(table.live(), 0u);
    EXPECT_TRUE(table.Remove(first) == nullptr);
    EXPECT_NE(table.Mint(std::make_unique<Record>()).index(), first.index());
  }
  EXPECT_EQ(table.Mint(std::make_unique<Record>()).index(), first.index());
}

TEST(ObjectTable, ForgedHandlesAreRefused) {
  Table table;
  const auto real = table.Mint(std::make_unique<Record>());
  EXPECT_EQ(table.Find(wire::Handle(0)), nullptr);
  EXPECT_EQ(table.Find(wire::Handle(1)), nullptr);
  EXPECT_EQ(table.Find(wire::Handle(~std::uint64_t{0})), nullptr);
  EXPECT_EQ(table.Find(wire::Handle(wire::HandleKind::kEvent, real.generation(), real.index())),
            nullptr);
  EXPECT_EQ(table.Find(wire::Handle(wire::HandleKind::kStream, real.generation(), 0xffffffff)),
            nullptr);
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const wire::Handle forged(random());
    if (forged.bits() != real.bits()) ASSERT_EQ(table.Find(forged), nullptr);
  }
}

TEST(ObjectTable, AGenerationNeverRepeats) {
  Table table;
  const auto first = table.Mint(std::make_unique<Record>());
  static_cast<void>(table.Remove(first));
  for (int i = 0; i < 70000; ++i) {
    const auto next = table.Mint(std::make_unique<Record>());
    ASSERT_NE(next.bits(), first.bits());
    ASSERT_EQ(table.Find(first), nullptr);
    static_cast<void>(table.Remove(next));
  }
  EXPECT_EQ(table.live(), 0u);
}

TEST(ObjectTable, ManyThreadsMintFindAndRemove) {
  Table table;
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::pair<wire::Handle, int>> mine;
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 5000; ++i) {
        if (mine.empty() || random() % 3 != 0) {
          const int value = t * 1000000 + i;
          mine.emplace_back(table.Mint(std::make_unique<Record>(Record{value})), value);
        } else {
          const auto [handle, value] = mine.back();
          mine.pop_back();
          const Record* record = table.Find(handle);
          if (record == nullptr || record->value != value) ++failures;
          if (table.Remove(handle) == nullptr) ++failures;
        }
      }
      for (const auto& [handle, value] : mine) {
        if (table.Find(handle)->value != value) ++failures;
        static_cast<void>(table.Remove(handle));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_EQ(table.live(), 0u);
}

}  // namespace
}  // namespace farwarp::client
