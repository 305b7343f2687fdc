// The quota's books under threads and processes, and under kill -9 at any moment.
#include "server/session/quota.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace farwarp::server {
namespace {

constexpr std::uint64_t kLimit = 1000;

QuotaBook MakeBook(std::vector<std::uint64_t> limits) {
  Result<QuotaBook> book = QuotaBook::Create(limits);
  EXPECT_TRUE(book.ok()) << book.status().ToString();
  return std::move(book).value();
}

Quota MapSlot(QuotaBook& book) {
  Result<std::uint32_t> slot = book.TakeSlot();
  EXPECT_TRUE(slot.ok());
  Result<Quota> quota = Quota::Map(book.fd(), *slot);
  EXPECT_TRUE(quota.ok()) << quota.status().ToString();
  return std::move(quota).value();
}

TEST(Quota, FillsToTheLastByte) {
  QuotaBook book = MakeBook({kLimit, 7});
  Quota quota = MapSlot(book);
  EXPECT_EQ(quota.vgpus(), 2u);
  EXPECT_TRUE(quota.Charge(0, kLimit));
  EXPECT_FALSE(quota.Charge(0, 1));
  EXPECT_TRUE(quota.Charge(0, 0));
  EXPECT_TRUE(quota.Charge(1, 7));
  EXPECT_EQ(book.Used(0), kLimit);
  EXPECT_EQ(quota.Discharge(0, 1), 1u);
  EXPECT_TRUE(quota.Charge(0, 1));
  EXPECT_EQ(quota.Limit(1), 7u);
}

TEST(Quota, RefusesForgedOrdinalsAndHugeAmounts) {
  QuotaBook book = MakeBook({kLimit});
  Quota quota = MapSlot(book);
  EXPECT_FALSE(quota.Charge(1, 1));
  EXPECT_FALSE(quota.Charge(~0u, 1));
  EXPECT_TRUE(quota.Charge(0, 10));
  EXPECT_FALSE(quota.Charge(0, ~std::uint64_t{0}));
  EXPECT_FALSE(quota.Charge(0, ~std::uint64_t{0} - 9));
  EXPECT_EQ(quota.Discharge(0, ~std::uint64_t{0}), 10u);
  EXPECT_EQ(quota.Discharge(5, 1), 0u);
  EXPECT_EQ(book.Used(0), 0u);
}

TEST(Quota, OneProcessCannotGiveBackAnothersBytes) {
  QuotaBook book = MakeBook({kLimit});
  Quota first = MapSlot(book);
  Quota second = MapSlot(book);
  ASSERT_TRUE(first.Charge(0, 600));
  EXPECT_FALSE(second.Charge(0, 401));
  EXPECT_EQ(second.Discharge(0, 600), 0u);
  EXPECT_EQ(second.Used(0), 600u);
  EXPECT_EQ(second.Mine(0), 0u);
}

TEST(Quota, RefusesDescriptorsThatAreNoQuota) {
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(::pipe(pipe_ends.data()), 0);
  EXPECT_FALSE(Quota::Map(pipe_ends[0], 0).ok());
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  QuotaBook book = MakeBook({kLimit});
  EXPECT_FALSE(Quota::Map(book.fd(), kMaxWorkersPerLease).ok());
  EXPECT_NE(::ftruncate(book.fd(), 10), 0) << "a worker must not be able to shrink the books";
  EXPECT_FALSE(QuotaBook::Create({}).ok());
}

TEST(Quota, SlotsRunOutAndComeBack) {
  QuotaBook book = MakeBook({kLimit});
  for (std::uint32_t i = 0; i < kMaxWorkersPerLease; ++i) ASSERT_TRUE(book.TakeSlot().ok());
  EXPECT_EQ(book.TakeSlot().status().code(), StatusCode::kLimit);
  book.FreeSlot(17);
  Result<std::uint32_t> slot = book.TakeSlot();
  ASSERT_TRUE(slot.ok());
  EXPECT_EQ(*slot, 17u);
}

TEST(Quota, ThreadsNeverOvershoot) {
  QuotaBook book = MakeBook({kLimit});
  Quota quota = MapSlot(book);
  std::atomic<std::int64_t> held{0};
  std::atomic<bool> overshoot{false};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 5000; ++i) {
        const std::uint64_t bytes = random() % 400;
        if (!quota.Charge(0, bytes)) continue;
        // `held` is raised after and lowered before the books, so it never exceeds them.
        if (held.fetch_add(static_cast<std::int64_t>(bytes)) + static_cast<std::int64_t>(bytes) >
            static_cast<std::int64_t>(kLimit)) {
          overshoot = true;
        }
        held.fetch_sub(static_cast<std::int64_t>(bytes));
        quota.Discharge(0, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(overshoot);
  EXPECT_EQ(book.Used(0), 0u);
}

// A child that charges and gives back as fast as it can, until it is killed.
[[noreturn]] void Churn(int fd, std::uint32_t slot, unsigned seed) {
  Result<Quota> quota = Quota::Map(fd, slot);
  if (!quota.ok()) ::_exit(1);
  std::mt19937 random(seed);
  for (;;) {
    const std::uint64_t bytes = random() % 300;
    if (quota->Charge(0, bytes) && random() % 4 != 0) quota->Discharge(0, bytes);
    if (random() % 8 == 0) quota->Discharge(0, kLimit);
  }
}

TEST(Quota, KilledProcessesLeaveNothingBehind) {
  QuotaBook book = MakeBook({kLimit});
  Quota mine = MapSlot(book);
  constexpr unsigned kRounds = 40;
  for (unsigned round = 0; round < kRounds; ++round) {
    std::array<pid_t, 3> children{};
    std::array<std::uint32_t, 3> slots{};
    for (unsigned i = 0; i < children.size(); ++i) {
      slots[i] = *book.TakeSlot();
      children[i] = ::fork();
      ASSERT_GE(children[i], 0);
      if (children[i] == 0) Churn(book.fd(), slots[i], round * 3 + i);
    }
    // Kill them in the middle of their work, at a moment that differs from round to round.
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200 * round);
    std::uint64_t own = 0;
    do {
      if (mine.Charge(0, 5)) own += 5;
      ASSERT_LE(mine.Used(0), kLimit);
      own -= mine.Discharge(0, own);
    } while (std::chrono::steady_clock::now() < until);
    for (const pid_t child : children) ::kill(child, SIGKILL);
    for (unsigned i = 0; i < children.size(); ++i) {
      int status = 0;
      ASSERT_EQ(::waitpid(children[i], &status, 0), children[i]);
      ASSERT_TRUE(WIFSIGNALED(status));
      book.FreeSlot(slots[i]);
    }
    EXPECT_EQ(book.Used(0), own);
    ASSERT_TRUE(mine.Charge(0, kLimit - own)) << "all of it is free again, round " << round;
    EXPECT_FALSE(mine.Charge(0, 1));
    mine.Discharge(0, kLimit);
  }
}

}  // namespace
}  // namespace farwarp::server
