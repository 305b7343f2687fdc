// What -n, -m, -p, --compute and --wait mean.
#include "client/cli/ask.h"

#include <gtest/gtest.h>

#include "farwarp/base/bytes.h"

namespace farwarp::cli {
namespace {

TEST(ParseAsk, NothingMeansOneWholeDevice) {
  const auto ask = ParseAsk({});
  ASSERT_TRUE(ask.ok());
  EXPECT_EQ(ask->vgpus, (std::vector<pool::VgpuAsk>{{0, 0, 0}}));
  EXPECT_EQ(ask->wait.count(), 0);
}

TEST(ParseAsk, OneSizeIsForAllAndAListIsOneForEach) {
  EXPECT_EQ(ParseAsk({.count = "2", .memory = "1Gi"})->vgpus,
            (std::vector<pool::VgpuAsk>{{kGiB, 0, 0}, {kGiB, 0, 0}}));
  EXPECT_EQ(ParseAsk({.memory = "1Gi,2Gi"})->vgpus,
            (std::vector<pool::VgpuAsk>{{kGiB, 0, 0}, {2 * kGiB, 0, 0}}));
  EXPECT_FALSE(ParseAsk({.count = "3", .memory = "1Gi,2Gi"}).ok());
}

TEST(ParseAsk, AFractionIsOfMemoryAndComputeUnlessTold) {
  EXPECT_EQ(ParseAsk({.fraction = "0.5"})->vgpus[0], (pool::VgpuAsk{0, 50, 50}));
  EXPECT_EQ(ParseAsk({.fraction = "1"})->vgpus[0], (pool::VgpuAsk{0, 100, 100}));
  EXPECT_EQ(ParseAsk({.fraction = "0.001"})->vgpus[0], (pool::VgpuAsk{0, 1, 1}));
  EXPECT_EQ(ParseAsk({.memory = "1Gi", .fraction = "0.5"})->vgpus[0], (pool::VgpuAsk{kGiB, 0, 50}));
  EXPECT_EQ(ParseAsk({.fraction = "0.5", .compute = "20"})->vgpus[0], (pool::VgpuAsk{0, 50, 20}));
  EXPECT_EQ(ParseAsk({.memory = "1Gi", .compute = "30%"})->vgpus[0], (pool::VgpuAsk{kGiB, 0, 30}));
}

TEST(ParseAsk, ErrorsNameTheOption) {
  const auto message = [](const AskText& text) { return ParseAsk(text).status().message(); };
  for (const char* bad : {"0", "-1", "65", "1.5", "two", "1e1", "99999999999999999999999"})
    EXPECT_NE(message({.count = bad}).find("-n takes"), std::string::npos) << bad;
  for (const char* bad : {"0", "1.1", "-0.5", "half", "nan", "0.5.5"})
    EXPECT_NE(message({.fraction = bad}).find("-p takes"), std::string::npos) << bad;
  for (const char* bad : {"0", "101", "1.5", "%"})
    EXPECT_NE(message({.compute = bad}).find("--compute takes"), std::string::npos) << bad;
  for (const char* bad : {"much", "1Gi,", ",", "0", "-1Gi"})
    EXPECT_NE(message({.memory = bad}).find("-m:"), std::string::npos) << bad;
  EXPECT_NE(message({.wait = "soon"}).find("--wait:"), std::string::npos);
  std::string many = "1Mi";
  for (int i = 0; i < 100; ++i) many += ",1Mi";
  EXPECT_FALSE(ParseAsk({.memory = many}).ok());
}

}  // namespace
}  // namespace farwarp::cli
