// Occupancy arithmetic: how many blocks of a kernel fit on one multiprocessor, from the kernel's
// attributes and the device's limits. What CUDA documents for cuOccupancy*, computed in the client.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <functional>

namespace farwarp::client {

struct DeviceLimits {
  int warp_size = 32;
  int max_threads_per_block = 1024;
  int max_threads_per_multiprocessor = 1536;
  int max_blocks_per_multiprocessor = 24;
  int registers_per_multiprocessor = 65536;
  int registers_per_block = 65536;
  int shared_per_multiprocessor = 102400;
  int shared_per_block = 49152;
  int shared_per_block_optin = 101376;
  int reserved_shared_per_block = 1024;
  int multiprocessors = 1;
};

struct KernelResources {
  int registers = 0;            // Per thread.
  int static_shared_bytes = 0;  // Per block.
  int max_threads_per_block = 1024;
  int max_dynamic_shared_bytes = 49152;  // As set by cuFuncSetAttribute.
};

// Blocks of `block_threads` threads and `dynamic_shared_bytes` that fit; 0 if none does.
int ActiveBlocks(const DeviceLimits& device, const KernelResources& kernel, int block_threads,
                 std::uint64_t dynamic_shared_bytes) noexcept;

struct BlockSize {
  int min_grid = 0;
  int block = 0;
};
// The block size with the most active threads; the larger block among equals. `shared_for` says how
// much dynamic shared memory a block of that many threads takes; it is called without any lock
// held.
BlockSize BestBlockSize(const DeviceLimits& device, const KernelResources& kernel,
                        const std::function<std::uint64_t(int)>& shared_for, int block_limit);

// The dynamic shared memory each block may use if `blocks` of them are to be active. False if even
// none allows that many.
bool AvailableSharedPerBlock(const DeviceLimits& device, const KernelResources& kernel, int blocks,
                             int block_threads, std::uint64_t* bytes) noexcept;

}  // namespace farwarp::client
