// A driver that knows two functions.
#include "cuda/driver_api.h"

extern "C" CUresult cuInit(unsigned int) {
  return CUDA_SUCCESS;
}
extern "C" CUresult cuDriverGetVersion(int* version) {
  *version = 12345;
  return CUDA_SUCCESS;
}
