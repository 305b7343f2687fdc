// malloc and free in kernels: each lane asks the heap of its context.
#include <cstring>

#include "server/softgpu/memory/device_heap.h"
#include "server/softgpu/warp/handlers.h"
#include "server/softgpu/warp/lanes.h"

namespace farwarp::softgpu {
namespace {

// The caller's local memory, where arguments and results of the call lie.
uint64_t LocalOf(const Warp& warp, uint32_t lane) {
  const uint64_t thread = uint64_t{warp.index} * kLanes + lane;
  return warp.block->local_base + thread * warp.block->local_stride + warp.frame->local;
}

// What the call gives as its parameter of that number.
uint64_t Argument(const CallSite& site, uint64_t local, size_t number) {
  uint64_t value;
  std::memcpy(&value, reinterpret_cast<const void*>(local + site.params[number]), sizeof value);
  return value;
}

void Allocate(Warp& warp, const Ins& ins, bool aligned) {
  const CallSite& site = warp.kernel->calls[ins.target];
  DeviceHeap* const heap = warp.block->request->heap;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const uint64_t local = LocalOf(warp, lane);
    const uint64_t bytes = Argument(site, local, 0);
    const uint64_t align = aligned ? Argument(site, local, 1) : DeviceHeap::kGrain;
    const uint64_t address = heap == nullptr ? 0 : heap->Allocate(bytes, align);
    if (!site.returns.empty())
      std::memcpy(reinterpret_cast<void*>(local + site.returns[0]), &address, sizeof address);
  }
}

}  // namespace

void HeapAllocate(Warp& warp, const Ins& ins) {
  Allocate(warp, ins, false);
}

void HeapAllocateAligned(Warp& warp, const Ins& ins) {
  Allocate(warp, ins, true);
}

void HeapFree(Warp& warp, const Ins& ins) {
  const CallSite& site = warp.kernel->calls[ins.target];
  DeviceHeap* const heap = warp.block->request->heap;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if ((warp.active >> lane & 1) == 0) continue;
    const uint64_t address = Argument(site, LocalOf(warp, lane), 0);
    if (address == 0 || (heap != nullptr && heap->Free(address))) continue;
    RaiseFault(warp, FaultKind::kTrap, address, 1u << lane,
               "free of an address that malloc did not give");
  }
}

}  // namespace farwarp::softgpu
