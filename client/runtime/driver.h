// The driver as the runtime sees it: one pointer per documented function, taken from libcuda.so.1
// by cuGetProcAddress at the first CUDA call.
//
// There are two tables of the same shape. The legacy one holds the plain functions; in the
// per-thread one every function that has a twin for per-thread default streams is that twin. The
// exported _ptsz and _ptds functions use the second table and are otherwise the same code. A
// function that the driver lacks is replaced by one that returns CUDA_ERROR_NOT_SUPPORTED, so no
// pointer is ever null.
//
// Filled once by LoadDriver, afterwards read-only: thread-safe. The library stays loaded for the
// life of the process.
#pragma once

#include "cuda/driver_api.h"
#include "farwarp/base/status.h"

namespace farwarp::runtime {

struct Driver {
#define X(name, version, twin_version, symbol) decltype(&::symbol) name;
#include "client/runtime/driver_functions.inc"
#undef X
};

struct DriverTables {
  Driver legacy;
  Driver per_thread;
};

// The oldest driver that this runtime accepts, as cuDriverGetVersion tells it.
inline constexpr int kOldestDriver = 13000;
// The version of the interface that this library implements, as cudaRuntimeGetVersion tells it.
inline constexpr int kRuntimeVersion = 13000;

// Opens libcuda.so.1 and reads its version without initialising it; *version stays 0 without one.
// Fills `tables` only if the driver is new enough.
Status LoadDriver(DriverTables* tables, int* version);

}  // namespace farwarp::runtime
