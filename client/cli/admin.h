// `farwarp smi`, `ps`, `nodes`, `drain` and `undrain`: one question to the controller each.
//
// External lock. Each returns the exit code.
#pragma once

#include <string>

#include "client/cli/settings.h"

namespace farwarp::cli {

enum class Output { kText, kJson };

int ShowPool(const Settings& settings, Output output);
int ShowLeases(const Settings& settings, Output output);
int ShowNodes(const Settings& settings, Output output);
int ForgetNode(const Settings& settings, const std::string& node);
int SetDraining(const Settings& settings, const std::string& node, bool draining);

}  // namespace farwarp::cli
