#include "client/cli/settings.h"

// Without exceptions a broken file is a value, not a throw.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace farwarp::cli {
namespace {

struct Known {
  std::string_view key;
  const char* variable;
  std::optional<Setting> Settings::* member;
};
constexpr Known kKnown[] = {
    {"controller", "FARWARP_CONTROLLER", &Settings::controller},
    {"count", "FARWARP_COUNT", &Settings::count},
    {"memory", "FARWARP_MEMORY", &Settings::memory},
    {"fraction", "FARWARP_FRACTION", &Settings::fraction},
    {"compute", "FARWARP_COMPUTE", &Settings::compute},
    {"wait", "FARWARP_WAIT", &Settings::wait},
    {"driver", "FARWARP_DRIVER", &Settings::driver},
};

// What users of other products have in their environment already. The value is completed to our
// spelling.
struct Foreign {
  const char* variable;
  const char* suffix;
  std::optional<Setting> Settings::* member;
};
constexpr Foreign kForeign[] = {
    {"ORION_VGPU", "", &Settings::count},
    {"ORION_GMEM", "Mi", &Settings::memory},
    {"ORION_RATIO", "", &Settings::compute},
};

Status ReadFile(const std::string& path, Settings& settings) {
  if (::access(path.c_str(), F_OK) != 0) return Status::Ok();
  const toml::parse_result result = toml::parse_file(path);
  if (!result) {
    const toml::parse_error& error = result.error();
    return Status::Invalid(path + ":" + std::to_string(error.source().begin.line) + ": " +
                           std::string(error.description()));
  }
  for (const auto& [key, node] : result.table()) {
    const std::string name(key.str());
    const std::string where = path + ":" + std::to_string(node.source().begin.line) + ": " + name;
    const Known* known = nullptr;
    for (const Known& one : kKnown) {
      if (one.key == name) known = &one;
    }
    if (known == nullptr) {
      return Status::Invalid(where +
                             " is not a setting; known are controller, count, memory, fraction, "
                             "compute, wait and driver");
    }
    Setting setting{"", path};
    if (const auto text = node.value_exact<std::string>()) {
      setting.value = *text;
    } else if (const auto number = node.value_exact<std::int64_t>()) {
      setting.value = std::to_string(*number);
    } else if (const auto real = node.value_exact<double>()) {
      char digits[32];
      std::snprintf(digits, sizeof digits, "%g", *real);
      setting.value = digits;
    } else {
      return Status::Invalid(where + " must be text or a number");
    }
    settings.*known->member = setting;
  }
  return Status::Ok();
}

}  // namespace

std::vector<std::string> ConfigFiles(const Environment& environment) {
  std::vector<std::string> files = {"/etc/farwarp/config.toml"};
  const auto set = [&](const char* name) -> std::string {
    const char* value = environment(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string folder = set("XDG_CONFIG_HOME"); !folder.empty()) {
    files.push_back(folder + "/farwarp/config.toml");
  } else if (const std::string home = set("HOME"); !home.empty()) {
    files.push_back(home + "/.config/farwarp/config.toml");
  }
  return files;
}

Result<Settings> LoadSettings(const Environment& environment,
                              const std::vector<std::string>& files_lowest_first) {
  Settings settings;
  for (const std::string& file : files_lowest_first)
    FARWARP_RETURN_IF_ERROR(ReadFile(file, settings));
  for (const Foreign& foreign : kForeign) {
    const char* value = environment(foreign.variable);
    if (value == nullptr || *value == '\0' || settings.*foreign.member) continue;
    settings.*foreign.member = Setting{std::string(value) + foreign.suffix, foreign.variable};
  }
  for (const Known& known : kKnown) {
    const char* value = environment(known.variable);
    if (value == nullptr) continue;
    // An empty variable turns off what a file says.
    settings.*known.member = std::nullopt;
    if (*value != '\0') settings.*known.member = Setting{value, known.variable};
  }
  return settings;
}

}  // namespace farwarp::cli
