// Launches for those who run them later: checked now, as a launch is, and turned into a body for a
// Work. Thread-safe.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "farwarp/graph/work.h"
#include "server/softgpu/api/driver.h"

namespace farwarp::softgpu {

// Checks a kernel and the shape of its launch in `context`, and tells its parameters' layout.
CUresult DescribeLaunch(Driver& driver, const std::shared_ptr<Context>& context,
                        const graph::KernelWork& kernel, std::vector<graph::ParameterPlace>* places,
                        std::size_t* bytes);
// Checks a launch with its attributes; `body` runs it.
CUresult PrepareLaunch(Driver& driver, const std::shared_ptr<Context>& context,
                       const graph::KernelWork& kernel, Work::Body* body);

}  // namespace farwarp::softgpu
