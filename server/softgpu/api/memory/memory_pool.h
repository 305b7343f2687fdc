// MemoryPool: what cuMemAllocAsync allocates from. The software GPU has no cache to keep memory in,
// so a pool only keeps books, and what a stream frees is free at once. Thread-safe.
#pragma once

#include <cstdint>

#include "farwarp/graph/pool_books.h"

namespace farwarp::softgpu {

struct MemoryPool {
  MemoryPool(int of_device, bool of_every_device, std::uint64_t max_bytes = 0)
      : device(of_device), is_default(of_every_device), books(max_bytes) {}

  const int device;
  const bool is_default;  // The one that each device always has.
  graph::PoolBooks books;
};

}  // namespace farwarp::softgpu
