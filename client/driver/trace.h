// Trace: one line per CUDA call and its result at FARWARP_LOG=trace; one relaxed load otherwise.
//
// Thread-safe.
#pragma once

#include "cuda/driver_api.h"
#include "farwarp/base/log.h"

namespace farwarp::client {

// "CUDA_ERROR_…", or nullptr for a number that is no result.
const char* ResultName(CUresult result) noexcept;

class Trace {
 public:
  explicit Trace(const char* name) noexcept : name_(name) {}
  CUresult Done(CUresult result) const noexcept {
    if (LogEnabled(LogLevel::kTrace)) Write(result);
    return result;
  }

 private:
  void Write(CUresult result) const noexcept;

  const char* name_;
};

}  // namespace farwarp::client
