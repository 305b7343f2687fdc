// JitOptions: the options of cuModuleLoadDataEx and cuLibraryLoadData. What steers a compiler for
// real hardware is accepted and ignored; the log buffers are filled. External lock.
#pragma once

#include <chrono>

#include "cuda/driver_api.h"
#include "server/softgpu/exec/module.h"

namespace farwarp::softgpu {

class JitOptions {
 public:
  // The arrays belong to the caller and are written to by Finish.
  JitOptions(unsigned count, CUjit_option* options, void** values);

  // CUDA_ERROR_INVALID_VALUE if the arrays are missing or hold an unknown option.
  CUresult Check() const;
  // Writes the logs into the caller's buffers, cut to their sizes, and what they hold.
  void Finish(const JitLog& log);

 private:
  void Write(const std::string& text, CUjit_option buffer, CUjit_option size);
  void** Find(CUjit_option option);

  const unsigned count_;
  CUjit_option* const options_;
  void** const values_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace farwarp::softgpu
