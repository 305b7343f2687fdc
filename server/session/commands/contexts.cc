// Contexts on the server's side of the client's handles.
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/commands/wait.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

namespace {

CUdevice* DeviceOf(Call& call, std::uint32_t vgpu) {
  VgpuMemory* memory = StateOf(call).FindVgpu(vgpu);
  if (memory == nullptr) call.MarkBad();
  return memory != nullptr ? &memory->device : nullptr;
}

// Before a context ends: nothing of ours may live in it, and it may not stay current.
void LeaveContext(Call& call, Handle handle, CUcontext context) {
  StateOf(call).DropContext(context);
  if (call.session().IsCurrent(handle)) {
    static_cast<void>(call.driver().cuCtxSetCurrent(nullptr));
  }
}

}  // namespace

void HandleRetainPrimaryContext(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kContext);
  const CUdevice* device = DeviceOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  CUcontext context = nullptr;
  // Flags of an active context change too; a driver that refuses keeps its own.
  static_cast<void>(call.driver().cuDevicePrimaryCtxSetFlags_v2(*device, flags));
  CUresult result = call.driver().cuDevicePrimaryCtxRetain(&context, *device);
  if (result == CUDA_SUCCESS) {
    call.Bind(handle, context);
    // The client has had this handle current in an earlier life and says nothing.
    if (call.session().IsCurrent(handle)) result = call.driver().cuCtxSetCurrent(context);
  }
  call.Finish(result);
}

void HandleReleasePrimaryContext(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* context = static_cast<CUcontext>(call.Take(HandleKind::kContext));
  const CUdevice* device = DeviceOf(call, call.args().Get<std::uint32_t>());
  if (!Readable(call)) return;
  LeaveContext(call, handle, context);
  call.Finish(call.driver().cuDevicePrimaryCtxRelease_v2(*device));
}

void HandleSetPrimaryContextFlags(Call& call) {
  const CUdevice* device = DeviceOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuDevicePrimaryCtxSetFlags_v2(*device, flags));
}

void HandleCreateContext(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kContext);
  const CUdevice* device = DeviceOf(call, call.args().Get<std::uint32_t>());
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
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
  auto* context = static_cast<CUcontext>(call.Take(HandleKind::kContext));
  if (!Readable(call)) return;
  LeaveContext(call, handle, context);
  call.Finish(call.driver().cuCtxDestroy_v2(context));
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
