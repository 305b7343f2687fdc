// Sizes and durations as people write them, and hexadecimal digits.
#include "farwarp/base/bytes.h"

#include <gtest/gtest.h>

#include <array>

#include "farwarp/base/duration.h"

namespace farwarp {
namespace {

TEST(ParseBytes, KnowsTheUsualSpellings) {
  EXPECT_EQ(*ParseBytes("8Gi"), 8 * kGiB);
  EXPECT_EQ(*ParseBytes("8GiB"), 8 * kGiB);
  EXPECT_EQ(*ParseBytes("512mi"), 512 * kMiB);
  EXPECT_EQ(*ParseBytes("1.5 GiB"), 3 * kGiB / 2);
  EXPECT_EQ(*ParseBytes("2G"), 2'000'000'000u);
  EXPECT_EQ(*ParseBytes("4096"), 4096u);
}

TEST(ParseBytes, RefusesEverythingElse) {
  for (const char* text : {"", "Gi", "-1Gi", "+1", "8 Gi B", "0", "8Q", "1e9", "0x10", ".",
                           "99999999999999999999999", "2000000Ti", "1..5Gi"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(FormatBytes, IsShort) {
  EXPECT_EQ(FormatBytes(17), "17 B");
  EXPECT_EQ(FormatBytes(512 * kMiB), "512 MiB");
  EXPECT_EQ(FormatBytes(3 * kGiB / 2), "1.5 GiB");
  EXPECT_EQ(FormatBytes(80 * kGiB), "80 GiB");
}

TEST(Duration, KnowsTheUsualSpellings) {
  EXPECT_EQ(ParseDuration("500ms")->count(), 500);
  EXPECT_EQ(ParseDuration("30")->count(), 30'000);
  EXPECT_EQ(ParseDuration("1.5s")->count(), 1500);
  EXPECT_EQ(ParseDuration("10m")->count(), 600'000);
  EXPECT_EQ(ParseDuration("0")->count(), 0);
  EXPECT_EQ(FormatDuration(std::chrono::seconds(12)), "12 s");
  EXPECT_EQ(FormatDuration(std::chrono::minutes(3)), "3 min");
}

TEST(Duration, RefusesEverythingElse) {
  for (const char* text : {"", "s", "-1s", "1w", "1..5s", "400d", "1 0s", "99999999999999999s"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(Hex, RoundTripsAndRefuses) {
  const std::array<std::uint8_t, 3> bytes = {0x00, 0xab, 0xff};
  EXPECT_EQ(HexEncode(bytes), "00abff");
  std::array<std::uint8_t, 3> back{};
  EXPECT_TRUE(HexDecode("00ABff", back).ok());
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(HexDecode("00abf", back).ok());
  EXPECT_FALSE(HexDecode("00abfg", back).ok());
}

}  // namespace
}  // namespace farwarp
