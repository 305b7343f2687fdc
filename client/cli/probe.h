// Asks a CUDA driver library which devices it has, in a short-lived process of its own: a driver
// may start threads, take memory or crash, and none of that may happen to `farwarp`.
//
// Call while this process has one thread (it forks).
#pragma once

#include <string>
#include <vector>

#include "controller/pool/types.h"
#include "farwarp/base/status.h"

namespace farwarp::cli {

struct Probed {
  std::string path;  // What the loader really opened.
  int driver_version = 0;
  std::vector<pool::Device> devices;  // ordinal, name and memory_bytes.
};

// `library`: a path, or a name that the loader looks up. A library that lies in `own_lib` is our
// own client library and refused: it would ask for vGPUs again.
Result<Probed> ProbeDriver(const std::string& library, const std::string& own_lib);

}  // namespace farwarp::cli
