#include "controller/service/config.h"

// Without exceptions a broken file is a value, not a throw.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <string_view>

#include "farwarp/base/duration.h"

namespace farwarp::controller {
namespace {

struct Setting {
  std::string_view key;        // In the file.
  const char* variable;        // In the environment.
  std::string Config::* text;  // One of these three.
  pool::Time* (*duration)(Config&);
  std::size_t* (*count)(Config&);
};

#define FARWARP_DURATION(member) [](Config& c) -> pool::Time* { return &c.member; }
const Setting kSettings[] = {
    {"listen", "FARWARP_CONTROLLER_LISTEN", &Config::listen, nullptr, nullptr},
    {"state", "FARWARP_CONTROLLER_STATE", &Config::state, nullptr, nullptr},
    {"log_level", "FARWARP_CONTROLLER_LOG", &Config::log_level, nullptr, nullptr},
    {"heartbeat_interval", "FARWARP_CONTROLLER_HEARTBEAT_INTERVAL", nullptr,
     FARWARP_DURATION(heartbeat_interval), nullptr},
    {"heartbeat_timeout", "FARWARP_CONTROLLER_HEARTBEAT_TIMEOUT", nullptr,
     FARWARP_DURATION(pool.heartbeat_timeout), nullptr},
    {"node_grace", "FARWARP_CONTROLLER_NODE_GRACE", nullptr, FARWARP_DURATION(pool.node_grace),
     nullptr},
    {"lease_grace", "FARWARP_CONTROLLER_LEASE_GRACE", nullptr, FARWARP_DURATION(pool.lease_grace),
     nullptr},
    {"recovery", "FARWARP_CONTROLLER_RECOVERY", nullptr, FARWARP_DURATION(pool.recovery), nullptr},
    {"settling", "FARWARP_CONTROLLER_SETTLING", nullptr, FARWARP_DURATION(pool.settling), nullptr},
    {"max_waiting", "FARWARP_CONTROLLER_MAX_WAITING", nullptr, nullptr,
     [](Config& c) -> std::size_t* { return &c.pool.max_waiting; }},
};
#undef FARWARP_DURATION

// `where` names the file and line, or the variable.
Status Assign(const Setting& setting, const std::string& value, const std::string& where,
              Config& config) {
  if (setting.text != nullptr) {
    config.*setting.text = value;
    return Status::Ok();
  }
  if (setting.duration != nullptr) {
    const auto duration = ParseDuration(value);
    if (!duration.ok()) return Status::Invalid(where + ": " + duration.status().message());
    *setting.duration(config) = *duration;
    return Status::Ok();
  }
  std::size_t number = 0;
  for (const char c : value) {
    if (c < '0' || c > '9' || value.size() > 9)
      return Status::Invalid(where + ": '" + value.substr(0, 40) + "' is not a count");
    number = number * 10 + static_cast<std::size_t>(c - '0');
  }
  if (number == 0) return Status::Invalid(where + ": must be at least 1");
  *setting.count(config) = number;
  return Status::Ok();
}

}  // namespace

Status ReadConfigFile(const std::string& path, Config& config) {
  const toml::parse_result result = toml::parse_file(path);
  if (!result) {
    const toml::parse_error& error = result.error();
    if (error.source().begin.line == 0)
      return Status::Invalid(path + ": " + std::string(error.description()));
    return Status::Invalid(path + ":" + std::to_string(error.source().begin.line) + ": " +
                           std::string(error.description()));
  }
  for (const auto& [key, node] : result.table()) {
    const std::string name(key.str());
    const std::string where = path + ":" + std::to_string(node.source().begin.line) + ": " + name;
    const Setting* setting = nullptr;
    for (const Setting& known : kSettings) {
      if (known.key == name) setting = &known;
    }
    if (setting == nullptr) {
      std::string known;
      for (const Setting& one : kSettings)
        known += (known.empty() ? "" : ", ") + std::string(one.key);
      return Status::Invalid(where + " is not a setting; known are " + known);
    }
    std::string value;
    if (const auto text = node.value_exact<std::string>()) {
      value = *text;
    } else if (const auto number = node.value_exact<std::int64_t>();
               number && setting->text == nullptr) {
      value = std::to_string(*number);
    } else {
      return Status::Invalid(where + " must be text, for example \"10s\"");
    }
    FARWARP_RETURN_IF_ERROR(Assign(*setting, value, where, config));
  }
  return Status::Ok();
}

Status ReadConfigEnvironment(const Environment& environment, Config& config) {
  for (const Setting& setting : kSettings) {
    const char* value = environment(setting.variable);
    if (value == nullptr || *value == '\0') continue;
    FARWARP_RETURN_IF_ERROR(Assign(setting, value, setting.variable, config));
  }
  return Status::Ok();
}

Status CheckConfig(const Config& config) {
  if (config.heartbeat_interval < pool::Time{10} ||
      config.pool.heartbeat_timeout < 2 * config.heartbeat_interval) {
    return Status::Invalid(
        "heartbeat_interval must be at least 10 ms and heartbeat_timeout at least twice as long");
  }
  const std::string_view level = config.log_level;
  for (const std::string_view known : {"off", "error", "warn", "info", "debug", "trace"}) {
    if (level == known) return Status::Ok();
  }
  return Status::Invalid("'" + config.log_level.substr(0, 40) +
                         "' is not a log level; known are off, error, warn, info, debug, trace");
}

std::string DefaultStatePath(const Environment& environment, bool is_root) {
  const auto set = [&](const char* name) -> std::string {
    const char* value = environment(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string directory = set("STATE_DIRECTORY"); !directory.empty())
    return directory.substr(0, directory.find(':')) + "/controller.db";
  if (is_root) return "/var/lib/farwarp/controller.db";
  if (const std::string state = set("XDG_STATE_HOME"); !state.empty())
    return state + "/farwarp/controller.db";
  const std::string home = set("HOME");
  return (home.empty() ? "." : home) + "/.local/state/farwarp/controller.db";
}

}  // namespace farwarp::controller
