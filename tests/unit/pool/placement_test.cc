// Placement: what an ask means on a device, best fit, and the search behind it.
#include "controller/pool/placement.h"

#include <gtest/gtest.h>

#include "farwarp/base/bytes.h"

namespace farwarp::pool {
namespace {

struct Rooms {
  std::vector<Device> devices;
  std::vector<DeviceRoom> rooms;

  explicit Rooms(const std::vector<std::pair<std::uint64_t, std::uint32_t>>& free,
                 std::uint64_t total = 16 * kGiB) {
    devices.resize(free.size());
    for (std::size_t i = 0; i < free.size(); ++i) {
      devices[i].ordinal = static_cast<std::uint32_t>(i);
      devices[i].uuid = "GPU-" + std::to_string(i);
      rooms.push_back({&devices[i], total, free[i].first, free[i].second});
    }
  }
};

// Devices map memory in ranges of 2 MiB: the last MiB of an odd number could not be used.
TEST(ResolveAsk, CountsMemoryInStepsOfTwoMebibytes) {
  EXPECT_EQ(ResolveAsk({1, 0, 1}, 8 * kGiB).memory_bytes, 2 * kMiB);
  EXPECT_EQ(ResolveAsk({kMiB + 1, 0, 1}, 8 * kGiB).memory_bytes, 2 * kMiB);
  EXPECT_EQ(ResolveAsk({3 * kMiB, 0, 1}, 8 * kGiB).memory_bytes, 4 * kMiB);
  EXPECT_EQ(ResolveAsk({4 * kMiB, 0, 1}, 8 * kGiB).memory_bytes, 4 * kMiB);
  EXPECT_EQ(ResolveAsk({0, 50, 0}, 8 * kGiB).memory_bytes, 4 * kGiB);
  EXPECT_EQ(ResolveAsk({0, 50, 0}, 6 * kMiB).memory_bytes, 2 * kMiB);
}

TEST(ResolveAsk, TakesComputeInProportionUnlessTold) {
  EXPECT_EQ(ResolveAsk({0, 0, 0}, 8 * kGiB).compute_percent, 100u);
  EXPECT_EQ(ResolveAsk({0, 37, 0}, 8 * kGiB).compute_percent, 37u);
  EXPECT_EQ(ResolveAsk({2 * kGiB, 0, 0}, 8 * kGiB).compute_percent, 25u);
  EXPECT_EQ(ResolveAsk({kMiB, 0, 0}, 8 * kGiB).compute_percent, 1u);
  EXPECT_EQ(ResolveAsk({2 * kGiB, 0, 90}, 8 * kGiB).compute_percent, 90u);
}

TEST(Place, PrefersTheTightestDevice) {
  const Rooms rooms({{8 * kGiB, 100}, {3 * kGiB, 100}, {5 * kGiB, 100}});
  const auto placement = Place(std::vector<VgpuAsk>{{2 * kGiB, 0, 10}}, rooms.rooms);
  ASSERT_TRUE(placement);
  EXPECT_EQ(placement->vgpus[0].device_ordinal, 1u);
  EXPECT_EQ(placement->vgpus[0].device_uuid, "GPU-1");
  EXPECT_EQ(placement->leftover_bytes, kGiB);
}

TEST(Place, RespectsComputeAsWellAsMemory) {
  const Rooms rooms({{3 * kGiB, 9}, {8 * kGiB, 10}});
  const auto placement = Place(std::vector<VgpuAsk>{{2 * kGiB, 0, 10}}, rooms.rooms);
  ASSERT_TRUE(placement);
  EXPECT_EQ(placement->vgpus[0].device_ordinal, 1u);
  EXPECT_FALSE(Place(std::vector<VgpuAsk>{{2 * kGiB, 0, 11}}, rooms.rooms));
}

TEST(Place, KeepsTheOrderInWhichVgpusWereAsked) {
  const Rooms rooms({{8 * kGiB, 100}});
  const auto placement =
      Place(std::vector<VgpuAsk>{{kGiB, 0, 1}, {4 * kGiB, 0, 2}, {2 * kGiB, 0, 3}}, rooms.rooms);
  ASSERT_TRUE(placement);
  ASSERT_EQ(placement->vgpus.size(), 3u);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(placement->vgpus[i].ordinal, i);
    EXPECT_EQ(placement->vgpus[i].compute_percent, i + 1);
  }
}

// Best fit alone puts 5 into 6 and 4 into 10, after which 6 has no place.
TEST(Place, SearchesOnWhenBestFitGetsStuck) {
  const Rooms rooms({{10 * kGiB, 100}, {6 * kGiB, 100}});
  const auto placement = Place(
      std::vector<VgpuAsk>{{6 * kGiB, 0, 1}, {5 * kGiB, 0, 1}, {5 * kGiB, 0, 1}}, rooms.rooms);
  ASSERT_TRUE(placement);
  const Rooms tricky({{9 * kGiB, 60}, {9 * kGiB, 100}});
  EXPECT_TRUE(Place(std::vector<VgpuAsk>{{5 * kGiB, 0, 60}, {4 * kGiB, 0, 50}, {4 * kGiB, 0, 50}},
                    tricky.rooms));
}

TEST(Place, EndsOnHopelessRequestsOfTheLargestSize) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> free;
  for (std::uint64_t i = 0; i < kMaxDevicesPerNode; ++i) free.push_back({(8 + i) * kMiB, 100});
  const Rooms rooms(free);
  std::vector<VgpuAsk> asks;
  for (std::uint64_t i = 0; i < kMaxVgpusPerLease; ++i) asks.push_back({(30 + i) * kMiB, 0, 51});
  EXPECT_FALSE(Place(asks, rooms.rooms));
}

TEST(CheckRequest, NamesTheBrokenRule) {
  Request request;
  EXPECT_EQ(CheckRequest(request).code(), StatusCode::kInvalid);
  request.vgpus = {{kGiB, 50, 0}};
  EXPECT_NE(CheckRequest(request).message().find("not both"), std::string::npos);
  request.vgpus = {{0, 101, 0}};
  EXPECT_NE(CheckRequest(request).message().find("100"), std::string::npos);
  request.vgpus.assign(kMaxVgpusPerLease + 1, VgpuAsk{});
  EXPECT_FALSE(CheckRequest(request).ok());
  request.vgpus = {{~std::uint64_t{0}, 0, 0}};
  EXPECT_FALSE(CheckRequest(request).ok());
  request.vgpus = {{kGiB, 0, 30}};
  EXPECT_TRUE(CheckRequest(request).ok());
  request.client.program.assign(kMaxTextBytes + 1, 'x');
  EXPECT_FALSE(CheckRequest(request).ok());
}

}  // namespace
}  // namespace farwarp::pool
