// Loading an image: what cuModuleLoad*, cuLibraryLoad* have in common. The image travels once; the
// reply brings the JIT's logs and the whole function table.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client/driver/module/function_table.h"
#include "client/driver/module/image.h"
#include "client/driver/module/jit_options.h"
#include "client/session/command.h"
#include "client/session/session.h"
#include "cuda/driver_api.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {

// Loads `image` (a pointer without a length) as `handle`. On failure the error log is in the
// application's buffer, if it gave one, and in ours.
CUresult LoadImage(Session& session, wire::InternalCommand command, wire::Handle handle,
                   const void* image, const JitOptions& options,
                   std::shared_ptr<const FunctionTable>* table);
CUresult LoadImageFile(Session& session, wire::InternalCommand command, wire::Handle handle,
                       const char* path, const JitOptions& options,
                       std::shared_ptr<const FunctionTable>* table);

// The contents of a file with device code, at most wire::kMaxImageBytes.
// CUDA_ERROR_FILE_NOT_FOUND if there is none, CUDA_ERROR_INVALID_IMAGE if it is larger.
CUresult ReadImageFile(const char* path, std::vector<std::byte>* contents);
// The bulk part of a command: `bytes:u64 transfer:u64 [data if transfer is 0]`.
void PutBulk(Session& session, Command& command, std::span<const std::byte> bytes);
// What a command that PutBulk is used for has to name: how much of `bytes` will travel beside it.
constexpr std::size_t BulkBytes(std::size_t bytes) {
  return bytes <= wire::kInlineDataBytes ? 0 : bytes;
}

// Asks for a variable of a module or library by name.
CUresult AskVariable(Session& session, wire::InternalCommand command, wire::Handle handle,
                     const char* name, std::uint64_t* address, std::uint64_t* bytes);

}  // namespace farwarp::client
