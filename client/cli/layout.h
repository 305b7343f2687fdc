// Where the parts of an installation are, seen from the running `farwarp` program.
//
// Reads the file system only; thread-safe.
#pragma once

#include <string>

#include "farwarp/base/status.h"

namespace farwarp::cli {

struct Layout {
  std::string bin;          // Of farwarp and farwarp-server.
  std::string lib;          // Of libcuda.so.1 and libcudart.so.*: what programs load.
  std::string softgpu_lib;  // Of the software GPU's libcuda.so.1.
};

// From the program's own place: BIN, BIN/../lib (BIN/../lib/farwarp when installed) and the softgpu
// folder in there.
Result<Layout> FindLayout();
// As execvp would find it. kNotFound when there is none, kInvalid when it cannot be executed.
Result<std::string> FindProgram(const std::string& name, const char* path_variable);

}  // namespace farwarp::cli
