// Loading an image: what cuModuleLoad*, cuLibraryLoad* have in common. The image travels once; the
// reply brings the JIT's logs and the whole function table.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "client/driver/function_table.h"
#include "client/driver/image.h"
#include "client/session/session.h"
#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

// An application's JIT options: two parallel arrays, some values of which are written to.
struct JitOptions {
  unsigned count = 0;
  CUjit_option* options = nullptr;
  void** values = nullptr;
};

// Loads `image` (a pointer without a length) as `handle`. On failure the error log is in the
// application's buffer, if it gave one, and in ours.
CUresult LoadImage(Session& session, wire::InternalCommand command, wire::Handle handle,
                   const void* image, const JitOptions& options,
                   std::shared_ptr<const FunctionTable>* table);
CUresult LoadImageFile(Session& session, wire::InternalCommand command, wire::Handle handle,
                       const char* path, const JitOptions& options,
                       std::shared_ptr<const FunctionTable>* table);

// Asks for a variable of a module or library by name.
CUresult AskVariable(Session& session, wire::InternalCommand command, wire::Handle handle,
                     const char* name, std::uint64_t* address, std::uint64_t* bytes);

}  // namespace farwarp::client
