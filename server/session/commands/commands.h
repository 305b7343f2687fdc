// The server halves of the client's own commands (wire/internal_command.h): one function per
// command, found by id. Each reads its arguments, refuses what is forged or malformed, calls the
// driver and finishes the call, at once or through a waiter.
//
// Dispatch thread only.
#pragma once

#include <cstdint>
#include <span>

namespace farwarp::server {

class Call;

struct InternalHandler {
  std::uint32_t id;
  const char* name;
  void (*handle)(Call& call);
};

// All of them, in no particular order.
std::span<const InternalHandler> InternalHandlers();

// By file.
void HandleRetainPrimaryContext(Call& call);
void HandleReleasePrimaryContext(Call& call);
void HandleSetPrimaryContextFlags(Call& call);
void HandleCreateContext(Call& call);
void HandleDestroyContext(Call& call);
void HandleSynchronizeContext(Call& call);
void HandleGetLimit(Call& call);
void HandleSetLimit(Call& call);
void HandleSetCacheConfig(Call& call);
void HandleResetPersistingL2Cache(Call& call);

void HandleMapRange(Call& call);
void HandleUnmapRange(Call& call);
void HandleAcquireCredit(Call& call);
void HandleReturnCredit(Call& call);
void HandleMemoryInfo(Call& call);

void HandleCreatePhysical(Call& call);
void HandleReleasePhysical(Call& call);
void HandleMapPhysical(Call& call);
void HandleUnmapPhysical(Call& call);
void HandleProtectRange(Call& call);

void HandleCopyToDevice(Call& call);
void HandleCopyFromDevice(Call& call);
void HandleCopyOnDevice(Call& call);
void HandleCopyToPeer(Call& call);
void HandleFill(Call& call);

void HandleLoadModule(Call& call);
void HandleUnloadModule(Call& call);
void HandleModuleGlobal(Call& call);
void HandleBindFunction(Call& call);
void HandleLoadLibrary(Call& call);
void HandleUnloadLibrary(Call& call);
void HandleLibraryGlobal(Call& call);
void HandleLibraryManaged(Call& call);
void HandleBindKernel(Call& call);
void HandleKernelFunction(Call& call);
void HandleLibraryModule(Call& call);
void HandleFunctionAttribute(Call& call);
void HandleKernelAttribute(Call& call);
void HandleFunctionCacheConfig(Call& call);
void HandleKernelCacheConfig(Call& call);
void HandleLink(Call& call);
void HandleLinkedImage(Call& call);

void HandleLaunch(Call& call);
void HandleHostFunction(Call& call);
void HandleHostFunctionDone(Call& call);

void HandleCreateStream(Call& call);
void HandleDestroyStream(Call& call);
void HandleSynchronizeStream(Call& call);
void HandleQueryStream(Call& call);
void HandleStreamWaitEvent(Call& call);
void HandleCreateEvent(Call& call);
void HandleDestroyEvent(Call& call);
void HandleRecordEvent(Call& call);
void HandleRecordContextEvent(Call& call);
void HandleContextWaitEvent(Call& call);
void HandleQueryEvent(Call& call);
void HandleSynchronizeEvent(Call& call);
void HandleElapsedTime(Call& call);

void HandleGraphNodes(Call& call);
void HandleInstantiateGraph(Call& call);
void HandleDestroyGraph(Call& call);
void HandleLaunchGraph(Call& call);
void HandleUploadGraph(Call& call);

void HandleCreateArray(Call& call);
void HandleDestroyArray(Call& call);
void HandleCopyToArray(Call& call);
void HandleCopyFromArray(Call& call);
void HandleCopyBetweenArrays(Call& call);
void HandleCreateTexture(Call& call);
void HandleDestroyTexture(Call& call);
void HandleCreateSurface(Call& call);
void HandleDestroySurface(Call& call);

}  // namespace farwarp::server
