// Pools: stream-ordered allocation (cuMemAllocAsync and its kin) in the client. The client names
// device memory, so an allocation needs no reply; a stream's order decides when memory that it
// frees may be used again.
//
// What a stream has freed, the same stream gets back at once for an allocation of the same size,
// since its work is in order. Anybody else gets it when the client knows that the work given before
// the free is over, or when memory is short and the client has waited for it.
//
// Thread-safe. Lives as long as the Process.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "client/driver/object_table.h"
#include "client/driver/stream/stream.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/graph/pool_books.h"

namespace farwarp::client {

struct Caller;
struct Device;
class Process;

struct MemPool {
  explicit MemPool(std::uint64_t max_bytes = 0) : books(max_bytes) {}

  int ordinal = 0;  // Of its device.
  bool is_default = false;
  graph::PoolBooks books;
};

class Pools {
 public:
  explicit Pools(Process& process) : process_(process) {}

  // The pool of a device that always exists, and the one that cuMemAllocAsync uses.
  CUmemoryPool Default(int ordinal) EXCLUDES(mutex_);
  CUmemoryPool Current(int ordinal) EXCLUDES(mutex_);
  CUresult SetCurrent(int ordinal, CUmemoryPool pool) EXCLUDES(mutex_);
  CUresult Create(const CUmemPoolProps& props, CUmemoryPool* pool) EXCLUDES(mutex_);
  CUresult Destroy(CUmemoryPool pool) EXCLUDES(mutex_);
  std::shared_ptr<MemPool> Find(CUmemoryPool pool) EXCLUDES(mutex_);

  CUresult Allocate(const Caller& caller, const StreamUse& use, CUmemoryPool pool,
                    std::uint64_t bytes, CUdeviceptr* address) EXCLUDES(mutex_);
  CUresult Free(const Caller& caller, const StreamUse& use, CUdeviceptr address) EXCLUDES(mutex_);
  // cuMemFree of what may have come from a pool. False if a stream has freed it already.
  bool Forget(CUdeviceptr address) EXCLUDES(mutex_);
  // A context has ended: what was allocated in it is nobody's any more.
  void DropGone() EXCLUDES(mutex_);
  // Gives back what is known to be unused.
  void Sweep() EXCLUDES(mutex_);

 private:
  struct Block {
    Device* device;
    std::uint64_t bytes;
    std::uint64_t serial;  // Of the allocation; another one means that this is gone.
    std::shared_ptr<MemPool> pool;
  };
  struct Freed {
    Block block;
    std::uint64_t stream;
    Context* context;    // Of the stream.
    std::uint64_t mark;  // In its work: over when that is settled.
  };

  // Finds memory for an allocation that the pool has been charged for.
  CUresult Carve(const Caller& caller, const StreamUse& use, const std::shared_ptr<MemPool>& pool,
                 std::uint64_t bytes, CUdeviceptr* address) EXCLUDES(mutex_);
  // Whether the block's allocation has ended otherwise than through here.
  static bool Gone(CUdeviceptr address, const Block& block);
  static std::uint64_t KeyOf(const StreamUse& use) noexcept;
  bool Reuse(std::uint64_t stream, const Device& device, std::uint64_t bytes,
             std::shared_ptr<MemPool> pool, CUdeviceptr* address) REQUIRES(mutex_);
  void SweepLocked() REQUIRES(mutex_);
  CUmemoryPool DefaultLocked(int ordinal) REQUIRES(mutex_);

  Process& process_;
  Mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<MemPool>> pools_ GUARDED_BY(mutex_);
  std::map<int, CUmemoryPool> default_ GUARDED_BY(mutex_);
  std::map<int, CUmemoryPool> current_ GUARDED_BY(mutex_);
  std::uint32_t next_ GUARDED_BY(mutex_) = 0;
  std::map<CUdeviceptr, Block> blocks_ GUARDED_BY(mutex_);  // Allocated.
  std::map<CUdeviceptr, Freed> freed_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::client
