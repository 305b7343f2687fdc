// Contexts: creation, the calling thread's stack, limits, synchronisation, peers.
#include "server/softgpu/api/context/current.h"
#include "server/softgpu/api/driver.h"
#include "server/softgpu/api/launch/graph_backend.h"

using namespace farwarp::softgpu;

namespace {

// The API version that contexts report, as NVIDIA's driver does since CUDA 3.2.
constexpr unsigned kContextApiVersion = 3020;

CUresult Create(CUcontext* result, unsigned flags, CUdevice dev) noexcept {
  return CallDriver([&](Driver& driver) {
    if (result == nullptr || (flags & ~unsigned{CU_CTX_FLAGS_MASK}) != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    const std::shared_ptr<Context> context = driver.NewContext(*device, flags, false);
    const CUcontext handle = driver.contexts.Add(context);
    context->set_handle(handle);
    PushContext(handle);
    *result = handle;
    return CUDA_SUCCESS;
  });
}

// The context a handle means; null means the calling thread's.
CUresult FindContext(Driver& driver, CUcontext handle, std::shared_ptr<Context>* context) {
  if (handle == nullptr) return CurrentContext(driver, context);
  *context = driver.contexts.Find(handle);
  if (*context != nullptr) return CUDA_SUCCESS;
  return driver.contexts.WasKnown(handle) ? CUDA_ERROR_CONTEXT_IS_DESTROYED
                                          : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult Destroy(CUcontext ctx) noexcept {
  return CallDriver([&](Driver& driver) {
    if (ctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const std::shared_ptr<Context> context = driver.contexts.Find(ctx);
    if (context == nullptr || context->primary()) return CUDA_ERROR_INVALID_CONTEXT;
    if (driver.contexts.Remove(ctx) == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    CUcontext popped;
    if (TopContext() == ctx) PopContext(&popped);
    driver.DestroyContext(context);
    return CUDA_SUCCESS;
  });
}

}  // namespace

extern "C" {

CUresult cuCtxCreate_v2(CUcontext* pctx, unsigned int flags, CUdevice dev) {
  return Create(pctx, flags, dev);
}
CUresult cuCtxCreate(CUcontext* pctx, unsigned int flags, CUdevice dev) {
  return Create(pctx, flags, dev);
}
CUresult cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam*, int numParams, unsigned int flags,
                        CUdevice dev) {
  if (numParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return Create(pctx, flags, dev);
}
CUresult cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned int flags,
                        CUdevice dev) {
  if (ctxCreateParams != nullptr) {
    if (ctxCreateParams->numExecAffinityParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    if (ctxCreateParams->cigParams != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  }
  return Create(pctx, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx) {
  return Destroy(ctx);
}
CUresult cuCtxDestroy(CUcontext ctx) {
  return Destroy(ctx);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
  return CallDriver([&](Driver& driver) {
    if (ctx == nullptr || driver.contexts.Find(ctx) == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    PushContext(ctx);
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxPushCurrent(CUcontext ctx) {
  return cuCtxPushCurrent_v2(ctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext* pctx) {
  return CallDriver([&](Driver&) {
    CUcontext popped;
    if (!PopContext(&popped)) return CUDA_ERROR_INVALID_CONTEXT;
    if (pctx != nullptr) *pctx = popped;
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxPopCurrent(CUcontext* pctx) {
  return cuCtxPopCurrent_v2(pctx);
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
  return CallDriver([&](Driver& driver) {
    if (ctx != nullptr && driver.contexts.Find(ctx) == nullptr) {
      return driver.contexts.WasKnown(ctx) ? CUDA_ERROR_CONTEXT_IS_DESTROYED
                                           : CUDA_ERROR_INVALID_CONTEXT;
    }
    SetTopContext(ctx);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCurrent(CUcontext* pctx) {
  return CallDriver([&](Driver&) {
    if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pctx = TopContext();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return cuCtxGetDevice_v2(device, nullptr);
}
CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
  return CallDriver([&](Driver& driver) {
    std::shared_ptr<Context> context;
    const CUresult result = FindContext(driver, ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *device = context->device().ordinal();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetFlags(unsigned int* flags) {
  return CallContext([&](Driver&, Context& context) {
    if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = context.flags();
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxSetFlags(unsigned int flags) {
  return CallContext([&](Driver&, Context& context) {
    if ((flags & ~unsigned{CU_CTX_FLAGS_MASK}) != 0) return CUDA_ERROR_INVALID_VALUE;
    context.set_flags(flags);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long* ctxId) {
  return CallDriver([&](Driver& driver) {
    std::shared_ptr<Context> context;
    const CUresult result = FindContext(driver, ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (ctxId == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *ctxId = context->id();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int* version) {
  return CallDriver([&](Driver& driver) {
    std::shared_ptr<Context> context;
    const CUresult result = FindContext(driver, ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *version = kContextApiVersion;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSynchronize(void) {
  return CallContext([](Driver&, Context& context) {
    const CUresult captured = CheckCapturedContext();
    return captured != CUDA_SUCCESS ? captured : context.Synchronize(nullptr);
  });
}
CUresult cuCtxSynchronize_v2(CUcontext ctx) {
  return CallDriver([&](Driver& driver) {
    std::shared_ptr<Context> context;
    const CUresult result = FindContext(driver, ctx, &context);
    return result != CUDA_SUCCESS ? result : context->Synchronize(nullptr);
  });
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  return CallContext([&](Driver&, Context& context) { return context.SetLimit(limit, value); });
}
CUresult cuCtxGetLimit(size_t* pvalue, CUlimit limit) {
  return CallContext([&](Driver&, Context& context) {
    return pvalue == nullptr ? CUDA_ERROR_INVALID_VALUE : context.Limit(limit, pvalue);
  });
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* pconfig) {
  return CallContext([&](Driver&, Context& context) {
    if (pconfig == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pconfig = context.cache_config();
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  return CallContext([&](Driver&, Context& context) {
    if (config > CU_FUNC_CACHE_PREFER_EQUAL) return CUDA_ERROR_INVALID_VALUE;
    context.set_cache_config(config);
    return CUDA_SUCCESS;
  });
}

// Banks of shared memory have not been configurable for many years; the calls remain.
CUresult cuCtxGetSharedMemConfig(CUsharedconfig* pConfig) {
  return CallContext([&](Driver&, Context&) {
    if (pConfig == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pConfig = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxSetSharedMemConfig(CUsharedconfig) {
  return CallContext([](Driver&, Context&) { return CUDA_SUCCESS; });
}

CUresult cuCtxGetStreamPriorityRange(int* leastPriority, int* greatestPriority) {
  return CallContext([&](Driver&, Context&) {
    if (leastPriority != nullptr) *leastPriority = kLeastPriority;
    if (greatestPriority != nullptr) *greatestPriority = kGreatestPriority;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxResetPersistingL2Cache(void) {
  return CallContext([](Driver&, Context&) { return CUDA_SUCCESS; });
}

CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags) {
  return CallContext([&](Driver& driver, Context& context) {
    const std::shared_ptr<Context> peer = driver.contexts.Find(peerContext);
    if (peer == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    if (Flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (&peer->device() == &context.device()) return CUDA_ERROR_INVALID_DEVICE;
    return context.EnablePeer(peer->id());
  });
}
CUresult cuCtxDisablePeerAccess(CUcontext peerContext) {
  return CallContext([&](Driver& driver, Context& context) {
    const std::shared_ptr<Context> peer = driver.contexts.Find(peerContext);
    return peer == nullptr ? CUDA_ERROR_INVALID_CONTEXT : context.DisablePeer(peer->id());
  });
}

}  // extern "C"
