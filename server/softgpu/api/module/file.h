// ReadImageFile: the contents of a file of device code. Thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/driver_api.h"

namespace farwarp::softgpu {

// CUDA_ERROR_FILE_NOT_FOUND, or CUDA_ERROR_INVALID_IMAGE for files no image can be as large as.
CUresult ReadImageFile(const char* path, std::vector<std::byte>* contents);

}  // namespace farwarp::softgpu
