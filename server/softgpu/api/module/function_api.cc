// Functions: attributes, names, parameters, occupancy.
#include "farwarp/base/log.h"
#include "server/softgpu/api/launch/occupancy.h"
#include "server/softgpu/api/module/module.h"

using namespace farwarp::softgpu;

namespace {

template <typename Body>
CUresult CallFunction(CUfunction handle, Body&& body) noexcept {
  return CallContext([&](Driver& driver, Context& context) -> CUresult {
    std::shared_ptr<Function> function;
    const CUresult result = FindFunction(driver, handle, context.shared_from_this(), &function);
    return result != CUDA_SUCCESS ? result : body(*function);
  });
}

CUresult CodeResult(const farwarp::Status& status) {
  if (status.ok()) return CUDA_SUCCESS;
  FARWARP_LOG(kError, "softgpu: %s", status.message().c_str());
  return CUDA_ERROR_INVALID_PTX;
}

// For questions about what the kernel takes.
CUresult Ready(const Function& function) {
  return CodeResult(function.kernel().Measure());
}

KernelUse UseOf(const Function& function) {
  const KernelInfo& info = function.kernel().info();
  KernelUse use;
  use.registers = static_cast<int>(info.registers);
  use.static_shared = static_cast<int>(info.static_shared_bytes);
  use.max_dynamic_shared = MaxDynamicShared(info, function.settings());
  use.max_threads = static_cast<int>(info.max_threads);
  return use;
}

CUresult ActiveBlocks(int* numBlocks, CUfunction func, int blockSize, size_t dynamicSMemSize,
                      unsigned flags) noexcept {
  return CallFunction(func, [&](Function& function) {
    if (numBlocks == nullptr || blockSize <= 0 ||
        (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult ready = Ready(function); ready != CUDA_SUCCESS) return ready;
    *numBlocks = ActiveBlocks(UseOf(function), blockSize, dynamicSMemSize);
    return CUDA_SUCCESS;
  });
}

CUresult PotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                            CUoccupancyB2DSize dynamic, size_t fixed_dynamic, int limit,
                            unsigned flags) noexcept {
  return CallFunction(func, [&](Function& function) {
    if (minGridSize == nullptr || blockSize == nullptr || limit < 0 ||
        (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult ready = Ready(function); ready != CUDA_SUCCESS) return ready;
    const BlockChoice best = BestBlock(UseOf(function), limit, [&](int threads) {
      return dynamic == nullptr ? fixed_dynamic : dynamic(threads);
    });
    *blockSize = best.threads;
    *minGridSize = best.blocks * function.context()->device().multiprocessors();
    return CUDA_SUCCESS;
  });
}

}  // namespace

extern "C" {

CUresult cuFuncGetAttribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
  return CallFunction(hfunc, [&](Function& function) {
    if (pi == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return KernelAttribute(function.kernel(), function.settings(), function.context()->device(),
                           attrib, pi);
  });
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
  return CallFunction(hfunc, [&](Function& function) {
    return SetKernelAttribute(function.kernel(), function.settings(), attrib, value);
  });
}

CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
  return CallFunction(hfunc, [&](Function&) {
    return config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  });
}
CUresult cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig) {
  return CallFunction(hfunc, [](Function&) { return CUDA_SUCCESS; });
}

CUresult cuFuncGetModule(CUmodule* hmod, CUfunction hfunc) {
  return CallFunction(hfunc, [&](Function& function) {
    if (hmod == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *hmod = function.module()->handle();
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncGetName(const char** name, CUfunction hfunc) {
  return CallFunction(hfunc, [&](Function& function) {
    if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *name = function.kernel().info().name.c_str();
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t* paramOffset,
                            size_t* paramSize) {
  return CallFunction(func, [&](Function& function) {
    const auto& params = function.kernel().info().params;
    if (paramOffset == nullptr || paramIndex >= params.size()) return CUDA_ERROR_INVALID_VALUE;
    *paramOffset = params[paramIndex].offset;
    if (paramSize != nullptr) *paramSize = params[paramIndex].bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction function) {
  return CallFunction(function, [&](Function& found) {
    if (state == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *state = found.kernel().decoded() != nullptr ? CU_FUNCTION_LOADING_STATE_LOADED
                                                 : CU_FUNCTION_LOADING_STATE_UNLOADED;
    return CUDA_SUCCESS;
  });
}
CUresult cuFuncLoad(CUfunction function) {
  return CallFunction(function,
                      [](Function& found) { return CodeResult(found.kernel().Prepare()); });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize) {
  return ActiveBlocks(numBlocks, func, blockSize, dynamicSMemSize, 0);
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* numBlocks, CUfunction func,
                                                              int blockSize, size_t dynamicSMemSize,
                                                              unsigned int flags) {
  return ActiveBlocks(numBlocks, func, blockSize, dynamicSMemSize, flags);
}

CUresult cuOccupancyMaxPotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                          size_t dynamicSMemSize, int blockSizeLimit) {
  return PotentialBlockSize(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
                            dynamicSMemSize, blockSizeLimit, 0);
}
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* minGridSize, int* blockSize,
                                                   CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit,
                                                   unsigned int flags) {
  return PotentialBlockSize(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
                            dynamicSMemSize, blockSizeLimit, flags);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* dynamicSmemSize, CUfunction func,
                                                 int numBlocks, int blockSize) {
  return CallFunction(func, [&](Function& function) {
    if (dynamicSmemSize == nullptr || numBlocks <= 0 || blockSize <= 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (const CUresult ready = Ready(function); ready != CUDA_SUCCESS) return ready;
    *dynamicSmemSize = AvailableDynamicShared(UseOf(function), numBlocks, blockSize);
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
