// cuFunc* and cuOccupancy*: questions about a kernel, answered from its module's function table.
#include "client/custom.h"
#include "client/driver/module/kernel_attributes.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

CUresult GetKernelAttribute(const Launchable& kernel, CUfunction_attribute attribute, int* value) {
  if (value == nullptr || attribute < 0 ||
      static_cast<std::size_t>(attribute) >= kKernelAttributes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = kernel.max_dynamic_shared_bytes.load(std::memory_order_relaxed);
      break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      *value = kernel.preferred_carveout.load(std::memory_order_relaxed);
      break;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      *value = kernel.cluster_policy.load(std::memory_order_relaxed);
      break;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      *value = kernel.non_portable_cluster.load(std::memory_order_relaxed);
      break;
    default:
      *value = kernel.info->attributes[static_cast<std::size_t>(attribute)];
  }
  return CUDA_SUCCESS;
}

CUresult SetKernelAttribute(Launchable& kernel, const DeviceLimits& device,
                            CUfunction_attribute attribute, int value) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      if (value < 0 || value > device.shared_per_block_optin -
                                   kernel.info->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES]) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      kernel.max_dynamic_shared_bytes.store(value, std::memory_order_relaxed);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      kernel.preferred_carveout.store(value, std::memory_order_relaxed);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      if (value < CU_CLUSTER_SCHEDULING_POLICY_DEFAULT ||
          value > CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      kernel.cluster_policy.store(value, std::memory_order_relaxed);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      if (value != 0 && value != 1) return CUDA_ERROR_INVALID_VALUE;
      kernel.non_portable_cluster.store(value, std::memory_order_relaxed);
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult ParameterInfo(const KernelInfo& info, std::size_t index, std::size_t* offset,
                       std::size_t* bytes) {
  if (offset == nullptr || index >= info.parameters.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = info.parameters[index].offset;
  if (bytes != nullptr) *bytes = info.parameters[index].size;
  return CUDA_SUCCESS;
}

KernelResources ResourcesOf(const Launchable& kernel) {
  const auto& attributes = kernel.info->attributes;
  return {
      .registers = attributes[CU_FUNC_ATTRIBUTE_NUM_REGS],
      .static_shared_bytes = attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES],
      .max_threads_per_block = attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK],
      .max_dynamic_shared_bytes = kernel.max_dynamic_shared_bytes.load(std::memory_order_relaxed)};
}

}  // namespace farwarp::client

namespace farwarp::client::custom {
namespace {

using wire::IdOf;
using wire::InternalCommand;

constexpr unsigned kOccupancyFlags = CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE;

// Whatever `function` is, with the caller's context.
CUresult Resolve(CUfunction function, Caller* caller, Launchable** kernel) {
  if (const CUresult result = EnterContext(caller); result != CUDA_SUCCESS) return result;
  *kernel = FindLaunchable(*caller, function);
  return *kernel != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult ActiveBlocksOf(int* blocks, CUfunction function, int block_threads, size_t shared_bytes,
                        unsigned flags) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(function, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  if (blocks == nullptr || block_threads <= 0 || (flags & ~kOccupancyFlags) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *blocks = ActiveBlocks(caller.device().limits, ResourcesOf(*kernel), block_threads, shared_bytes);
  return CUDA_SUCCESS;
}

CUresult BestBlock(int* grid, int* block, CUfunction function, CUoccupancyB2DSize shared_for,
                   size_t shared_bytes, int limit, unsigned flags) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(function, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  if (grid == nullptr || block == nullptr || limit < 0 || (flags & ~kOccupancyFlags) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto shared = [&](int threads) {
    return static_cast<std::uint64_t>(shared_for != nullptr ? shared_for(threads) : shared_bytes);
  };
  const BlockSize best = BestBlockSize(caller.device().limits, ResourcesOf(*kernel), shared, limit);
  *grid = best.min_grid;
  *block = best.block;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuFuncGetAttribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(hfunc, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  return GetKernelAttribute(*kernel, attrib, pi);
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(hfunc, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  const CUresult result = SetKernelAttribute(*kernel, caller.device().limits, attrib, value);
  if (result != CUDA_SUCCESS) return result;
  Command command(caller.session(), IdOf(InternalCommand::kFunctionAttribute));
  command.body().PutPointer(hfunc);
  command.body().Put(static_cast<std::int32_t>(attrib));
  command.body().Put(static_cast<std::int32_t>(value));
  return command.Post();
}

CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(hfunc, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Command command(caller.session(), IdOf(InternalCommand::kFunctionCacheConfig));
  command.body().PutPointer(hfunc);
  command.body().Put(static_cast<std::int32_t>(config));
  return command.Post();
}

CUresult cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(hfunc, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  // Without effect on all hardware since Maxwell.
  return config >= CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE &&
                 config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuFuncGetModule(CUmodule* hmod, CUfunction hfunc) {
  FARWARP_ENTER_CONTEXT(caller);
  if (hmod == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Function* function = caller.process->functions.Find(hfunc);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (function->module.bits() != 0) {
    *hmod = wire::ToPointer<CUmodule>(function->module);
    return CUDA_SUCCESS;
  }
  const Kernel* kernel = caller.process->kernels.Find(function->kernel);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return custom::cuLibraryGetModule(hmod, wire::ToPointer<CUlibrary>(kernel->library));
}

CUresult cuFuncGetName(const char** name, CUfunction hfunc) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(hfunc, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = kernel->info->name.c_str();
  return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t* paramOffset,
                            size_t* paramSize) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(func, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  return ParameterInfo(*kernel->info, paramIndex, paramOffset, paramSize);
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction function) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(function, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  if (state == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *state = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction function) {
  Caller caller;
  Launchable* kernel;
  return Resolve(function, &caller, &kernel);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize) {
  return ActiveBlocksOf(numBlocks, func, blockSize, dynamicSMemSize, 0);
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* numBlocks, CUfunction func,
                                                              int blockSize, size_t dynamicSMemSize,
                                                              unsigned int flags) {
  return ActiveBlocksOf(numBlocks, func, blockSize, dynamicSMemSize, flags);
}
CUresult cuOccupancyMaxPotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                          size_t dynamicSMemSize, int blockSizeLimit) {
  return BestBlock(minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize,
                   blockSizeLimit, 0);
}
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* minGridSize, int* blockSize,
                                                   CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit,
                                                   unsigned int flags) {
  return BestBlock(minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize,
                   blockSizeLimit, flags);
}
CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* dynamicSmemSize, CUfunction func,
                                                 int numBlocks, int blockSize) {
  Caller caller;
  Launchable* kernel;
  if (const CUresult result = Resolve(func, &caller, &kernel); result != CUDA_SUCCESS)
    return result;
  std::uint64_t bytes = 0;
  if (dynamicSmemSize == nullptr ||
      !AvailableSharedPerBlock(caller.device().limits, ResourcesOf(*kernel), numBlocks, blockSize,
                               &bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *dynamicSmemSize = static_cast<size_t>(bytes);
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client::custom
