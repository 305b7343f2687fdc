// The daemon's settings, from the command line, the environment and one TOML file, in this order of
// precedence.
//
// Value type; loading is done once by main before threads start.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "farwarp/base/status.h"

namespace farwarp::server {

struct Config {
  std::string listen;     // host:port; empty: 0.0.0.0:7461, or 127.0.0.1:0 in private mode.
  std::string advertise;  // What clients connect to; empty: from `listen`.
  std::string driver = "libcuda.so.1";  // A path, a name to search for, or "softgpu".
  std::string controller;               // Empty: none.
  std::string node_name;                // Empty: the host's name.
  std::string log_level;                // Empty: "info", or "warn" in private mode.
  std::size_t max_connections = 256;
  std::size_t max_handshakes = 512;
  std::uint64_t worker_memory = std::uint64_t{8} << 30;  // Bytes of one worker's own.
  std::chrono::milliseconds handshake_timeout{2000};
  std::chrono::milliseconds grace{2000};
  std::chrono::milliseconds heartbeat{1000};
  std::chrono::milliseconds client_pause{std::chrono::minutes(10)};
  std::map<std::string, std::string> labels;
  // Private mode; command line only.
  bool is_private = false;
  int lease_fd = -1;
  int address_fd = -1;
};

// Looks a variable up; nullptr when it is not set. std::getenv in main.
using Environment = std::function<const char*(const char* name)>;

// Reads keys of the file over `config`. An unknown key or a value of the wrong kind is an error
// that names the place.
Status ReadConfigFile(const std::string& path, Config& config);
// FARWARP_SERVER_LISTEN, FARWARP_SERVER_DRIVER, … over `config`.
Status ReadConfigEnvironment(const Environment& environment, Config& config);
// One setting by its name in the file, from text; `where` begins the error message.
Status SetConfig(Config& config, const std::string& key, const std::string& value,
                 const std::string& where);
// Fills in what depends on other settings, and checks the rules between them.
Status CompleteConfig(const std::string& host_name, Config& config);
// What clients are told, given what the listener got: its port, and a host that is not a wildcard.
std::string AdvertisedEndpoint(const Config& config, const std::string& listening,
                               const std::string& host_name);

}  // namespace farwarp::server
