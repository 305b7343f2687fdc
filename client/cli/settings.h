// Where the `farwarp` program takes its settings from: command line over environment over
// ~/.config/farwarp/config.toml over /etc/farwarp/config.toml.
//
// Value type; loaded once.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "farwarp/base/status.h"

namespace farwarp::cli {

// One setting with the place it came from, for messages and `farwarp doctor`.
struct Setting {
  std::string value;
  std::string origin;  // "--controller", "FARWARP_CONTROLLER", or a file.
};

struct Settings {
  std::optional<Setting> controller;  // host:port
  std::optional<Setting> count;       // As -n, -m, -p, --compute, --wait take them.
  std::optional<Setting> memory;
  std::optional<Setting> fraction;
  std::optional<Setting> compute;
  std::optional<Setting> wait;
  std::optional<Setting> driver;  // Of a private pool: "softgpu" or a path.
};

using Environment = std::function<const char*(const char* name)>;

// Files that are not there are skipped; unknown keys and wrong values are errors that name the
// place.
Result<Settings> LoadSettings(const Environment& environment,
                              const std::vector<std::string>& files_lowest_first);
// /etc/farwarp/config.toml, then the user's.
std::vector<std::string> ConfigFiles(const Environment& environment);

}  // namespace farwarp::cli
