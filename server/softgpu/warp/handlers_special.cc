// Special registers, read by mov.
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <string_view>

#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// The same value for all lanes, or one that depends on the lane.
using Value = uint64_t (*)(const Warp& warp, uint32_t lane);

uint64_t Thread(const Warp& warp, uint32_t lane) {
  return uint64_t{warp.index} * kLanes + lane;
}
const Dim3& BlockDim(const Warp& w) {
  return w.block->request->block;
}
const Dim3& GridDim(const Warp& w) {
  return w.block->request->grid;
}

const Cluster& ClusterOf(const Warp& w) {
  return *w.block->cluster;
}

struct Special {
  std::string_view name;
  Value value;
};

uint64_t GlobalTimer() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

constexpr Special kSpecials[] = {
    {"%tid.x", [](const Warp& w, uint32_t l) -> uint64_t { return Thread(w, l) % BlockDim(w).x; }},
    {"%tid.y",
     [](const Warp& w, uint32_t l) -> uint64_t {
       return Thread(w, l) / BlockDim(w).x % BlockDim(w).y;
     }},
    {"%tid.z",
     [](const Warp& w, uint32_t l) -> uint64_t {
       return Thread(w, l) / BlockDim(w).x / BlockDim(w).y;
     }},
    {"%ntid.x", [](const Warp& w, uint32_t) -> uint64_t { return BlockDim(w).x; }},
    {"%ntid.y", [](const Warp& w, uint32_t) -> uint64_t { return BlockDim(w).y; }},
    {"%ntid.z", [](const Warp& w, uint32_t) -> uint64_t { return BlockDim(w).z; }},
    {"%ctaid.x", [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.x; }},
    {"%ctaid.y", [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.y; }},
    {"%ctaid.z", [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.z; }},
    {"%nctaid.x", [](const Warp& w, uint32_t) -> uint64_t { return GridDim(w).x; }},
    {"%nctaid.y", [](const Warp& w, uint32_t) -> uint64_t { return GridDim(w).y; }},
    {"%nctaid.z", [](const Warp& w, uint32_t) -> uint64_t { return GridDim(w).z; }},
    {"%clusterid.x", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).id.x; }},
    {"%clusterid.y", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).id.y; }},
    {"%clusterid.z", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).id.z; }},
    {"%nclusterid.x", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).count.x; }},
    {"%nclusterid.y", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).count.y; }},
    {"%nclusterid.z", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).count.z; }},
    {"%cluster_ctaid.x",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.x % ClusterOf(w).size.x; }},
    {"%cluster_ctaid.y",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.y % ClusterOf(w).size.y; }},
    {"%cluster_ctaid.z",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->id.z % ClusterOf(w).size.z; }},
    {"%cluster_nctaid.x", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).size.x; }},
    {"%cluster_nctaid.y", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).size.y; }},
    {"%cluster_nctaid.z", [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).size.z; }},
    {"%cluster_ctarank", [](const Warp& w, uint32_t) -> uint64_t { return w.block->rank; }},
    {"%cluster_nctarank",
     [](const Warp& w, uint32_t) -> uint64_t { return ClusterOf(w).size.count(); }},
    {"%laneid", [](const Warp&, uint32_t l) -> uint64_t { return l; }},
    {"%warpid", [](const Warp& w, uint32_t) -> uint64_t { return w.index; }},
    {"%nwarpid", [](const Warp& w, uint32_t) -> uint64_t { return w.block->warps.size(); }},
    {"%smid",
     [](const Warp& w, uint32_t) -> uint64_t {
       return w.block->worker % std::max(1u, w.block->request->limits.sm_count);
     }},
    {"%nsmid",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->request->limits.sm_count; }},
    {"%gridid",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->request->limits.grid_id; }},
    {"%lanemask_eq", [](const Warp&, uint32_t l) -> uint64_t { return 1u << l; }},
    {"%lanemask_lt", [](const Warp&, uint32_t l) -> uint64_t { return (1u << l) - 1; }},
    {"%lanemask_le", [](const Warp&, uint32_t l) -> uint64_t { return (uint64_t{2} << l) - 1; }},
    {"%lanemask_gt",
     [](const Warp&, uint32_t l) -> uint64_t {
       return static_cast<uint32_t>(~((uint64_t{2} << l) - 1));
     }},
    {"%lanemask_ge",
     [](const Warp&, uint32_t l) -> uint64_t {
       return static_cast<uint32_t>(~((uint64_t{1} << l) - 1));
     }},
    {"%clock", [](const Warp&, uint32_t) -> uint64_t { return static_cast<uint32_t>(__rdtsc()); }},
    {"%clock_hi", [](const Warp&, uint32_t) -> uint64_t { return __rdtsc() >> 32; }},
    {"%clock64", [](const Warp&, uint32_t) -> uint64_t { return __rdtsc(); }},
    {"%globaltimer", [](const Warp&, uint32_t) -> uint64_t { return GlobalTimer(); }},
    {"%globaltimer_lo",
     [](const Warp&, uint32_t) -> uint64_t { return static_cast<uint32_t>(GlobalTimer()); }},
    {"%globaltimer_hi", [](const Warp&, uint32_t) -> uint64_t { return GlobalTimer() >> 32; }},
    {"%dynamic_smem_size",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->request->dynamic_shared_bytes; }},
    {"%total_smem_size",
     [](const Warp& w, uint32_t) -> uint64_t {
       return w.kernel->static_shared_bytes + w.block->request->dynamic_shared_bytes;
     }},
    {"%reserved_smem_offset_begin",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->reserved_offset; }},
    {"%reserved_smem_offset_end",
     [](const Warp& w, uint32_t) -> uint64_t {
       return w.block->reserved_offset + kReservedSharedBytes;
     }},
    {"%reserved_smem_offset_cap",
     [](const Warp&, uint32_t) -> uint64_t { return kReservedSharedBytes; }},
    {"%reserved_smem_offset_0",
     [](const Warp& w, uint32_t) -> uint64_t { return w.block->reserved_offset; }},
    {"%reserved_smem_offset_1",
     [](const Warp& w, uint32_t) -> uint64_t {
       return w.block->reserved_offset + kReservedSharedBytes / 2;
     }},
    {"%envreg1",
     [](const Warp& w, uint32_t) -> uint64_t {
       return w.block->request->limits.grid_workspace >> 32;
     }},
    {"%envreg2",
     [](const Warp& w, uint32_t) -> uint64_t {
       return static_cast<uint32_t>(w.block->request->limits.grid_workspace);
     }},
};

template <size_t index, typename T>
void Read(Warp& warp, const Ins& ins) {
  constexpr Value kValue = kSpecials[index].value;
  T values[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) values[lane] = static_cast<T>(kValue(warp, lane));
  ForLanes<T>(warp, ins.d, [&](uint32_t lane) { return values[lane]; });
}

template <size_t... index>
Handler Find(std::string_view name, uint32_t bytes, std::index_sequence<index...>) {
  Handler found = nullptr;
  ((kSpecials[index].name == name ? static_cast<void>(found = bytes == 8   ? Read<index, uint64_t>
                                                              : bytes == 4 ? Read<index, uint32_t>
                                                                           : Read<index, uint16_t>)
                                  : static_cast<void>(0)),
   ...);
  return found;
}

}  // namespace

Handler FindSpecialPredicate(std::string_view name) {
  if (name != "%is_explicit_cluster") return nullptr;
  return [](Warp& warp, const Ins& ins) {
    StorePredicate(warp, ins.d, ClusterOf(warp).is_explicit ? ~0u : 0);
  };
}

Handler FindSpecial(std::string_view name, uint32_t bytes) {
  return Find(name, bytes, std::make_index_sequence<sizeof kSpecials / sizeof kSpecials[0]>());
}

}  // namespace farwarp::softgpu
