#include "server/session/commands/commands.h"

#include "farwarp/wire/internal_command.h"

namespace farwarp::server {

std::span<const InternalHandler> InternalHandlers() {
#define FARWARP_HANDLER(name) {wire::IdOf(wire::InternalCommand::k##name), #name, Handle##name}
  static constexpr InternalHandler kHandlers[] = {
      FARWARP_HANDLER(RetainPrimaryContext),
      FARWARP_HANDLER(ReleasePrimaryContext),
      FARWARP_HANDLER(SetPrimaryContextFlags),
      FARWARP_HANDLER(CreateContext),
      FARWARP_HANDLER(DestroyContext),
      FARWARP_HANDLER(SynchronizeContext),
      FARWARP_HANDLER(GetLimit),
      FARWARP_HANDLER(SetLimit),
      FARWARP_HANDLER(SetCacheConfig),
      FARWARP_HANDLER(ResetPersistingL2Cache),
      FARWARP_HANDLER(MapRange),
      FARWARP_HANDLER(UnmapRange),
      FARWARP_HANDLER(AcquireCredit),
      FARWARP_HANDLER(ReturnCredit),
      FARWARP_HANDLER(MemoryInfo),
      FARWARP_HANDLER(CreatePhysical),
      FARWARP_HANDLER(ReleasePhysical),
      FARWARP_HANDLER(MapPhysical),
      FARWARP_HANDLER(UnmapPhysical),
      FARWARP_HANDLER(ProtectRange),
      FARWARP_HANDLER(CopyToDevice),
      FARWARP_HANDLER(CopyFromDevice),
      FARWARP_HANDLER(CopyOnDevice),
      FARWARP_HANDLER(CopyToPeer),
      FARWARP_HANDLER(Fill),
      FARWARP_HANDLER(LoadModule),
      FARWARP_HANDLER(UnloadModule),
      FARWARP_HANDLER(ModuleGlobal),
      FARWARP_HANDLER(BindFunction),
      FARWARP_HANDLER(LoadLibrary),
      FARWARP_HANDLER(UnloadLibrary),
      FARWARP_HANDLER(LibraryGlobal),
      FARWARP_HANDLER(BindKernel),
      FARWARP_HANDLER(KernelFunction),
      FARWARP_HANDLER(LibraryModule),
      FARWARP_HANDLER(FunctionAttribute),
      FARWARP_HANDLER(KernelAttribute),
      FARWARP_HANDLER(FunctionCacheConfig),
      FARWARP_HANDLER(KernelCacheConfig),
      FARWARP_HANDLER(Link),
      FARWARP_HANDLER(LinkedImage),
      FARWARP_HANDLER(Launch),
      FARWARP_HANDLER(HostFunction),
      FARWARP_HANDLER(HostFunctionDone),
      FARWARP_HANDLER(CreateStream),
      FARWARP_HANDLER(DestroyStream),
      FARWARP_HANDLER(SynchronizeStream),
      FARWARP_HANDLER(QueryStream),
      FARWARP_HANDLER(StreamWaitEvent),
      FARWARP_HANDLER(CreateEvent),
      FARWARP_HANDLER(DestroyEvent),
      FARWARP_HANDLER(RecordEvent),
      FARWARP_HANDLER(QueryEvent),
      FARWARP_HANDLER(SynchronizeEvent),
      FARWARP_HANDLER(ElapsedTime),
      FARWARP_HANDLER(GraphNodes),
      FARWARP_HANDLER(InstantiateGraph),
      FARWARP_HANDLER(DestroyGraph),
      FARWARP_HANDLER(LaunchGraph),
      FARWARP_HANDLER(UploadGraph),
  };
#undef FARWARP_HANDLER
  return kHandlers;
}

}  // namespace farwarp::server
