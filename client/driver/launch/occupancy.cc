#include "client/driver/launch/occupancy.h"

#include <algorithm>

namespace farwarp::client {
namespace {

// Units in which the hardware hands out registers and shared memory (compute capability 5 and up).
constexpr int kRegistersPerWarpUnit = 256;
constexpr std::uint64_t kSharedUnit = 128;
constexpr int kSchedulersPerMultiprocessor = 4;

template <typename T>
constexpr T RoundUp(T value, T unit) {
  return (value + unit - 1) / unit * unit;
}

int WarpsOf(const DeviceLimits& device, int threads) {
  return (threads + device.warp_size - 1) / device.warp_size;
}

int BlocksByRegisters(const DeviceLimits& device, const KernelResources& kernel, int warps) {
  if (kernel.registers <= 0) return device.max_blocks_per_multiprocessor;
  const int per_warp = RoundUp(kernel.registers * device.warp_size, kRegistersPerWarpUnit);
  if (RoundUp(warps, kSchedulersPerMultiprocessor) * per_warp > device.registers_per_block &&
      warps * per_warp > device.registers_per_block) {
    return 0;
  }
  // Each of the schedulers has an equal part of the register file, and warps do not span two.
  const int per_scheduler = device.registers_per_multiprocessor / kSchedulersPerMultiprocessor;
  return per_scheduler / per_warp * kSchedulersPerMultiprocessor / warps;
}

}  // namespace

int ActiveBlocks(const DeviceLimits& device, const KernelResources& kernel, int block_threads,
                 std::uint64_t dynamic_shared_bytes) noexcept {
  if (block_threads <= 0 || block_threads > device.max_threads_per_block ||
      block_threads > kernel.max_threads_per_block || device.warp_size <= 0) {
    return 0;
  }
  if (dynamic_shared_bytes >
      static_cast<std::uint64_t>(std::max(device.shared_per_multiprocessor, 0)))
    return 0;
  const int warps = WarpsOf(device, block_threads);
  int blocks = std::min(device.max_blocks_per_multiprocessor,
                        device.max_threads_per_multiprocessor / device.warp_size / warps);
  blocks = std::min(blocks, BlocksByRegisters(device, kernel, warps));

  const std::uint64_t used =
      static_cast<std::uint64_t>(kernel.static_shared_bytes) + dynamic_shared_bytes;
  if (used > static_cast<std::uint64_t>(
                 std::max(device.shared_per_block_optin, device.shared_per_block))) {
    return 0;
  }
  const std::uint64_t per_block =
      RoundUp(used + static_cast<std::uint64_t>(device.reserved_shared_per_block), kSharedUnit);
  if (per_block > 0) {
    blocks = static_cast<int>(std::min<std::uint64_t>(
        static_cast<std::uint64_t>(blocks),
        static_cast<std::uint64_t>(device.shared_per_multiprocessor) / per_block));
  }
  return std::max(blocks, 0);
}

BlockSize BestBlockSize(const DeviceLimits& device, const KernelResources& kernel,
                        const std::function<std::uint64_t(int)>& shared_for, int block_limit) {
  const int limit = std::min(device.max_threads_per_block, kernel.max_threads_per_block);
  const int largest = block_limit > 0 ? std::min(block_limit, limit) : limit;
  BlockSize best;
  int best_threads = 0;
  // From the largest down in whole warps, so that the first of equals is the largest.
  for (int rounded = RoundUp(largest, device.warp_size); rounded > 0; rounded -= device.warp_size) {
    const int block = std::min(rounded, largest);
    const int active = ActiveBlocks(device, kernel, block, shared_for(block));
    if (active * block > best_threads) {
      best_threads = active * block;
      best = {active * device.multiprocessors, block};
    }
    if (best_threads == device.max_threads_per_multiprocessor) break;
  }
  return best;
}

bool AvailableSharedPerBlock(const DeviceLimits& device, const KernelResources& kernel, int blocks,
                             int block_threads, std::uint64_t* bytes) noexcept {
  if (blocks <= 0 || ActiveBlocks(device, kernel, block_threads, 0) < blocks) return false;
  const std::uint64_t each = static_cast<std::uint64_t>(device.shared_per_multiprocessor / blocks) /
                             kSharedUnit * kSharedUnit;
  const auto taken = static_cast<std::uint64_t>(device.reserved_shared_per_block) +
                     static_cast<std::uint64_t>(kernel.static_shared_bytes);
  if (each < taken) return false;
  const auto most = static_cast<std::uint64_t>(std::max(
      kernel.max_dynamic_shared_bytes, device.shared_per_block - kernel.static_shared_bytes));
  *bytes = std::min(each - taken, most);
  return true;
}

}  // namespace farwarp::client
