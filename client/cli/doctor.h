// `farwarp doctor`: checks one by one what a program needs to run on a vGPU, with advice.
//
// External lock. Returns the exit code: 0 unless a check failed.
#pragma once

#include "client/cli/settings.h"

namespace farwarp::cli {

int Diagnose(const Settings& settings);
// The body of the hidden command that doctor starts with a grant: loads libcuda.so.1 as a program
// would, runs one kernel, prints the milliseconds of each step.
int FirstKernel();

}  // namespace farwarp::cli
