#include "server/softgpu/api/launch/occupancy.h"

#include <algorithm>

#include "server/softgpu/api/device.h"

namespace farwarp::softgpu {
namespace {

// Registers are given to warps in units of this many.
constexpr int kRegisterUnit = 256;
constexpr int kSharedUnit = 128;

int RoundUp(int value, int unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

int ActiveBlocks(const KernelUse& kernel, int threads, std::size_t dynamic_shared) {
  if (threads <= 0 || threads > std::min(kernel.max_threads, kMaxThreadsPerBlock) ||
      dynamic_shared > static_cast<std::size_t>(std::max(kernel.max_dynamic_shared, 0))) {
    return 0;
  }
  const int warps = (threads + kWarpSize - 1) / kWarpSize;
  int blocks = std::min(kBlocksPerMultiprocessor, kThreadsPerMultiprocessor / (warps * kWarpSize));
  const int per_warp = RoundUp(std::clamp(kernel.registers, 1, 255) * kWarpSize, kRegisterUnit);
  blocks = std::min(blocks, kRegisters / per_warp / warps);
  const int shared =
      RoundUp(kernel.static_shared + static_cast<int>(dynamic_shared) + kReservedSharedPerBlock,
              kSharedUnit);
  return std::max(0, std::min(blocks, kSharedPerMultiprocessor / shared));
}

BlockChoice BestBlock(const KernelUse& kernel, int limit,
                      const std::function<std::size_t(int)>& dynamic_shared) {
  int most = std::min(kernel.max_threads, kMaxThreadsPerBlock);
  if (limit > 0) most = std::min(most, limit);
  BlockChoice best;
  for (int threads = RoundUp(most, kWarpSize); threads > 0; threads -= kWarpSize) {
    const int tried = std::min(threads, most);
    const int blocks = ActiveBlocks(kernel, tried, dynamic_shared(tried));
    if (blocks * tried > best.blocks * best.threads) best = {tried, blocks};
  }
  return best;
}

std::size_t AvailableDynamicShared(const KernelUse& kernel, int blocks, int threads) {
  if (ActiveBlocks(kernel, threads, 0) < blocks) return 0;
  const int share = kSharedPerMultiprocessor / blocks / kSharedUnit * kSharedUnit;
  const int dynamic = std::min(share, kSharedPerBlockOptin + kReservedSharedPerBlock) -
                      kReservedSharedPerBlock - kernel.static_shared;
  return static_cast<std::size_t>(std::max(dynamic, 0));
}

}  // namespace farwarp::softgpu
