// Occupancy: how many blocks of a kernel fit on one multiprocessor of the imitated devices. Pure
// functions, thread-safe.
#pragma once

#include <cstddef>
#include <functional>

namespace farwarp::softgpu {

// What one block of a kernel takes.
struct KernelUse {
  int registers = 0;  // Per thread.
  int static_shared = 0;
  int max_dynamic_shared = 48 << 10;
  int max_threads = 1024;
};

int ActiveBlocks(const KernelUse& kernel, int threads, std::size_t dynamic_shared);

struct BlockChoice {
  int threads = 0;
  int blocks = 0;  // Per multiprocessor.
};
// The block size with the most active threads, the larger among equals; `limit` 0: none.
BlockChoice BestBlock(const KernelUse& kernel, int limit,
                      const std::function<std::size_t(int)>& dynamic_shared);

// Dynamic shared memory per block that still lets `blocks` run at once; 0 if not even none does.
std::size_t AvailableDynamicShared(const KernelUse& kernel, int blocks, int threads);

}  // namespace farwarp::softgpu
