#include "server/daemon/config.h"

// Without exceptions a broken file is a value, not a throw.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "farwarp/base/bytes.h"
#include "farwarp/base/duration.h"
#include "farwarp/base/log.h"

namespace farwarp::server {
namespace {

// Drivers and their threads take some of it before the program asks for anything.
constexpr std::uint64_t kLeastWorkerMemory = std::uint64_t{512} << 20;

struct Setting {
  std::string_view key;  // In the file and, with dashes, on the command line.
  const char* variable;
  // One of these four.
  std::string Config::* text = nullptr;
  std::chrono::milliseconds Config::* duration = nullptr;
  std::size_t Config::* count = nullptr;
  std::uint64_t Config::* bytes = nullptr;
};

const Setting kSettings[] = {
    {"listen", "FARWARP_SERVER_LISTEN", &Config::listen},
    {"advertise", "FARWARP_SERVER_ADVERTISE", &Config::advertise},
    {"driver", "FARWARP_SERVER_DRIVER", &Config::driver},
    {"controller", "FARWARP_SERVER_CONTROLLER", &Config::controller},
    {"node_name", "FARWARP_SERVER_NODE_NAME", &Config::node_name},
    {"log_level", "FARWARP_SERVER_LOG", &Config::log_level},
    {"handshake_timeout", "FARWARP_SERVER_HANDSHAKE_TIMEOUT", nullptr, &Config::handshake_timeout},
    {"grace", "FARWARP_SERVER_GRACE", nullptr, &Config::grace},
    {"heartbeat", "FARWARP_SERVER_HEARTBEAT", nullptr, &Config::heartbeat},
    {"client_pause", "FARWARP_SERVER_CLIENT_PAUSE", nullptr, &Config::client_pause},
    {"max_connections", "FARWARP_SERVER_MAX_CONNECTIONS", nullptr, nullptr,
     &Config::max_connections},
    {"max_handshakes", "FARWARP_SERVER_MAX_HANDSHAKES", nullptr, nullptr, &Config::max_handshakes},
    {"worker_memory", "FARWARP_SERVER_WORKER_MEMORY", nullptr, nullptr, nullptr,
     &Config::worker_memory},
};

Status Assign(const Setting& setting, const std::string& value, const std::string& where,
              Config& config) {
  if (setting.text != nullptr) {
    config.*setting.text = value;
    return Status::Ok();
  }
  if (setting.duration != nullptr) {
    const auto duration = ParseDuration(value);
    if (!duration.ok()) return Status::Invalid(where + ": " + duration.status().message());
    config.*setting.duration = *duration;
    return Status::Ok();
  }
  if (setting.bytes != nullptr) {
    const auto bytes = ParseBytes(value);
    if (!bytes.ok()) return Status::Invalid(where + ": " + bytes.status().message());
    config.*setting.bytes = *bytes;
    return Status::Ok();
  }
  std::size_t number = 0;
  for (const char c : value) {
    if (c < '0' || c > '9' || value.size() > 6) {
      return Status::Invalid(where + ": '" + value.substr(0, 40) + "' is not a count");
    }
    number = number * 10 + static_cast<std::size_t>(c - '0');
  }
  if (number == 0) return Status::Invalid(where + ": must be at least 1");
  config.*setting.count = number;
  return Status::Ok();
}

const Setting* Find(std::string_view key) {
  const auto found = std::find_if(std::begin(kSettings), std::end(kSettings),
                                  [key](const Setting& setting) { return setting.key == key; });
  return found == std::end(kSettings) ? nullptr : found;
}

Status ReadLabels(const toml::node& node, const std::string& where, Config& config) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return Status::Invalid(where + " must be a table of texts");
  for (const auto& [key, value] : *table) {
    const auto text = value.value_exact<std::string>();
    if (!text) return Status::Invalid(where + "." + std::string(key.str()) + " must be text");
    config.labels[std::string(key.str())] = *text;
  }
  return Status::Ok();
}

// Splits "host:port" at the last colon; the port is empty if there is none.
std::pair<std::string, std::string> SplitEndpoint(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos) return {endpoint, ""};
  return {endpoint.substr(0, colon), endpoint.substr(colon + 1)};
}

bool IsWildcard(const std::string& host) {
  return host.empty() || host == "0.0.0.0" || host == "[::]" || host == "*";
}

}  // namespace

Status SetConfig(Config& config, const std::string& key, const std::string& value,
                 const std::string& where) {
  const Setting* setting = Find(key);
  if (setting == nullptr) return Status::Invalid(where + " is not a setting");
  return Assign(*setting, value, where, config);
}

Status ReadConfigFile(const std::string& path, Config& config) {
  const toml::parse_result result = toml::parse_file(path);
  if (!result) {
    const toml::parse_error& error = result.error();
    const auto line = error.source().begin.line;
    return Status::Invalid(path + (line == 0 ? "" : ":" + std::to_string(line)) + ": " +
                           std::string(error.description()));
  }
  for (const auto& [key, node] : result.table()) {
    const std::string name(key.str());
    const std::string where = path + ":" + std::to_string(node.source().begin.line) + ": " + name;
    if (name == "labels") {
      FARWARP_RETURN_IF_ERROR(ReadLabels(node, where, config));
      continue;
    }
    const Setting* setting = Find(name);
    if (setting == nullptr) {
      std::string known;
      for (const Setting& one : kSettings) known += std::string(one.key) + ", ";
      return Status::Invalid(where + " is not a setting; known are " + known + "labels");
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

Status CompleteConfig(const std::string& host_name, Config& config) {
  if (config.listen.empty()) config.listen = config.is_private ? "127.0.0.1:0" : "0.0.0.0:7461";
  if (config.log_level.empty()) config.log_level = config.is_private ? "warn" : "info";
  if (config.node_name.empty()) config.node_name = host_name.empty() ? "node" : host_name;
  if (config.driver.empty()) {
    return Status::Invalid("--driver must be softgpu or name a libcuda.so.1");
  }
  if (config.is_private && (config.lease_fd < 0 || config.address_fd < 0)) {
    return Status::Invalid("--private needs --lease-fd and --address-fd");
  }
  if (!config.is_private && (config.lease_fd >= 0 || config.address_fd >= 0)) {
    return Status::Invalid("--lease-fd and --address-fd belong to --private");
  }
  if (config.is_private) config.controller.clear();
  const bool has_port =
      config.controller.find(':', config.controller.rfind(']') + 1) != std::string::npos;
  if (!config.controller.empty() && !has_port) config.controller += ":7460";
  const bool good_name =
      config.node_name.size() <= 253 &&
      std::all_of(config.node_name.begin(), config.node_name.end(), [](unsigned char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-';
      });
  if (!good_name) {
    return Status::Invalid("node name '" + config.node_name.substr(0, 60) +
                           "' may only have letters, digits, '.', '_' and '-'");
  }
  if (config.handshake_timeout < std::chrono::milliseconds(10) ||
      config.handshake_timeout > std::chrono::minutes(1)) {
    return Status::Invalid("handshake_timeout must be between 10 ms and 1 min");
  }
  if (config.heartbeat < std::chrono::milliseconds(50) ||
      config.heartbeat > std::chrono::minutes(1)) {
    return Status::Invalid("heartbeat must be between 50 ms and 1 min");
  }
  if (config.client_pause > std::chrono::hours(24 * 7)) {
    return Status::Invalid("client_pause must be 7d at most");
  }
  if (config.worker_memory < kLeastWorkerMemory) {
    return Status::Invalid("worker_memory must be at least 512Mi");
  }
  if (config.log_level != "off" && ParseLogLevel(config.log_level.c_str()) == LogLevel::kOff) {
    return Status::Invalid("log level '" + config.log_level.substr(0, 40) +
                           "' is unknown; use off, error, warn, info, debug or trace");
  }
  if (!config.is_private && config.controller.empty()) {
    return Status::Invalid(
        "no controller is named, so nobody could be served; give --controller host:port, "
        "FARWARP_SERVER_CONTROLLER or 'controller' in the file (without a pool, 'farwarp run' "
        "starts a server of its own)");
  }
  return Status::Ok();
}

std::string AdvertisedEndpoint(const Config& config, const std::string& listening,
                               const std::string& host_name) {
  const auto [listen_host, port] = SplitEndpoint(listening);
  if (!config.advertise.empty()) {
    // Without a port, or with port 0, the one that the listener got.
    const bool v6_only = config.advertise.front() == '[' && config.advertise.back() == ']';
    const auto [host, own_port] = SplitEndpoint(config.advertise);
    if (v6_only || own_port.empty()) return config.advertise + ":" + port;
    return own_port == "0" ? host + ":" + port : config.advertise;
  }
  if (!IsWildcard(listen_host)) return listening;
  return (host_name.empty() ? "127.0.0.1" : host_name) + ":" + port;
}

}  // namespace farwarp::server
