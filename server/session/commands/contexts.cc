// Contexts on the server's side of the client's handles.
#include <utility>

#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/commands/wait.h"
#include "server/session/handle_table.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

namespace {

// Of one session. Each has queues and buffers in the driver, in nobody's quota.
constexpr std::size_t kMaxContexts = 256;

CUdevice* DeviceOf(Call& call, std::uint32_t vgpu) {
  VgpuMemory* memory = StateOf(call).FindVgpu(vgpu);
  if (memory == nullptr) call.MarkBad();
  return memory != nullptr ? &memory->device : nullptr;
}

// The context that the program takes for the primary one of `vgpu`.
CUresult RetainPrimary(const driver::Table& driver, VgpuMemory& vgpu, unsigned flags,
                       CUcontext* context) {
  // The client counts by itself. Two handles of one context would let it end under the other.
  if (vgpu.primary.bits() != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!vgpu.shares_device) {
    // Flags of an active context change too; a driver that refuses keeps its own.
    static_cast<void>(driver.cuDevicePrimaryCtxSetFlags_v2(vgpu.device, flags));
    return driver.cuDevicePrimaryCtxRetain(context, vgpu.device);
  }
  if (vgpu.stand_in == nullptr) {
    CUcontext popped = nullptr;
    const CUresult result = driver.cuCtxCreate_v2(&vgpu.stand_in, flags, vgpu.device);
    if (result != CUDA_SUCCESS) return result;
    static_cast<void>(driver.cuCtxPopCurrent_v2(&popped));
  }
  *context = vgpu.stand_in;
  return CUDA_SUCCESS;
}

// The primary context of a device that the client has just let go is not there again before it has
// really ended; all that follows depends on it. False if the session ends first.
bool WaitUntilReleased(Call& call, const VgpuMemory& vgpu) {
  Finisher& finisher = StateOf(call).finisher;
  finisher.Settle();
  while (vgpu.releasing) {
    if (!finisher.WaitForOne()) return false;
  }
  return true;
}

VgpuMemory* VgpuOf(Call& call, std::uint32_t ordinal) {
  VgpuMemory* vgpu = StateOf(call).FindVgpu(ordinal);
  if (vgpu == nullptr) call.MarkBad();
  return vgpu;
}

// Before a context ends: nothing of ours may live in it, and it may not stay current.
CommandState::Leaving LeaveContext(Call& call, Handle handle, CUcontext context) {
  call.handles().Remove(handle);
  auto leaving = StateOf(call).DropContext(context, handle, call.handles());
  if (call.session().IsCurrent(handle)) {
    static_cast<void>(call.driver().cuCtxSetCurrent(nullptr));
  }
  return leaving;
}

CUresult DestroyContext(const driver::Table& driver, CUcontext context) {
  return driver.cuCtxDestroy_v2(context);
}

// Leaves and ends a context, behind what still runs in it.
template <typename End>
void EndContext(Call& call, Handle handle, CUcontext context, End end, Finisher::Settled settle) {
  CommandState& state = StateOf(call);
  auto leaving = LeaveContext(call, handle, context);
  const std::uint64_t doom = state.waits.functions.Doom(context);
  state.finisher.Run(
      call,
      [&session = call.session(), &driver = call.driver(), &state, handle, context, end,
       doom]() -> Finisher::Answer {
        // What has been copied from the device may still wait for the client to take it, in memory
        // that ends with the context.
        if (driver.cuCtxSetCurrent(context) == CUDA_SUCCESS) {
          static_cast<void>(driver.cuCtxSynchronize());
          static_cast<void>(driver.cuCtxSetCurrent(nullptr));
        }
        state.staging->WaitUntilSent(context);
        const CUresult result = end(driver, context);
        // What waited in its streams will never be called.
        state.waits.functions.Drop(doom);
        session.ForgetError(handle);
        return {result, {}};
      },
      [&state, handle, leaving = std::move(leaving), settle = std::move(settle)](CUresult result) {
        state.ContextEnded(handle, leaving, result);
        if (settle) settle(result);
      });
}

}  // namespace

void HandleRetainPrimaryContext(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kContext);
  VgpuMemory* vgpu = VgpuOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  if (!WaitUntilReleased(call, *vgpu)) return call.Finish(CUDA_ERROR_DEINITIALIZED);
  CUcontext context = nullptr;
  CUresult result = RetainPrimary(call.driver(), *vgpu, flags, &context);
  if (result == CUDA_SUCCESS) {
    call.Bind(handle, context);
    vgpu->primary = handle;
    // The client has had this handle current in an earlier life and says nothing.
    if (call.session().IsCurrent(handle)) result = call.driver().cuCtxSetCurrent(context);
  }
  call.Finish(result);
}

void HandleReleasePrimaryContext(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  VgpuMemory* vgpu = VgpuOf(call, call.args().Get<std::uint32_t>());
  if (vgpu == nullptr || vgpu->primary.bits() != handle.bits()) call.MarkBad();
  if (!Readable(call)) return;
  vgpu->primary = {};
  if (vgpu->shares_device) {
    vgpu->stand_in = nullptr;
    return EndContext(call, handle, context, &DestroyContext, nullptr);
  }
  vgpu->releasing = true;
  const auto release = [device = vgpu->device](const driver::Table& driver, CUcontext) {
    return driver.cuDevicePrimaryCtxRelease_v2(device);
  };
  EndContext(call, handle, context, release, [vgpu](CUresult) { vgpu->releasing = false; });
}

void HandleSetPrimaryContextFlags(Call& call) {
  VgpuMemory* vgpu = VgpuOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  if (!WaitUntilReleased(call, *vgpu)) return call.Finish(CUDA_ERROR_DEINITIALIZED);
  // A stand-in takes its flags when it is made; a later change of them is a hint.
  call.Finish(vgpu->shares_device
                  ? CUDA_SUCCESS
                  : call.driver().cuDevicePrimaryCtxSetFlags_v2(vgpu->device, flags));
}

void HandleCreateContext(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kContext);
  const CUdevice* device = DeviceOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  std::size_t contexts = 0;
  call.handles().ForEach(HandleKind::kContext, [&](Handle, void*) { ++contexts; });
  if (contexts >= kMaxContexts) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  CUcontext context = nullptr;
  const CUresult result = call.driver().cuCtxCreate_v2(&context, flags, *device);
  if (result == CUDA_SUCCESS) {
    call.Bind(handle, context);
    // Creating has pushed it; the client says when it is current.
    static_cast<void>(call.driver().cuCtxPopCurrent_v2(&context));
  }
  call.Finish(result);
}

void HandleDestroyContext(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  if (StateOf(call).IsPrimary(handle)) call.MarkBad();
  if (!Readable(call)) return;
  EndContext(call, handle, context, &DestroyContext, nullptr);
}

void HandleSynchronizeContext(Call& call) {
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  if (!Readable(call)) return;
  WaitForContext(call, context);
}

void HandleGetLimit(Call& call) {
  const auto limit = static_cast<CUlimit>(call.args().Get<std::int32_t>());
  if (!Readable(call)) return;
  std::size_t value = 0;
  const CUresult result = call.driver().cuCtxGetLimit(&value, limit);
  if (result == CUDA_SUCCESS) call.results().Put(static_cast<std::uint64_t>(value));
  call.Finish(result);
}

void HandleSetLimit(Call& call) {
  const auto limit = static_cast<CUlimit>(call.args().Get<std::int32_t>());
  const auto value = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuCtxSetLimit(limit, value));
}

void HandleSetCacheConfig(Call& call) {
  const auto config = static_cast<CUfunc_cache>(call.args().Get<std::int32_t>());
  if (!Readable(call)) return;
  call.Finish(call.driver().cuCtxSetCacheConfig(config));
}

void HandleResetPersistingL2Cache(Call& call) {
  if (!Readable(call)) return;
  // A hint: a device without such a cache has nothing to reset.
  static_cast<void>(call.driver().cuCtxResetPersistingL2Cache());
  call.Finish(CUDA_SUCCESS);
}

}  // namespace farwarp::server
