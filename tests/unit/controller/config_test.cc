// The controller's settings: precedence, and errors that name the place.
#include "controller/service/config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>

namespace farwarp::controller {
namespace {

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() : path_(::testing::TempDir() + "/controller-config-test.toml") {}
  ~ConfigTest() override { std::remove(path_.c_str()); }
  Status Read(const std::string& text, Config& config) {
    std::ofstream(path_) << text;
    return ReadConfigFile(path_, config);
  }
  static Environment With(std::map<std::string, std::string> variables) {
    return [variables = std::move(variables)](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    };
  }
  std::string path_;
};

TEST_F(ConfigTest, TheEnvironmentGoesOverTheFile) {
  Config config;
  ASSERT_TRUE(
      Read("listen = \"0.0.0.0:1\"\nlease_grace = \"7s\"\nmax_waiting = 5\nrecovery = 9\n", config)
          .ok());
  EXPECT_EQ(config.listen, "0.0.0.0:1");
  EXPECT_EQ(config.pool.lease_grace, pool::Time{7000});
  EXPECT_EQ(config.pool.recovery, pool::Time{9000});
  EXPECT_EQ(config.pool.max_waiting, 5u);
  ASSERT_TRUE(ReadConfigEnvironment(With({{"FARWARP_CONTROLLER_LISTEN", "[::1]:2"}}), config).ok());
  EXPECT_EQ(config.listen, "[::1]:2");
  EXPECT_TRUE(CheckConfig(config).ok());
}

TEST_F(ConfigTest, ErrorsNameThePlace) {
  Config config;
  EXPECT_NE(Read("\nlitsen = \"x\"\n", config).message().find(":2: litsen is not a setting"),
            std::string::npos);
  EXPECT_NE(Read("lease_grace = \"soon\"\n", config).message().find("is not a duration"),
            std::string::npos);
  EXPECT_NE(Read("listen = 7\n", config).message().find("must be text"), std::string::npos);
  EXPECT_NE(Read("max_waiting = -7\n", config).message().find("not a count"), std::string::npos);
  EXPECT_NE(Read("listen = \n", config).message().find(":1"), std::string::npos);
  EXPECT_FALSE(ReadConfigFile("/does/not/exist.toml", config).ok());
  const Status variable =
      ReadConfigEnvironment(With({{"FARWARP_CONTROLLER_NODE_GRACE", "x"}}), config);
  EXPECT_NE(variable.message().find("FARWARP_CONTROLLER_NODE_GRACE"), std::string::npos);
}

TEST_F(ConfigTest, ChecksRulesBetweenValues) {
  Config config;
  config.pool.heartbeat_timeout = config.heartbeat_interval;
  EXPECT_FALSE(CheckConfig(config).ok());
  config = Config{};
  config.log_level = "loud";
  EXPECT_FALSE(CheckConfig(config).ok());
}

TEST_F(ConfigTest, ChoosesAStatePathForEverybody) {
  EXPECT_EQ(DefaultStatePath(With({}), true), "/var/lib/farwarp/controller.db");
  EXPECT_EQ(DefaultStatePath(With({{"STATE_DIRECTORY", "/s:/t"}}), false), "/s/controller.db");
  EXPECT_EQ(DefaultStatePath(With({{"HOME", "/h"}}), false),
            "/h/.local/state/farwarp/controller.db");
  EXPECT_EQ(DefaultStatePath(With({{"HOME", "/h"}, {"XDG_STATE_HOME", "/x"}}), false),
            "/x/farwarp/controller.db");
}

}  // namespace
}  // namespace farwarp::controller
