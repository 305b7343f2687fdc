// A stand-in for the engine, for tests of the driver API alone: a "PTX" text names kernels and
// variables, and what a kernel does is a function of the test.
//
//   .version 9.0
//   .entry NAME BYTES...      a kernel with parameters of these sizes
//   .limits NAME THREADS SHARED   its largest block and static shared memory
//   .broken NAME              a kernel whose body does not decode
//   .global NAME BYTES        a variable
//
// Thread-safe.
#pragma once

#include <functional>
#include <string>

#include "server/softgpu/exec/launch.h"

namespace farwarp::softgpu::fake {

using Body = std::function<Fault(const LaunchRequest&)>;

// What kernels of this name do from now on. Undefined ones do nothing.
void Define(const std::string& kernel, Body body);

}  // namespace farwarp::softgpu::fake
