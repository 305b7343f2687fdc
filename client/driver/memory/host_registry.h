// HostRegistry: the application's page-locked host memory, as cuMemHostAlloc, cuMemAllocHost and
// cuMemHostRegister declare it. Nothing is locked for real: the network copies from where the bytes
// are. What matters is what CUDA promises: a copy to or from registered memory may be asynchronous.
//
// Memory that was allocated here belongs to the registry until it is freed; registered memory
// belongs to the application.
//
// Thread-safe. Contains() is on the copy path: a lock and a tree walk, nothing when empty.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

class HostRegistry {
 public:
  struct Block {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    unsigned flags = 0;
    bool allocated = false;    // By us, else registered.
    std::uint64_t owner = 0;   // The context that was current.
    std::uint64_t serial = 0;  // CU_POINTER_ATTRIBUTE_BUFFER_ID
  };
  enum class Outcome { kDone, kOutOfMemory, kOverlaps, kUnknown, kWrongKind };

  HostRegistry() = default;
  HostRegistry(const HostRegistry&) = delete;
  HostRegistry& operator=(const HostRegistry&) = delete;
  ~HostRegistry();

  // Zeroed memory, page-aligned; nullptr if there is none.
  void* Allocate(std::uint64_t bytes, unsigned flags, std::uint64_t owner) EXCLUDES(mutex_);
  // kUnknown: no block begins there; kWrongKind: it was registered, not allocated.
  Outcome Free(std::uint64_t address) EXCLUDES(mutex_);
  Outcome Register(std::uint64_t address, std::uint64_t bytes, unsigned flags, std::uint64_t owner)
      EXCLUDES(mutex_);
  Outcome Unregister(std::uint64_t address) EXCLUDES(mutex_);
  // Drops everything a destroyed context owned.
  void DropOwnedBy(std::uint64_t owner) EXCLUDES(mutex_);

  std::optional<Block> Find(std::uint64_t address) const EXCLUDES(mutex_);
  // True if the whole range lies in one block.
  bool Contains(std::uint64_t address, std::uint64_t bytes) const EXCLUDES(mutex_);

 private:
  const Block* FindLocked(std::uint64_t address) const REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::uint64_t, Block> blocks_ GUARDED_BY(mutex_);
  std::uint64_t next_serial_ GUARDED_BY(mutex_) = std::uint64_t{1} << 40;  // Apart from device ids.
  std::atomic<std::size_t> count_{0};  // Relaxed: a hint that skips the lock.
};

}  // namespace farwarp::client
