// Error codes of the runtime: their names, their texts, and how the driver's codes become them.
//
// Pure functions, thread-safe.
#pragma once

#include "cuda/driver_api.h"
#include "cuda/runtime_api.h"

namespace farwarp::runtime {

// Since CUDA 10.1 both libraries use the same numbers, except for codes that only one of them has.
cudaError_t ToRuntimeError(CUresult result) noexcept;
inline cudaError_t ToRuntimeError(cudaError_t error) noexcept {
  return error;
}

// The code's name or text, or nullptr for a number that is no code.
const char* ErrorName(cudaError_t error) noexcept;
const char* ErrorText(cudaError_t error) noexcept;

// True for errors that leave the context unusable: every later call on it reports them again.
bool IsSticky(cudaError_t error) noexcept;

}  // namespace farwarp::runtime
