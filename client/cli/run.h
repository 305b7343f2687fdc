// `farwarp run` and `farwarp grant`: get vGPUs, start the program with them, give them back.
//
// External lock; installs signal handling for the whole process.
#pragma once

#include <string>
#include <vector>

#include "client/cli/ask.h"
#include "client/cli/settings.h"

namespace farwarp::cli {

struct RunOptions {
  AskText ask;
  Settings settings;
  std::vector<std::string> node_labels;  // "key=value"
  std::vector<std::string> command;      // Empty for grant.
  bool quiet = false;                    // No news about waiting.
};

// Returns the exit code.
int Run(const RunOptions& options);
// Prints the grant as one line and holds the lease until standard input ends or a signal comes.
int Grant(const RunOptions& options);

}  // namespace farwarp::cli
