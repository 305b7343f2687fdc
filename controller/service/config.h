// The controller's settings, from the command line, the environment and one TOML file, in this
// order of precedence.
//
// Value type; loading is done once by main before threads start.
#pragma once

#include <functional>
#include <string>

#include "controller/pool/pool.h"
#include "farwarp/base/status.h"

namespace farwarp::controller {

struct Config {
  std::string listen = "127.0.0.1:7460";
  std::string state;  // Empty: DefaultStatePath().
  std::string log_level = "info";
  pool::Time heartbeat_interval{1000};
  pool::Time hello_timeout{5000};  // A node's stream must say who it is within this.
  pool::PoolConfig pool;
};

// Looks a variable up; nullptr when it is not set. std::getenv in main.
using Environment = std::function<const char*(const char* name)>;

// Reads keys of the file over `config`. An unknown key or a value of the wrong kind is an error
// that names the place.
Status ReadConfigFile(const std::string& path, Config& config);
// FARWARP_CONTROLLER_LISTEN, _STATE, _LOG, _LEASE_GRACE, … over `config`.
Status ReadConfigEnvironment(const Environment& environment, Config& config);
// Rules between values.
Status CheckConfig(const Config& config);
// $STATE_DIRECTORY (systemd), /var/lib/farwarp for root, else the user's state directory.
std::string DefaultStatePath(const Environment& environment, bool is_root);

}  // namespace farwarp::controller
