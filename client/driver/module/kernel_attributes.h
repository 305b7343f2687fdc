// Attributes of functions and kernels: read from the function table, except for those that a
// program may set, which live in the Launchable.
//
// Thread-safe.
#pragma once

#include <cstddef>

#include "client/driver/launch/occupancy.h"
#include "client/driver/module/module.h"
#include "cuda/driver_api.h"

namespace farwarp::client {

CUresult GetKernelAttribute(const Launchable& kernel, CUfunction_attribute attribute, int* value);
// Checks and stores; the caller tells the server.
CUresult SetKernelAttribute(Launchable& kernel, const DeviceLimits& device,
                            CUfunction_attribute attribute, int value);
CUresult ParameterInfo(const KernelInfo& info, std::size_t index, std::size_t* offset,
                       std::size_t* bytes);
KernelResources ResourcesOf(const Launchable& kernel);

}  // namespace farwarp::client
