// The checks that every launch passes, whether it goes to a stream or becomes a node of a graph.
// Thread-safe.
#pragma once

#include "client/driver/module/module.h"
#include "cuda/driver_api.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

struct Device;

// Grid, block and shared memory against what the device and the kernel allow.
CUresult CheckLaunchShape(const Device& device, const Launchable& kernel,
                          const wire::LaunchShape& shape);
// The size of clusters, given by the launch (null: it gives none) or required by the kernel.
CUresult CheckCluster(const Device& device, const Launchable& kernel,
                      const wire::LaunchShape& shape, const CUlaunchAttribute* given);
// Takes one attribute into `shape`; `send` tells whether it travels by itself. Hints do neither.
CUresult ReadLaunchAttribute(const CUlaunchAttribute& attribute, wire::LaunchShape* shape,
                             bool* send);

}  // namespace farwarp::client
