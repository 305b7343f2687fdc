// cuDevicePrimaryCtx* and cuCtx*: answered here; the server is told what it must know.
#include <memory>

#include "client/custom.h"
#include "client/driver/context/context.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

constexpr unsigned kContextFlags = CU_CTX_FLAGS_MASK;
constexpr unsigned kApiVersion = 3020;

std::uint64_t NextContextId() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool ValidFlags(unsigned flags) {
  if ((flags & ~kContextFlags) != 0) return false;
  const unsigned schedule = flags & CU_CTX_SCHED_MASK;
  return schedule == CU_CTX_SCHED_AUTO || schedule == CU_CTX_SCHED_SPIN ||
         schedule == CU_CTX_SCHED_YIELD || schedule == CU_CTX_SCHED_BLOCKING_SYNC;
}

void MakeCurrent(const Caller& caller, Handle context) {
  caller.thread->contexts.SetTop(context);
}

// The argument's context, or with null the current one.
CUresult ContextOf(const Caller& caller, CUcontext context, Context** record, Handle* handle) {
  *handle = context != nullptr ? wire::FromPointer(context) : caller.thread->contexts.top();
  *record = caller.process->contexts.Find(*handle);
  if (*record == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  return (*record)->alive.load(std::memory_order_acquire) ? CUDA_SUCCESS
                                                          : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult RetainPrimary(const Caller& caller, Device& device, int ordinal, Handle* handle) {
  const MutexLock lock(device.primary_mutex);
  if (!device.primary_active) {
    Context* context = caller.process->contexts.Find(device.primary);
    if (context == nullptr) {
      auto record =
          std::make_unique<Context>(&device, ordinal, device.primary_flags, true, NextContextId());
      context = record.get();
      device.primary = caller.process->contexts.Mint(std::move(record));
      if (device.primary.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    }
    Command command(caller.session(), IdOf(InternalCommand::kRetainPrimaryContext));
    command.DespiteContextError();
    command.body().Put(device.primary.bits());
    command.body().Put(device.vgpu);
    command.body().Put(device.primary_flags);
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
    context->flags.store(device.primary_flags, std::memory_order_relaxed);
    context->alive.store(true, std::memory_order_release);
    device.primary_active = true;
  }
  ++device.primary_references;
  *handle = device.primary;
  return CUDA_SUCCESS;
}

CUresult ReleasePrimary(CUdevice dev, bool reset) {
  FARWARP_ENTER(caller);
  Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const MutexLock lock(device->primary_mutex);
  if (!reset) {
    if (device->primary_references == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--device->primary_references > 0) return CUDA_SUCCESS;
  }
  if (!device->primary_active) return CUDA_SUCCESS;
  device->primary_active = false;
  Context* context = caller.process->contexts.Find(device->primary);
  return EndContext(*caller.process, device->primary, *context, true);
}

CUresult SetPrimaryFlags(CUdevice dev, unsigned flags) {
  FARWARP_ENTER(caller);
  Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (!ValidFlags(flags)) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(device->primary_mutex);
  device->primary_flags = flags;
  if (!device->primary_active) return CUDA_SUCCESS;  // Sent with the next retain.
  caller.process->contexts.Find(device->primary)->flags.store(flags, std::memory_order_relaxed);
  Command command(caller.session(), IdOf(InternalCommand::kSetPrimaryContextFlags));
  command.DespiteContextError();
  command.body().Put(device->vgpu);
  command.body().Put(flags);
  return command.Post();
}

CUresult CreateContext(CUcontext* context, unsigned flags, CUdevice dev) {
  FARWARP_ENTER(caller);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (!ValidFlags(flags)) return CUDA_ERROR_INVALID_VALUE;
  const Handle handle = caller.process->contexts.Mint(
      std::make_unique<Context>(device, dev, flags, false, NextContextId()));
  if (handle.bits() == 0 || !caller.thread->contexts.Push(handle)) return CUDA_ERROR_OUT_OF_MEMORY;
  *context = wire::ToPointer<CUcontext>(handle);
  Command command(caller.session(), IdOf(InternalCommand::kCreateContext));
  command.DespiteContextError();
  command.body().Put(handle.bits());
  command.body().Put(device->vgpu);
  command.body().Put(flags);
  return command.Post();
}

CUresult DestroyContext(CUcontext context) {
  FARWARP_ENTER(caller);
  const Handle handle = wire::FromPointer(context);
  Context* record = caller.process->contexts.Find(handle);
  if (record == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (record->primary) return CUDA_ERROR_INVALID_CONTEXT;
  bool expected = true;
  if (!record->alive.compare_exchange_strong(expected, false)) {
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  if (caller.thread->contexts.top().bits() == handle.bits()) caller.thread->contexts.Pop();
  return EndContext(*caller.process, handle, *record, false);
}

CUresult Push(CUcontext context) {
  FARWARP_ENTER(caller);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  Context* record;
  Handle handle;
  if (const CUresult result = ContextOf(caller, context, &record, &handle); result != CUDA_SUCCESS)
    return result;
  return caller.thread->contexts.Push(handle) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult Pop(CUcontext* context) {
  FARWARP_ENTER(caller);
  if (caller.thread->contexts.depth() == 0) return CUDA_ERROR_INVALID_CONTEXT;
  const Handle popped = caller.thread->contexts.Pop();
  if (context != nullptr) *context = wire::ToPointer<CUcontext>(popped);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuDevicePrimaryCtxRetain(CUcontext* pctx, CUdevice dev) {
  FARWARP_ENTER(caller);
  if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  Handle handle;
  const CUresult result = RetainPrimary(caller, *device, dev, &handle);
  if (result == CUDA_SUCCESS) *pctx = wire::ToPointer<CUcontext>(handle);
  return result;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
  return ReleasePrimary(dev, false);
}
CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
  return ReleasePrimary(dev, false);
}
CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
  return ReleasePrimary(dev, true);
}
CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
  return ReleasePrimary(dev, true);
}
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
  return SetPrimaryFlags(dev, flags);
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
  return SetPrimaryFlags(dev, flags);
}
CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int* flags, int* active) {
  FARWARP_ENTER(caller);
  Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(device->primary_mutex);
  *flags = device->primary_flags;
  *active = device->primary_active ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext* pctx, unsigned int flags, CUdevice dev) {
  return CreateContext(pctx, flags, dev);
}
CUresult cuCtxCreate_v2(CUcontext* pctx, unsigned int flags, CUdevice dev) {
  return CreateContext(pctx, flags, dev);
}
CUresult cuCtxCreate_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams,
                        unsigned int flags, CUdevice dev) {
  // An affinity limits the multiprocessors of a context, which a vGPU's share already does.
  if (paramsArray != nullptr && numParams > 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return CreateContext(pctx, flags, dev);
}
CUresult cuCtxCreate_v4(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned int flags,
                        CUdevice dev) {
  if (ctxCreateParams != nullptr) {
    if (ctxCreateParams->numExecAffinityParams > 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    if (ctxCreateParams->cigParams != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CreateContext(pctx, flags, dev);
}
CUresult cuCtxDestroy(CUcontext ctx) {
  return DestroyContext(ctx);
}
CUresult cuCtxDestroy_v2(CUcontext ctx) {
  return DestroyContext(ctx);
}
CUresult cuCtxDetach(CUcontext ctx) {
  return DestroyContext(ctx);
}
CUresult cuCtxAttach(CUcontext* pctx, unsigned int flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pctx == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *pctx = wire::ToPointer<CUcontext>(caller.context_handle);
  return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext ctx) {
  return Push(ctx);
}
CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
  return Push(ctx);
}
CUresult cuCtxPopCurrent(CUcontext* pctx) {
  return Pop(pctx);
}
CUresult cuCtxPopCurrent_v2(CUcontext* pctx) {
  return Pop(pctx);
}
CUresult cuCtxSetCurrent(CUcontext ctx) {
  FARWARP_ENTER(caller);
  if (ctx != nullptr) {
    Context* record;
    Handle handle;
    const CUresult result = ContextOf(caller, ctx, &record, &handle);
    if (result != CUDA_SUCCESS) return result;
  }
  MakeCurrent(caller, wire::FromPointer(ctx));
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* pctx) {
  FARWARP_ENTER(caller);
  if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pctx = wire::ToPointer<CUcontext>(caller.thread->contexts.top());
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return cuCtxGetDevice_v2(device, nullptr);
}
CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext ctx) {
  FARWARP_ENTER(caller);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context* record;
  Handle handle;
  const CUresult result = ContextOf(caller, ctx, &record, &handle);
  if (result == CUDA_SUCCESS) *device = record->ordinal;
  return result;
}
CUresult cuCtxGetFlags(unsigned int* flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = caller.context->flags.load(std::memory_order_relaxed);
  return CUDA_SUCCESS;
}
CUresult cuCtxSetFlags(unsigned int flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (!ValidFlags(flags)) return CUDA_ERROR_INVALID_VALUE;
  if (caller.context->primary) return SetPrimaryFlags(caller.context->ordinal, flags);
  // How a host thread waits is the client's own affair: nothing to tell the server.
  caller.context->flags.store(flags, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}
CUresult cuCtxGetId(CUcontext ctx, unsigned long long* ctxId) {
  FARWARP_ENTER(caller);
  if (ctxId == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context* record;
  Handle handle;
  const CUresult result = ContextOf(caller, ctx, &record, &handle);
  if (result == CUDA_SUCCESS) *ctxId = record->id;
  return result;
}
CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int* version) {
  FARWARP_ENTER(caller);
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Context* record;
  Handle handle;
  const CUresult result = ContextOf(caller, ctx, &record, &handle);
  if (result == CUDA_SUCCESS) *version = kApiVersion;
  return result;
}

CUresult cuCtxSynchronize() {
  return cuCtxSynchronize_v2(nullptr);
}
CUresult cuCtxSynchronize_v2(CUcontext ctx) {
  FARWARP_ENTER(caller);
  Context* record;
  Handle handle;
  if (const CUresult result = ContextOf(caller, ctx, &record, &handle); result != CUDA_SUCCESS)
    return result;
  if (const CUresult captured =
          caller.process->graphs().CheckContext(wire::ToPointer<CUcontext>(handle));
      captured != CUDA_SUCCESS) {
    return captured;
  }
  return caller.session().AfterWait(SynchronizeContext(*caller.process, handle, *record));
}

CUresult cuCtxGetLimit(size_t* pvalue, CUlimit limit) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pvalue == nullptr || limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  Command command(caller.session(), IdOf(InternalCommand::kGetLimit));
  command.body().Put(static_cast<std::int32_t>(limit));
  Reply reply;
  if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  const auto value = reply.body().Get<std::uint64_t>();
  if (const CUresult result = reply.Finish(); result != CUDA_SUCCESS) return result;
  *pvalue = value;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  FARWARP_ENTER_CONTEXT(caller);
  if (limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_INVALID_VALUE;
  Command command(caller.session(), IdOf(InternalCommand::kSetLimit));
  command.body().Put(static_cast<std::int32_t>(limit));
  command.body().Put(static_cast<std::uint64_t>(value));
  Reply reply;
  return command.Call(reply);
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* pconfig) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pconfig == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pconfig = static_cast<CUfunc_cache>(caller.context->cache_config.load());
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  FARWARP_ENTER_CONTEXT(caller);
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  caller.context->cache_config.store(config);
  Command command(caller.session(), IdOf(InternalCommand::kSetCacheConfig));
  command.body().Put(static_cast<std::int32_t>(config));
  return command.Post();
}
CUresult cuCtxGetSharedMemConfig(CUsharedconfig* pConfig) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pConfig == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pConfig = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;  // All that hardware since Maxwell has.
  return CUDA_SUCCESS;
}
CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
  FARWARP_ENTER_CONTEXT(caller);
  return config >= CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE &&
                 config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuCtxGetStreamPriorityRange(int* leastPriority, int* greatestPriority) {
  FARWARP_ENTER_CONTEXT(caller);
  if (leastPriority != nullptr) *leastPriority = kLeastPriority;
  if (greatestPriority != nullptr) {
    *greatestPriority = GreatestPriority(caller.device());
  }
  return CUDA_SUCCESS;
}
CUresult cuCtxResetPersistingL2Cache() {
  FARWARP_ENTER_CONTEXT(caller);
  Command command(caller.session(), IdOf(InternalCommand::kResetPersistingL2Cache));
  return command.Post();
}
CUresult cuCtxGetExecAffinity(CUexecAffinityParam* pExecAffinity, CUexecAffinityType type) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pExecAffinity == nullptr || type < 0 || type >= CU_EXEC_AFFINITY_TYPE_MAX) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}
// cuDeviceCanAccessPeer says so for every pair; copies between devices work without.
CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags) {
  FARWARP_ENTER_CONTEXT(caller);
  if (Flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Context* record;
  Handle handle;
  if (const CUresult result = ContextOf(caller, peerContext, &record, &handle);
      result != CUDA_SUCCESS) {
    return result;
  }
  if (record->device == caller.context->device) return CUDA_ERROR_INVALID_DEVICE;
  return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
}
CUresult cuCtxDisablePeerAccess(CUcontext peerContext) {
  FARWARP_ENTER_CONTEXT(caller);
  Context* record;
  Handle handle;
  const CUresult result = ContextOf(caller, peerContext, &record, &handle);
  return result == CUDA_SUCCESS ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : result;
}

}  // namespace farwarp::client::custom
