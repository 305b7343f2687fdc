// What blocks of a cluster do together: their barrier, and addresses in each other's memory.
#include "server/softgpu/warp/access.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// The same place in the memory of another block; `address` itself where there is no such block.
uint64_t InRank(const Block& block, uint64_t address, uint32_t rank) {
  const Block* const owner = OwnerOfShared(block, address);
  const auto& blocks = block.cluster->blocks;
  if (owner == nullptr || rank >= blocks.size()) return address;
  return address - owner->shared_base + blocks[rank]->shared_base;
}

}  // namespace

void CheckClusterBarrier(Cluster& cluster) {
  bool any = false;
  for (const Block* block : cluster.blocks) {
    if (block->live == 0) continue;
    for (const Warp& warp : block->warps) {
      if ((warp.live & ~warp.at_cluster) != 0) return;
      any |= (warp.live & warp.at_cluster) != 0;
    }
  }
  if (!any) return;
  for (Block* block : cluster.blocks) {
    if (block->live == 0) continue;
    for (Warp& warp : block->warps) {
      warp.at_cluster = 0;
      for (Group& group : warp.waiting) {
        if (group.state == GroupState::kAtClusterBarrier) group.state = GroupState::kReady;
      }
    }
  }
  ++cluster.progress;
}

void ClusterArrive(Warp& warp, const Ins&) {
  if ((warp.at_cluster & warp.active) != 0)
    RaiseFault(warp, FaultKind::kIllegalInstruction, 0, warp.at_cluster & warp.active,
               "arrives twice at the cluster's barrier");
  warp.at_cluster |= warp.active;
  ++warp.block->cluster->progress;
  CheckClusterBarrier(*warp.block->cluster);
}

// Threads whose phase has completed since they arrived are no longer among those that have arrived.
void ClusterWait(Warp& warp, const Ins&) {
  const uint32_t waits = warp.active & warp.at_cluster;
  if (waits == 0) return;
  warp.waiting.push_back({warp.pc, waits, warp.frame, GroupState::kAtClusterBarrier, 0});
  const uint32_t rest = warp.mask & ~waits;
  if (rest != 0) {
    warp.waiting.push_back({warp.pc, rest, warp.frame, GroupState::kReady, 0});
    ++warp.frame->references;
  }
  warp.mask = 0;
  warp.event = Event::kParked;
}

void MapToRank(Warp& warp, const Ins& ins) {
  const uint64_t* const a = warp.Reg<uint64_t>(ins.a);
  const uint32_t* const rank = warp.Reg<uint32_t>(ins.b);
  uint64_t result[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    result[lane] = InRank(*warp.block, a[lane], rank[lane]);
  ForLanes<uint64_t>(warp, ins.d, [&](uint32_t lane) { return result[lane]; });
}

void MapSharedToRank(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t* const rank = warp.Reg<uint32_t>(ins.b);
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    return (a[lane] & ((1u << kClusterShift) - 1)) | (rank[lane] + 1) << kClusterShift;
  });
}

void RankOf(Warp& warp, const Ins& ins) {
  const uint64_t* const a = warp.Reg<uint64_t>(ins.a);
  uint32_t result[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const Block* const owner = OwnerOfShared(*warp.block, a[lane]);
    result[lane] = owner == nullptr ? warp.block->rank : owner->rank;
  }
  ForLanes<uint32_t>(warp, ins.d, [&](uint32_t lane) { return result[lane]; });
}

void RankOfShared(Warp& warp, const Ins& ins) {
  const uint32_t* const a = warp.Reg<uint32_t>(ins.a);
  const uint32_t own = warp.block->rank;
  ForLanes<uint32_t>(warp, ins.d, [=](uint32_t lane) {
    const uint32_t window = a[lane] >> kClusterShift;
    return window == 0 ? own : window - 1;
  });
}

}  // namespace farwarp::softgpu
