// VgpuSource: where `run` and `grant` get vGPUs from: a controller's pool, or a private pool that
// lives as long as the program.
//
// External lock.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/cli/ask.h"
#include "client/cli/child.h"
#include "client/cli/controller_client.h"
#include "client/cli/layout.h"
#include "client/cli/settings.h"
#include "farwarp/base/status.h"
#include "farwarp/wire/grant.h"

namespace farwarp::cli {

class VgpuSource {
 public:
  virtual ~VgpuSource() = default;
  // Readable when Check() should be called; -1 for never.
  virtual int fd() const = 0;
  // News since the last call: an error ends what was granted (or was never).
  virtual Status Check() = 0;
  // What was granted, or nothing yet.
  virtual const std::optional<wire::Grant>& grant() const = 0;
  // The node of the vGPUs, or empty for a private pool.
  virtual std::string node() const { return ""; }
  // Gives everything back.
  virtual void Release() = 0;
};

// Asks the controller; says on standard error why it waits, unless `quiet`.
Result<std::unique_ptr<VgpuSource>> AskController(const std::string& address, const Ask& ask,
                                                  const std::vector<std::string>& node_labels,
                                                  const std::string& program, bool quiet);
// Starts a server of its own. `driver`: empty chooses the real one when it has a device.
Result<std::unique_ptr<VgpuSource>> StartPrivatePool(const Layout& layout, const Ask& ask,
                                                     const std::string& driver,
                                                     const SignalWatch& signals);

}  // namespace farwarp::cli
