#include "client/runtime/launch.h"

#include <cstdint>

namespace farwarp::runtime {
namespace {

// Upper bounds that hold for every device of compute capability 3.0 and above; a device's own and a
// kernel's own limits are the driver's to check.
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxBlockZ = 64;
constexpr unsigned kMaxGridX = 0x7fffffff;
constexpr unsigned kMaxGridYZ = 0xffff;

Outcome LaunchCooperative(const Driver& d, const void* host, const LaunchShape& shape,
                          void** arguments, cudaStream_t stream) {
  CUkernel kernel = nullptr;
  if (const cudaError_t error = CheckShape(shape); error != cudaSuccess) return error;
  if (const cudaError_t error = ResolveKernel(d, host, &kernel); error != cudaSuccess) return error;
  return d.LaunchCooperativeKernel(AsFunction(kernel), shape.grid.x, shape.grid.y, shape.grid.z,
                                   shape.block.x, shape.block.y, shape.block.z,
                                   static_cast<unsigned>(shape.shared_bytes), stream, arguments);
}

Outcome LaunchEx(const Driver& d, const cudaLaunchConfig_t* config, const void* host,
                 void** arguments) {
  if (config == nullptr || (config->numAttrs > 0 && config->attrs == nullptr)) {
    return cudaErrorInvalidValue;
  }
  const LaunchShape shape{config->gridDim, config->blockDim, config->dynamicSmemBytes};
  CUkernel kernel = nullptr;
  if (const cudaError_t error = CheckShape(shape); error != cudaSuccess) return error;
  if (const cudaError_t error = ResolveKernel(d, host, &kernel); error != cudaSuccess) return error;
  CUlaunchConfig driver_config = {};
  driver_config.gridDimX = shape.grid.x;
  driver_config.gridDimY = shape.grid.y;
  driver_config.gridDimZ = shape.grid.z;
  driver_config.blockDimX = shape.block.x;
  driver_config.blockDimY = shape.block.y;
  driver_config.blockDimZ = shape.block.z;
  driver_config.sharedMemBytes = static_cast<unsigned>(shape.shared_bytes);
  driver_config.hStream = config->stream;
  driver_config.attrs = Convert<CUlaunchAttribute*>(config->attrs);
  driver_config.numAttrs = config->numAttrs;
  return d.LaunchKernelEx(&driver_config, AsFunction(kernel), arguments, nullptr);
}

}  // namespace

cudaError_t ResolveKernel(const Driver& d, const void* host, CUkernel* kernel) {
  Function* function = Registry::Get().FindFunction(host);
  if (function == nullptr) return cudaErrorInvalidDeviceFunction;
  return function->Resolve(d, kernel);
}

cudaError_t CheckShape(const LaunchShape& shape) noexcept {
  const dim3& g = shape.grid;
  const dim3& b = shape.block;
  if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0) {
    return cudaErrorInvalidConfiguration;
  }
  if (g.x > kMaxGridX || g.y > kMaxGridYZ || g.z > kMaxGridYZ || b.x > kMaxThreads ||
      b.y > kMaxThreads || b.z > kMaxBlockZ || b.x * b.y * b.z > kMaxThreads) {
    return cudaErrorInvalidConfiguration;
  }
  return shape.shared_bytes > UINT32_MAX ? cudaErrorInvalidValue : cudaSuccess;
}

Outcome Launch(const Driver& d, Function* function, const LaunchShape& shape, void** arguments,
               cudaStream_t stream) {
  if (function == nullptr) return cudaErrorInvalidDeviceFunction;
  if (const cudaError_t error = CheckShape(shape); error != cudaSuccess) return error;
  CUkernel kernel = nullptr;
  if (const cudaError_t error = function->Resolve(d, &kernel); error != cudaSuccess) return error;
  return d.LaunchKernel(AsFunction(kernel), shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x,
                        shape.block.y, shape.block.z, static_cast<unsigned>(shape.shared_bytes),
                        stream, arguments, nullptr);
}

}  // namespace farwarp::runtime

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

RT_API_PTSZ(cudaLaunchKernel,
            (const void* func, dim3 gridDim, dim3 blockDim, void** args, size_t sharedMem,
             cudaStream_t stream),
            {
              return Launch(d, Registry::Get().FindFunction(func), {gridDim, blockDim, sharedMem},
                            args, stream);
            })

RT_API_PTSZ(cudaLaunchCooperativeKernel,
            (const void* func, dim3 gridDim, dim3 blockDim, void** args, size_t sharedMem,
             cudaStream_t stream),
            { return LaunchCooperative(d, func, {gridDim, blockDim, sharedMem}, args, stream); })

RT_API_PTSZ(cudaLaunchKernelExC, (const cudaLaunchConfig_t* config, const void* func, void** args),
            { return LaunchEx(d, config, func, args); })

RT_API_PTSZ(cudaLaunchHostFunc, (cudaStream_t stream, cudaHostFn_t fn, void* userData), {
  if (fn == nullptr) return cudaErrorInvalidValue;
  return Pass(d.LaunchHostFunc, stream, fn, userData);
})
