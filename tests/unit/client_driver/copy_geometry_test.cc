// Copy geometry against copies done byte by byte.
#include "client/driver/copy/copy_geometry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace farwarp::client {
namespace {

std::uint64_t Address(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

TEST(CopyGeometry, ImpossibleNumbersAreRefused) {
  const wire::CopyExtent rows{100, 10, 1};
  EXPECT_FALSE(PlaneOf({.base = 4096, .pitch = 99}, rows).has_value());
  EXPECT_FALSE(PlaneOf({.base = 4096, .x_bytes = 1, .pitch = 100}, rows).has_value());
  EXPECT_TRUE(PlaneOf({.base = 4096, .x_bytes = 1, .pitch = 101}, rows).has_value());
  EXPECT_FALSE(PlaneOf({.base = 4096, .pitch = std::uint64_t{1} << 62}, rows).has_value());
  EXPECT_FALSE(PlaneOf({.base = 4096, .height = 5}, {100, 10, 2}).has_value());
  EXPECT_FALSE(PlaneOf({.base = ~std::uint64_t{0}}, {100, 1, 1}).has_value());
  EXPECT_FALSE(CopyBytes({std::uint64_t{1} << 40, std::uint64_t{1} << 40, 1}).has_value());
}

TEST(CopyGeometry, DenseCopiesBecomeOneRow) {
  const wire::CopyExtent extent{64, 8, 4};
  auto to = PlaneOf({.base = 4096, .pitch = 64, .height = 8}, extent);
  auto from = PlaneOf({.base = 65536}, extent);
  ASSERT_TRUE(to && from);
  EXPECT_TRUE(IsDense(*to, extent));
  wire::CopyExtent simple = extent;
  Simplify(&*to, &*from, &simple);
  EXPECT_EQ(simple.row_bytes, 64u * 8 * 4);
  EXPECT_EQ(simple.rows, 1u);
  EXPECT_EQ(simple.slices, 1u);
}

TEST(CopyGeometry, RowsThatTouchOnOneSideOnlyStayRows) {
  wire::CopyExtent extent{64, 8, 4};
  auto to = PlaneOf({.base = 4096, .pitch = 80, .height = 8}, extent);
  auto from = PlaneOf({.base = 65536}, extent);
  Simplify(&*to, &*from, &extent);
  EXPECT_EQ(extent.row_bytes, 64u);
  EXPECT_EQ(extent.rows, 32u);  // Slices of full height join.
  EXPECT_EQ(extent.slices, 1u);
}

class CopySeeds : public testing::TestWithParam<unsigned> {};

TEST_P(CopySeeds, PackAndUnpackMoveExactlyTheBox) {
  SCOPED_TRACE(testing::Message() << "seed " << GetParam());
  std::mt19937 random(GetParam());
  for (int round = 0; round < 200; ++round) {
    const wire::CopyExtent box{1 + random() % 20, 1 + random() % 5, 1 + random() % 4};
    const std::uint64_t x = random() % 5, y = random() % 3, z = random() % 2;
    const std::uint64_t pitch = x + box.row_bytes + random() % 4;
    const std::uint64_t height = y + box.rows + random() % 3;
    const std::uint64_t depth = z + box.slices;
    std::vector<std::byte> source(pitch * height * depth);
    for (auto& byte : source) byte = static_cast<std::byte>(random());
    auto plane = PlaneOf({Address(source.data()), x, y, z, pitch, height}, box);
    ASSERT_TRUE(plane.has_value());
    ASSERT_LE(plane->address + SpanBytes(*plane, box), Address(source.data()) + source.size());

    std::vector<std::byte> expected;
    for (std::uint64_t k = 0; k < box.slices; ++k) {
      for (std::uint64_t j = 0; j < box.rows; ++j) {
        for (std::uint64_t i = 0; i < box.row_bytes; ++i) {
          expected.push_back(source[((z + k) * height + y + j) * pitch + x + i]);
        }
      }
    }
    std::vector<std::byte> dense(*CopyBytes(box));
    PackRows(*plane, box, dense.data());
    ASSERT_EQ(dense, expected);

    // Simplified planes describe the same bytes.
    wire::CopyExtent simple = box;
    wire::CopyPlane from = *plane;
    wire::CopyPlane to = *PlaneOf({.base = Address(dense.data())}, box);
    Simplify(&to, &from, &simple);
    std::vector<std::byte> again(dense.size());
    PackRows(from, simple, again.data());
    ASSERT_EQ(again, expected);

    std::vector<std::byte> target(source.size());
    const auto target_plane = PlaneOf({Address(target.data()), x, y, z, pitch, height}, box);
    UnpackRows(dense.data(), *target_plane, box);
    std::vector<std::byte> check(dense.size());
    PackRows(*target_plane, box, check.data());
    ASSERT_EQ(check, expected);
    std::size_t touched = 0;
    for (const auto byte : target) touched += byte != std::byte{0};
    ASSERT_LE(touched, dense.size());

    std::vector<std::byte> copied(source.size());
    const auto copied_plane = PlaneOf({Address(copied.data()), x, y, z, pitch, height}, box);
    CopyRows(*plane, *copied_plane, box);
    ASSERT_EQ(copied, target);
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, CopySeeds, testing::Range(1u, 5u));

}  // namespace
}  // namespace farwarp::client
