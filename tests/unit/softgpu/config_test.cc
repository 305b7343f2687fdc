#include "server/softgpu/api/config.h"

#include <gtest/gtest.h>

namespace farwarp::softgpu {
namespace {

TEST(SoftGpuConfig, HasDefaults) {
  const SoftGpuConfig config = SoftGpuConfig::Parse("").value();
  EXPECT_EQ(config.devices, 1);
  EXPECT_EQ(config.memory_bytes, std::uint64_t{16} << 30);
  EXPECT_EQ(config.name, "Farwarp Software GPU");
  EXPECT_EQ(config.major, 12);
  EXPECT_EQ(config.minor, 1);
}

TEST(SoftGpuConfig, ReadsEveryKey) {
  const SoftGpuConfig config =
      SoftGpuConfig::Parse("devices=3,memory=512MiB,name=My GPU,cc=7.5,sms=80").value();
  EXPECT_EQ(config.devices, 3);
  EXPECT_EQ(config.memory_bytes, std::uint64_t{512} << 20);
  EXPECT_EQ(config.name, "My GPU");
  EXPECT_EQ(config.major, 7);
  EXPECT_EQ(config.minor, 5);
  EXPECT_EQ(config.multiprocessors, 80);
}

TEST(SoftGpuConfig, RefusesBadValuesAndNamesThem) {
  for (const char* text :
       {"devices=-1", "devices=65", "devices=2x", "memory=0", "memory=9999GiB", "memory=lots",
        "cc=12", "cc=99.1", "cc=x.y", "sms=0", "name=", "colour=red", "devices"}) {
    const auto parsed = SoftGpuConfig::Parse(text);
    ASSERT_FALSE(parsed.ok()) << text;
    const std::string key = std::string(text).substr(0, std::string(text).find('='));
    EXPECT_NE(parsed.status().message().find(key), std::string::npos) << parsed.status().message();
  }
}

TEST(SoftGpuConfig, ReadsHowKernelsRun) {
  const SoftGpuConfig usual = SoftGpuConfig::Parse("").value();
  EXPECT_EQ(usual.watchdog.count(), 0);
  EXPECT_EQ(usual.threads, 0);
  EXPECT_EQ(usual.seed, 0u);
  const SoftGpuConfig config = SoftGpuConfig::Parse("watchdog=2s,threads=3,seed=42").value();
  EXPECT_EQ(config.watchdog, std::chrono::seconds(2));
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.seed, 42u);
  for (const char* wrong : {"watchdog=25h", "watchdog=-1s", "watchdog=x", "threads=0",
                            "threads=257", "seed=-1", "seed=2147483648", "seed="}) {
    EXPECT_FALSE(SoftGpuConfig::Parse(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace farwarp::softgpu
