// The small parts of the command line program: settings, JSON, tables, finding programs.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>

#include "client/cli/json.h"
#include "client/cli/layout.h"
#include "client/cli/settings.h"
#include "client/cli/table.h"
#include "client/cli/views.h"
#include "farwarp/base/bytes.h"

namespace farwarp::cli {
namespace {

Environment With(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

class SettingsTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = ::testing::TempDir() + "/farwarp-settings-" + name;
    std::ofstream(path) << text;
    files_.push_back(path);
    return path;
  }
  ~SettingsTest() override {
    for (const std::string& file : files_) std::remove(file.c_str());
  }
  std::vector<std::string> files_;
};

TEST_F(SettingsTest, EnvironmentOverUserOverSystem) {
  const std::string system =
      Write("system", "controller = \"system:1\"\nwait = \"5s\"\ncount = 2\n");
  const std::string user = Write("user", "controller = \"user:2\"\nfraction = 0.5\n");
  auto settings = LoadSettings(With({}), {system, user, "/does/not/exist"});
  ASSERT_TRUE(settings.ok()) << settings.status().message();
  EXPECT_EQ(settings->controller->value, "user:2");
  EXPECT_EQ(settings->controller->origin, user);
  EXPECT_EQ(settings->wait->value, "5s");
  EXPECT_EQ(settings->count->value, "2");
  EXPECT_EQ(settings->fraction->value, "0.5");
  settings =
      LoadSettings(With({{"FARWARP_CONTROLLER", "env:3"}, {"FARWARP_WAIT", ""}}), {system, user});
  EXPECT_EQ(settings->controller->value, "env:3");
  EXPECT_EQ(settings->controller->origin, "FARWARP_CONTROLLER");
  EXPECT_FALSE(settings->wait);
}

TEST_F(SettingsTest, KnowsVariablesOfOtherProducts) {
  auto settings = LoadSettings(With({{"ORION_VGPU", "2"}, {"ORION_GMEM", "1024"}}), {});
  EXPECT_EQ(settings->count->value, "2");
  EXPECT_EQ(settings->memory->value, "1024Mi");
  settings = LoadSettings(With({{"ORION_VGPU", "2"}, {"FARWARP_COUNT", "3"}}), {});
  EXPECT_EQ(settings->count->value, "3");
}

TEST_F(SettingsTest, ErrorsNameThePlace) {
  const auto message = [&](const std::string& text) {
    return LoadSettings(With({}), {Write("bad", text)}).status().message();
  };
  EXPECT_NE(message("\ncontroler = \"x\"\n").find(":2: controler is not a setting"),
            std::string::npos);
  EXPECT_NE(message("controller = [1]\n").find("must be text"), std::string::npos);
  EXPECT_NE(message("controller = \n").find("farwarp-settings-bad:1"), std::string::npos);
}

TEST_F(SettingsTest, FindsTheFiles) {
  EXPECT_EQ(
      ConfigFiles(With({{"HOME", "/h"}})),
      (std::vector<std::string>{"/etc/farwarp/config.toml", "/h/.config/farwarp/config.toml"}));
  EXPECT_EQ(ConfigFiles(With({{"HOME", "/h"}, {"XDG_CONFIG_HOME", "/x"}})).back(),
            "/x/farwarp/config.toml");
}

TEST(JsonWriter, EscapesAndSeparates) {
  JsonWriter json;
  json.BeginObject().Field("a", "q\"\\\n").Field("n", std::uint64_t{7}).Field("b", true);
  json.Key("l").BeginArray().Number(1).String("x").BeginObject().EndObject().EndArray();
  json.Key("e").BeginArray().EndArray().EndObject();
  EXPECT_EQ(json.text(), R"({"a":"q\"\\\u000a","n":7,"b":true,"l":[1,"x",{}],"e":[]})");
}

TEST(Table, AlignsAndKeepsControlCharactersFromTheTerminal) {
  Table table({"NAME", ">N"});
  table.Add({"ä\x1b[31m", "5"});
  table.Add({"b", "100"});
  EXPECT_EQ(table.Text(), "NAME      N\nä?[31m    5\nb       100\n");
}

TEST(Views, ShowSharesAndWaitingReasons) {
  v1::ListLeasesResponse leases;
  v1::Lease& lease = *leases.add_leases();
  lease.set_lease_id(std::string(16, '\xab'));
  lease.set_state(v1::Lease::ACTIVE);
  lease.set_node("a");
  lease.set_age_ms(65'000);
  lease.mutable_client()->set_user("u");
  lease.mutable_client()->set_host("h");
  for (const std::uint64_t bytes : {kGiB, kGiB, 2 * kGiB}) {
    v1::Vgpu& vgpu = *lease.add_vgpus()->mutable_vgpu();
    vgpu.set_memory_bytes(bytes);
    vgpu.set_compute_percent(10);
  }
  v1::Waiting& waiting = *leases.add_waiting();
  waiting.set_position(1);
  waiting.set_reason("no room");
  waiting.add_vgpus()->set_memory_percent(50);
  const std::string text = LeasesText(leases);
  for (const char* part :
       {"abababab", "2 x 1 GiB/10 %, 2 GiB/10 %", "u@h", "65 s", "no room", "1 x 50 % of a device"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  const std::string json = LeasesJson(leases);
  EXPECT_NE(json.find("\"lease_id\":\"abababababababababababababababab\""), std::string::npos);
  EXPECT_NE(json.find("\"waiting\":[{\"position\":1,\"reason\":\"no room\""), std::string::npos);
}

TEST(FindProgram, LooksWhereTheShellLooks) {
  EXPECT_EQ(*FindProgram("sh", "/does/not/exist:/bin"), "/bin/sh");
  EXPECT_EQ(*FindProgram("/bin/sh", nullptr), "/bin/sh");
  EXPECT_EQ(FindProgram("no-such-program", "/bin").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(FindProgram("/etc/passwd", "/bin").status().code(), StatusCode::kInvalid);
  EXPECT_EQ(FindProgram("/etc", "/bin").status().code(), StatusCode::kInvalid);
  EXPECT_EQ(FindProgram("", "/bin").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace farwarp::cli
