// CUDA_VISIBLE_DEVICES, entry by entry.
#include "client/driver/visible_devices.h"

#include <gtest/gtest.h>

namespace farwarp::client {
namespace {

std::vector<DeviceUuid> ThreeDevices() {
  std::vector<DeviceUuid> uuids(3);
  for (unsigned char i = 0; i < 3; ++i) {
    for (unsigned char byte = 0; byte < 16; ++byte) uuids[i][byte] = byte;
    uuids[i][0] = static_cast<unsigned char>(0x10 * (i + 1));
  }
  uuids[2][0] = 0x21;  // Shares "2" with device 1.
  return uuids;
}

using Indices = std::vector<std::size_t>;
Indices Visible(const char* value) {
  return VisibleDevices(value, ThreeDevices());
}

TEST(VisibleDevices, UnsetMeansAll) {
  EXPECT_EQ(Visible(nullptr), (Indices{0, 1, 2}));
}
TEST(VisibleDevices, EmptyMeansNone) {
  EXPECT_EQ(Visible(""), Indices{});
}
TEST(VisibleDevices, WhatShowsNoneNeedsNoDevices) {
  for (const char* none : {"", " ", ",0", "-1", "NoDevFiles", "GPU-", "none,0"}) {
    EXPECT_TRUE(ShowsNone(none)) << none;
    EXPECT_EQ(Visible(none), Indices{}) << none;
  }
  EXPECT_FALSE(ShowsNone(nullptr));
  for (const char* some : {"0", " 2,1", "7", "GPU-1", "0,none"}) {
    EXPECT_FALSE(ShowsNone(some)) << some;
  }
}
TEST(VisibleDevices, OrderIsKept) {
  EXPECT_EQ(Visible("2,0"), (Indices{2, 0}));
}
TEST(VisibleDevices, SpacesAreIgnored) {
  EXPECT_EQ(Visible(" 1 , 0"), (Indices{1, 0}));
}
TEST(VisibleDevices, TheFirstUnknownEndsTheList) {
  EXPECT_EQ(Visible("1,7,0"), Indices{1});
  EXPECT_EQ(Visible("1,-1,0"), Indices{1});
  EXPECT_EQ(Visible("0,x,1"), Indices{0});
  EXPECT_EQ(Visible("0,,1"), Indices{0});
  EXPECT_EQ(Visible("99999999999999999999"), Indices{});
}
TEST(VisibleDevices, ADuplicateEmptiesTheList) {
  EXPECT_EQ(Visible("0,1,0"), Indices{});
}
TEST(VisibleDevices, TrailingCharactersOfANumberAreIgnored) {
  EXPECT_EQ(Visible("1abc,0"), (Indices{1, 0}));
}
TEST(VisibleDevices, UuidsMayBeShortenedWhileUnique) {
  EXPECT_EQ(Visible("GPU-10010203-0405-0607-0809-0a0b0c0d0e0f"), Indices{0});
  EXPECT_EQ(Visible("GPU-1,GPU-20"), (Indices{0, 1}));
  EXPECT_EQ(Visible("GPU-2"), Indices{});
  EXPECT_EQ(Visible("GPU-f,0"), Indices{});
  EXPECT_EQ(Visible("GPU-"), Indices{});
}
TEST(VisibleDevices, UuidText) {
  EXPECT_EQ(UuidText(ThreeDevices()[1]), "GPU-20010203-0405-0607-0809-0a0b0c0d0e0f");
}

}  // namespace
}  // namespace farwarp::client
