// Kernels as objects: attributes, names, parameters, occupancy, and libraries loaded at run time.
#include "client/runtime/launch.h"

namespace farwarp::runtime {
namespace {

// Reads one attribute of a kernel; one that an older driver does not know counts as 0.
template <typename Field>
CUresult Read(const Driver& d, CUkernel kernel, CUdevice device, CUfunction_attribute attribute,
              Field* field) {
  int value = 0;
  const CUresult result = d.KernelGetAttribute(&value, attribute, kernel, device);
  if (result == CUDA_ERROR_INVALID_VALUE) return CUDA_SUCCESS;
  *field = static_cast<Field>(value);
  return result;
}

cudaError_t CurrentHandle(CUdevice* device) {
  Process& process = Process::Get();
  return process.Device(process.CurrentDevice(), device);
}

Outcome Describe(const Driver& d, const void* host, cudaFuncAttributes* attributes) {
  CUkernel kernel = nullptr;
  CUdevice device = 0;
  if (attributes == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t error = ResolveKernel(d, host, &kernel); error != cudaSuccess) return error;
  if (const cudaError_t error = CurrentHandle(&device); error != cudaSuccess) return error;
  cudaFuncAttributes a = {};
  CUresult result = CUDA_SUCCESS;
#define A(field, attribute)                                                    \
  if (result == CUDA_SUCCESS) {                                                \
    result = Read(d, kernel, device, CU_FUNC_ATTRIBUTE_##attribute, &a.field); \
  }
  A(maxThreadsPerBlock, MAX_THREADS_PER_BLOCK)
  A(sharedSizeBytes, SHARED_SIZE_BYTES)
  A(constSizeBytes, CONST_SIZE_BYTES)
  A(localSizeBytes, LOCAL_SIZE_BYTES)
  A(numRegs, NUM_REGS)
  A(ptxVersion, PTX_VERSION)
  A(binaryVersion, BINARY_VERSION)
  A(cacheModeCA, CACHE_MODE_CA)
  A(maxDynamicSharedSizeBytes, MAX_DYNAMIC_SHARED_SIZE_BYTES)
  A(preferredShmemCarveout, PREFERRED_SHARED_MEMORY_CARVEOUT)
  A(clusterDimMustBeSet, CLUSTER_SIZE_MUST_BE_SET)
  A(requiredClusterWidth, REQUIRED_CLUSTER_WIDTH)
  A(requiredClusterHeight, REQUIRED_CLUSTER_HEIGHT)
  A(requiredClusterDepth, REQUIRED_CLUSTER_DEPTH)
  A(nonPortableClusterSizeAllowed, NON_PORTABLE_CLUSTER_SIZE_ALLOWED)
  A(clusterSchedulingPolicyPreference, CLUSTER_SCHEDULING_POLICY_PREFERENCE)
#undef A
  if (result == CUDA_SUCCESS) *attributes = a;
  return result;
}

// The driver's launch description behind the occupancy questions about clusters.
CUlaunchConfig ToDriver(const cudaLaunchConfig_t& config) {
  CUlaunchConfig result = {};
  result.gridDimX = config.gridDim.x;
  result.gridDimY = config.gridDim.y;
  result.gridDimZ = config.gridDim.z;
  result.blockDimX = config.blockDim.x;
  result.blockDimY = config.blockDim.y;
  result.blockDimZ = config.blockDim.z;
  result.sharedMemBytes = static_cast<unsigned>(config.dynamicSmemBytes);
  result.hStream = config.stream;
  result.attrs = Convert<CUlaunchAttribute*>(config.attrs);
  result.numAttrs = config.numAttrs;
  return result;
}

}  // namespace
}  // namespace farwarp::runtime

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

// Defines `kernel`, the driver's kernel behind the host stub `func`, or returns from the body.
#define RT_KERNEL(func)                                                                  \
  CUkernel kernel = nullptr;                                                             \
  if (const cudaError_t error = ResolveKernel(d, func, &kernel); error != cudaSuccess) { \
    return error;                                                                        \
  }

RT_API(cudaFuncGetAttributes, (cudaFuncAttributes * attr, const void* func),
       { return Describe(d, func, attr); })
RT_API(cudaFuncSetAttribute, (const void* func, cudaFuncAttribute attr, int value), {
  RT_KERNEL(func)
  CUdevice device = 0;
  if (const cudaError_t error = CurrentHandle(&device); error != cudaSuccess) return error;
  return Pass(d.KernelSetAttribute, attr, value, kernel, device);
})
RT_API(cudaFuncSetCacheConfig, (const void* func, cudaFuncCache cacheConfig), {
  RT_KERNEL(func)
  CUdevice device = 0;
  if (const cudaError_t error = CurrentHandle(&device); error != cudaSuccess) return error;
  return Pass(d.KernelSetCacheConfig, kernel, cacheConfig, device);
})
// No device that CUDA 13 supports has configurable banks: accepted without effect.
RT_API(cudaFuncSetSharedMemConfig, (const void* func, cudaSharedMemConfig config), {
  RT_KERNEL(func)
  return config > cudaSharedMemBankSizeEightByte ? cudaErrorInvalidValue : cudaSuccess;
})
RT_API(cudaFuncGetName, (const char** name, const void* func), {
  RT_KERNEL(func)
  if (name == nullptr) return cudaErrorInvalidValue;
  return d.KernelGetName(name, kernel);
})
RT_API(cudaFuncGetParamInfo,
       (const void* func, size_t paramIndex, size_t* paramOffset, size_t* paramSize), {
         RT_KERNEL(func)
         return d.KernelGetParamInfo(kernel, paramIndex, paramOffset, paramSize);
       })

RT_API(cudaGetKernel, (cudaKernel_t * kernelPtr, const void* entryFuncAddr), {
  RT_KERNEL(entryFuncAddr)
  if (kernelPtr == nullptr) return cudaErrorInvalidValue;
  Registry::Get().RememberKernel(kernel);
  *kernelPtr = kernel;
  return cudaSuccess;
})
RT_API(cudaGetFuncBySymbol, (cudaFunction_t * functionPtr, const void* symbolPtr), {
  RT_KERNEL(symbolPtr)
  if (functionPtr == nullptr) return cudaErrorInvalidValue;
  CUfunction function = nullptr;
  const Outcome found = d.KernelGetFunction(&function, kernel);
  if (!found.ok()) return found;
  Registry::Get().RememberAlias(function, Registry::Get().FindFunction(symbolPtr));
  *functionPtr = function;
  return cudaSuccess;
})
RT_API(cudaKernelSetAttributeForDevice,
       (cudaKernel_t kernel, cudaFuncAttribute attr, int value, int device), {
         CUdevice handle = 0;
         const cudaError_t error = Process::Get().Device(device, &handle);
         if (error != cudaSuccess) return error;
         return Pass(d.KernelSetAttribute, attr, value, kernel, handle);
       })

RT_API(cudaOccupancyMaxActiveBlocksPerMultiprocessor,
       (int* numBlocks, const void* func, int blockSize, size_t dynamicSMemSize), {
         RT_KERNEL(func)
         return d.OccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
             numBlocks, AsFunction(kernel), blockSize, dynamicSMemSize, CU_OCCUPANCY_DEFAULT);
       })
RT_API(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
       (int* numBlocks, const void* func, int blockSize, size_t dynamicSMemSize,
        unsigned int flags),
       {
         RT_KERNEL(func)
         return d.OccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
             numBlocks, AsFunction(kernel), blockSize, dynamicSMemSize, flags);
       })
RT_API(cudaOccupancyAvailableDynamicSMemPerBlock,
       (size_t* dynamicSmemSize, const void* func, int numBlocks, int blockSize), {
         RT_KERNEL(func)
         return d.OccupancyAvailableDynamicSMemPerBlock(dynamicSmemSize, AsFunction(kernel),
                                                        numBlocks, blockSize);
       })
RT_API(cudaOccupancyMaxPotentialClusterSize,
       (int* clusterSize, const void* func, const cudaLaunchConfig_t* launchConfig), {
         RT_KERNEL(func)
         if (launchConfig == nullptr) return cudaErrorInvalidValue;
         const CUlaunchConfig config = ToDriver(*launchConfig);
         return d.OccupancyMaxPotentialClusterSize(clusterSize, AsFunction(kernel), &config);
       })
RT_API(cudaOccupancyMaxActiveClusters,
       (int* numClusters, const void* func, const cudaLaunchConfig_t* launchConfig), {
         RT_KERNEL(func)
         if (launchConfig == nullptr) return cudaErrorInvalidValue;
         const CUlaunchConfig config = ToDriver(*launchConfig);
         return d.OccupancyMaxActiveClusters(numClusters, AsFunction(kernel), &config);
       })

RT_API(cudaLibraryLoadData,
       (cudaLibrary_t * library, const void* code, cudaJitOption* jitOptions,
        void** jitOptionsValues, unsigned int numJitOptions, cudaLibraryOption* libraryOptions,
        void** libraryOptionValues, unsigned int numLibraryOptions),
       {
         return Pass(d.LibraryLoadData, library, code, jitOptions, jitOptionsValues, numJitOptions,
                     libraryOptions, libraryOptionValues, numLibraryOptions);
       })
RT_API(cudaLibraryLoadFromFile,
       (cudaLibrary_t * library, const char* fileName, cudaJitOption* jitOptions,
        void** jitOptionsValues, unsigned int numJitOptions, cudaLibraryOption* libraryOptions,
        void** libraryOptionValues, unsigned int numLibraryOptions),
       {
         return Pass(d.LibraryLoadFromFile, library, fileName, jitOptions, jitOptionsValues,
                     numJitOptions, libraryOptions, libraryOptionValues, numLibraryOptions);
       })
RT_API(cudaLibraryUnload, (cudaLibrary_t library), { return d.LibraryUnload(library); })
RT_API(cudaLibraryGetKernel, (cudaKernel_t * pKernel, cudaLibrary_t library, const char* name), {
  if (pKernel == nullptr || name == nullptr) return cudaErrorInvalidValue;
  const Outcome found = d.LibraryGetKernel(pKernel, library, name);
  if (found.ok()) Registry::Get().RememberKernel(*pKernel);
  return found;
})
RT_API(cudaLibraryGetGlobal, (void** dptr, size_t* bytes, cudaLibrary_t library, const char* name),
       { return Pass(d.LibraryGetGlobal, dptr, bytes, library, name); })
RT_API(cudaLibraryGetManaged, (void** dptr, size_t* bytes, cudaLibrary_t library, const char* name),
       { return Pass(d.LibraryGetManaged, dptr, bytes, library, name); })
RT_API(cudaLibraryGetUnifiedFunction, (void** fptr, cudaLibrary_t library, const char* symbol),
       { return d.LibraryGetUnifiedFunction(fptr, library, symbol); })
RT_API(cudaLibraryGetKernelCount, (unsigned int* count, cudaLibrary_t lib),
       { return d.LibraryGetKernelCount(count, lib); })
RT_API(cudaLibraryEnumerateKernels,
       (cudaKernel_t * kernels, unsigned int numKernels, cudaLibrary_t lib), {
         unsigned count = 0;
         const Outcome counted = d.LibraryGetKernelCount(&count, lib);
         if (!counted.ok()) return counted;
         const Outcome listed = d.LibraryEnumerateKernels(kernels, numKernels, lib);
         if (!listed.ok()) return listed;
         for (unsigned i = 0; i < numKernels && i < count; ++i) {
           Registry::Get().RememberKernel(kernels[i]);
         }
         return cudaSuccess;
       })
