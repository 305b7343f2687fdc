/* Both generated headers are C, in either order; compiling this file is the test. */
#include "cuda/runtime_api.h"
#include "cuda/driver_api.h"

int farwarp_headers_in_c(CUstream stream, cudaStream_t same) {
  struct cudaDeviceProp properties;
  CUlaunchConfig config = {0};
  config.hStream = stream;
  return stream == same && sizeof properties > 0 && config.numAttrs == 0 &&
         CU_LAUNCH_PARAM_BUFFER_POINTER != CU_LAUNCH_PARAM_END && CU_STREAM_LEGACY != stream;
}
