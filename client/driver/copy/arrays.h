// Arrays: CUDA arrays, textures and surfaces as the application sees them: what they were made of,
// so that questions need no reply, and what the arrays cost.
//
// A copy between the application's memory and an array goes through device memory of the stream's
// pool: the bytes travel as those of any copy, and the device moves them into place.
//
// Thread-safe. Lives as long as the Process.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "client/driver/copy/copy.h"
#include "client/driver/stream/stream.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

struct Caller;
struct Device;
class Process;

class Arrays {
 public:
  struct Array {
    CUDA_ARRAY3D_DESCRIPTOR descriptor{};
    Device* device = nullptr;
    wire::Handle context;
    std::uint64_t bytes = 0;  // Paid.
  };
  struct Texture {
    CUDA_RESOURCE_DESC resource{};
    CUDA_TEXTURE_DESC texture{};
  };

  explicit Arrays(Process& process) : process_(process) {}

  CUresult Create(const Caller& caller, const CUDA_ARRAY3D_DESCRIPTOR& descriptor, CUarray* array)
      EXCLUDES(mutex_);
  CUresult Destroy(const Caller& caller, CUarray array) EXCLUDES(mutex_);
  std::optional<Array> Find(CUarray array) EXCLUDES(mutex_);

  CUresult CreateTexture(const Caller& caller, const CUDA_RESOURCE_DESC& resource,
                         const CUDA_TEXTURE_DESC& texture, CUtexObject* number) EXCLUDES(mutex_);
  CUresult DestroyTexture(const Caller& caller, CUtexObject number) EXCLUDES(mutex_);
  std::optional<Texture> FindTexture(const Caller& caller, CUtexObject number) EXCLUDES(mutex_);
  CUresult CreateSurface(const Caller& caller, const CUDA_RESOURCE_DESC& resource,
                         CUsurfObject* number) EXCLUDES(mutex_);
  CUresult DestroySurface(const Caller& caller, CUsurfObject number) EXCLUDES(mutex_);
  std::optional<CUDA_RESOURCE_DESC> FindSurface(const Caller& caller, CUsurfObject number)
      EXCLUDES(mutex_);

  // Forgets what was made in a context that has ended.
  void DropContext(wire::Handle context) EXCLUDES(mutex_);

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // Context's handle, number.

  Process& process_;
  Mutex mutex_;
  std::map<std::uint64_t, Array> arrays_ GUARDED_BY(mutex_);  // By handle.
  std::map<Key, Texture> textures_ GUARDED_BY(mutex_);
  std::map<Key, CUDA_RESOURCE_DESC> surfaces_ GUARDED_BY(mutex_);
};

// A copy of which at least one side is an array.
CUresult CopyWithArray(const Caller& caller, const CUDA_MEMCPY3D& copy, CUstream stream,
                       NullStream null, Timing timing);

}  // namespace farwarp::client
