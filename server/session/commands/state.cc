#include "server/session/commands/state.h"

#include <algorithm>

#include "farwarp/base/log.h"
#include "proto/cuda/context_errors.h"
#include "server/session/call.h"
#include "server/session/handle_table.h"
#include "server/session/quota.h"

namespace farwarp::server {
namespace {

constexpr std::uint64_t kGranularity = std::uint64_t{2} << 20;
constexpr std::uint64_t kFirstCredit = std::uint64_t{64} << 20;

// True if [address, address + bytes) touches one of `pieces`, which are by address.
template <typename Piece, typename BytesOf>
bool Overlaps(const std::map<std::uint64_t, Piece>& pieces, std::uint64_t address,
              std::uint64_t bytes, BytesOf bytes_of) {
  const auto after = pieces.lower_bound(address);
  if (after != pieces.end() && after->first - address < bytes) return true;
  if (after == pieces.begin()) return false;
  const auto before = std::prev(after);
  return address - before->first < bytes_of(before->second);
}

// Bytes from the first to the last byte of a copy; false if that is no number.
bool SpanOf(const wire::CopyPlane& plane, const wire::CopyExtent& extent, std::uint64_t* bytes) {
  std::uint64_t rows = 0, slices = 0;
  return !__builtin_mul_overflow(extent.rows - 1, plane.pitch, &rows) &&
         !__builtin_mul_overflow(extent.slices - 1, plane.slice_pitch, &slices) &&
         !__builtin_add_overflow(rows, slices, bytes) &&
         !__builtin_add_overflow(*bytes, extent.row_bytes, bytes);
}

}  // namespace

void HostFunctions::WaitFor(std::uint64_t number) {
  const MutexLock lock(mutex_);
  while (!closed_ && done_.erase(number) == 0) changed_.Wait(mutex_);
}

void HostFunctions::Done(std::uint64_t number) {
  const MutexLock lock(mutex_);
  if (closed_ || done_.size() >= 4096) return;  // More than can be under way: forged.
  done_.insert(number);
  changed_.NotifyAll();
}

void HostFunctions::Close() noexcept {
  const MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

CommandState::~CommandState() {
  host_functions->Close();
  finisher.Drain();
  graphs.Clear(driver_);
  for (std::uint32_t i = 0; i < vgpus_.size(); ++i) {
    for (const auto& [address, range] : vgpus_[i].ranges) {
      driver_.cuMemUnmap(address, range.bytes);
      if (range.number == 0) driver_.cuMemRelease(range.physical);
    }
    quota_.Discharge(i, vgpus_[i].charged);
  }
  for (const auto& [number, physical] : physicals_) FreePhysical(physical);
  if (window_bytes_ != 0) driver_.cuMemAddressFree(window_base_, window_bytes_);
}

CommandState::Leaving CommandState::DropContext(CUcontext context, wire::Handle handle,
                                                HandleTable& handles) {
  Leaving leaving;
  if (const auto lane = scrubs.Drop(driver_, context); lane.has_value()) {
    finisher.RunQuietly([this, lane] {
      driver_.cuEventDestroy_v2(lane->event);
      driver_.cuStreamDestroy_v2(lane->stream);
    });
  }
  waits.pairs.Drop(driver_, context);
  staging->Forget(context);
  const auto in_context = [&](const auto& entry) { return entry.first == handle.bits(); };
  std::erase_if(textures, in_context);
  std::erase_if(surfaces, in_context);
  handles.RemoveOwnedBy(handle, [this, &leaving](wire::Handle ended) {
    if (ended.Is(wire::HandleKind::kArray)) return LeaveArray(ended, &leaving);
    if (!ended.Is(wire::HandleKind::kModule)) return;
    modules.erase(ended.bits());
    DropVariables(ended);
  });
  std::erase_if(variables_,
                [&](const auto& entry) { return entry.second.context == handle.bits(); });
  return leaving;
}

void CommandState::ContextEnded(wire::Handle handle, const Leaving& leaving, CUresult result) {
  // The end of a context that had failed may say why.
  const bool gone = result == CUDA_SUCCESS || cuda::EndsContext(result);
  Left(leaving, gone);
  const auto stuck = stuck_.find(handle.bits());
  if (!gone || stuck == stuck_.end()) return;
  for (const auto& [vgpu, bytes] : stuck->second) vgpu->mapped -= bytes;
  stuck_.erase(stuck);
}

void CommandState::Left(const Leaving& leaving, bool gone) {
  for (const auto& [vgpu, bytes] : leaving) {
    vgpu->unmapping -= bytes;
    if (gone) vgpu->mapped -= bytes;
  }
}

CUresult CommandState::Open(const std::vector<CUdevice>& devices, std::uint64_t base,
                            std::uint64_t bytes, std::vector<std::uint64_t>* credit) {
  CUdeviceptr reserved = 0;
  const CUresult result = driver_.cuMemAddressReserve(&reserved, bytes, kGranularity,
                                                      static_cast<CUdeviceptr>(base), 0);
  if (result != CUDA_SUCCESS) return result;
  if (reserved != base) {
    driver_.cuMemAddressFree(reserved, bytes);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  window_base_ = base;
  window_bytes_ = bytes;
  const std::uint64_t share = bytes / devices.size() / kGranularity * kGranularity;
  for (std::uint32_t i = 0; i < devices.size(); ++i) {
    VgpuMemory vgpu;
    vgpu.device = devices[i];
    vgpu.shares_device =
        std::find(devices.begin(), devices.begin() + i, devices[i]) != devices.begin() + i;
    vgpu.window_base = base + i * share;
    vgpu.window_bytes = share;
    // Small, because what one process holds and does not use another of the lease cannot have.
    std::uint64_t first = std::min(kFirstCredit, quota_.Limit(i) / 8) / kGranularity * kGranularity;
    if (first != 0 && !quota_.Charge(i, first)) first = 0;
    vgpu.charged = first;
    credit->push_back(first);
    vgpus_.push_back(std::move(vgpu));
  }
  return CUDA_SUCCESS;
}

CUresult CommandState::MapRange(std::uint32_t index, std::uint64_t address, std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  if (vgpu == nullptr || bytes == 0 || bytes % kGranularity != 0 || address % kGranularity != 0 ||
      address < vgpu->window_base || address - vgpu->window_base > vgpu->window_bytes ||
      bytes > vgpu->window_bytes - (address - vgpu->window_base)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  finisher.Settle();
  if (Taken(*vgpu, address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (!Afford(*vgpu, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!Vacate(*vgpu, address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return MapPhysical(*vgpu, address, bytes);
}

bool CommandState::Afford(VgpuMemory& vgpu, std::uint64_t bytes) {
  // The client may spend what it was given, and nothing else.
  const std::uint64_t credit = vgpu.charged - vgpu.returning - (vgpu.mapped - vgpu.unmapping);
  if (bytes > credit) return false;
  // What it has let go is not there before it has really gone.
  while (vgpu.mapped + bytes > vgpu.charged - vgpu.returning) {
    if (!finisher.WaitForOne()) return false;
  }
  return true;
}

bool CommandState::Vacate(VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes) {
  while (Overlaps(vgpu.leaving, address, bytes, [](std::uint64_t size) { return size; })) {
    if (!finisher.WaitForOne()) return false;
  }
  return true;
}

bool CommandState::Taken(const VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes) {
  return Overlaps(vgpu.ranges, address, bytes,
                  [](const VgpuMemory::Range& range) { return range.bytes; });
}

void CommandState::Leave(VgpuMemory& vgpu,
                         std::map<std::uint64_t, VgpuMemory::Range>::iterator range) {
  vgpu.leaving[range->first] = range->second.bytes;
  vgpu.ranges.erase(range);
}

CUresult CommandState::MapPhysical(VgpuMemory& vgpu, std::uint64_t address, std::uint64_t bytes) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = vgpu.device;
  CUmemGenericAllocationHandle physical = 0;
  CUresult result = driver_.cuMemCreate(&physical, bytes, &properties, 0);
  if (result != CUDA_SUCCESS) {
    FARWARP_LOG(kError, "device %d has no %llu bytes left, although the lease may have them",
                vgpu.device, static_cast<unsigned long long>(bytes));
    return result;
  }
  result = driver_.cuMemMap(address, bytes, 0, physical, 0);
  if (result == CUDA_SUCCESS) {
    CUmemAccessDesc access{};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    result = driver_.cuMemSetAccess(address, bytes, &access, 1);
    if (result != CUDA_SUCCESS) driver_.cuMemUnmap(address, bytes);
  }
  if (result != CUDA_SUCCESS) {
    driver_.cuMemRelease(physical);
    return result;
  }
  // No lease may see what another left in the device's memory.
  result = fresh_memory_ ? CUDA_SUCCESS : scrubs.Clear(driver_, address, bytes);
  if (result != CUDA_SUCCESS) {
    // A range that was not cleared is not the lease's: the client hears that there is none.
    driver_.cuMemUnmap(address, bytes);
    driver_.cuMemRelease(physical);
    return result;
  }
  vgpu.ranges[address] = {bytes, physical};
  vgpu.mapped += bytes;
  return CUDA_SUCCESS;
}

void CommandState::UnmapRange(Call& call, std::uint32_t index, std::uint64_t address,
                              std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  if (vgpu == nullptr) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  const auto range = vgpu->ranges.find(address);
  if (range == vgpu->ranges.end() || range->second.bytes != bytes || range->second.number != 0) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  const CUmemGenericAllocationHandle physical = range->second.physical;
  Leave(*vgpu, range);
  vgpu->unmapping += bytes;
  finisher.Run(
      call,
      [this, address, bytes, physical,
       lane = scrubs.Forget(driver_, address)]() -> Finisher::Answer {
        if (lane.has_value()) Scrubs::Finish(driver_, *lane);
        const CUresult unmapped = driver_.cuMemUnmap(address, bytes);
        const CUresult released = driver_.cuMemRelease(physical);
        return {unmapped != CUDA_SUCCESS ? unmapped : released, {}};
      },
      [vgpu, address, bytes](CUresult result) {
        // What the driver has kept stays the session's, and paid.
        Left({{vgpu, bytes}}, result == CUDA_SUCCESS);
        if (result == CUDA_SUCCESS) vgpu->leaving.erase(address);
      });
}

void CommandState::AcquireCredit(Call& call, std::uint32_t index, std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  if (vgpu == nullptr || bytes == 0) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  finisher.Settle();
  if (quota_.Charge(index, bytes)) {
    vgpu->charged += bytes;
    return call.Finish(CUDA_SUCCESS);
  }
  if (finisher.idle()) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
  // The client may be about to give back what it asks for.
  finisher.Run(
      call,
      [this, index, bytes]() -> Finisher::Answer {
        return {quota_.Charge(index, bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY, {}};
      },
      [vgpu, bytes](CUresult result) {
        if (result == CUDA_SUCCESS) vgpu->charged += bytes;
      });
}

void CommandState::ReturnCredit(Call& call, std::uint32_t index, std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  finisher.Settle();
  if (vgpu == nullptr ||
      bytes > vgpu->charged - vgpu->returning - (vgpu->mapped - vgpu->unmapping)) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  if (finisher.idle()) {
    quota_.Discharge(index, bytes);
    vgpu->charged -= bytes;
    return call.Finish(CUDA_SUCCESS);
  }
  // Others of the lease may have it when it is really free.
  vgpu->returning += bytes;
  finisher.Run(
      call,
      [this, index, bytes]() -> Finisher::Answer {
        quota_.Discharge(index, bytes);
        return {};
      },
      [vgpu, bytes](CUresult) {
        vgpu->returning -= bytes;
        vgpu->charged -= bytes;
      });
}

void CommandState::MemoryInfo(Call& call, std::uint32_t index) {
  if (index >= vgpus_.size()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  const auto put = [this, index](wire::Encoder& body) {
    const std::uint64_t limit = quota_.Limit(index);
    body.Put(limit - std::min(quota_.Used(index), limit));
    body.Put(limit);
  };
  finisher.Settle();
  if (finisher.idle()) {
    put(call.results());
    return call.Finish(CUDA_SUCCESS);
  }
  // What the client has given back by now counts as free.
  finisher.Run(call, [put] {
    Finisher::Answer answer;
    wire::Encoder body(answer.body);
    put(body);
    return answer;
  });
}

namespace {

// Rows or slices that lie upon each other: no copy means that, and it would let a few bytes stand
// for any amount of work. The caller has checked that the products do not overflow.
bool LiesOnItself(const wire::CopyPlane& plane, const wire::CopyExtent& extent) {
  if (extent.rows > 1 && plane.pitch < extent.row_bytes) return true;
  const std::uint64_t slice = (extent.rows - 1) * plane.pitch + extent.row_bytes;
  return extent.slices > 1 && plane.slice_pitch < slice;
}

}  // namespace

bool CommandState::Covers(const wire::CopyPlane& plane, const wire::CopyExtent& extent) const {
  std::uint64_t bytes = 0;
  if (extent.row_bytes == 0 || extent.rows == 0 || extent.slices == 0 ||
      !SpanOf(plane, extent, &bytes) || LiesOnItself(plane, extent)) {
    return false;
  }
  for (const VgpuMemory& vgpu : vgpus_) {
    if (plane.address - vgpu.window_base >= vgpu.window_bytes) continue;
    auto after = vgpu.ranges.upper_bound(plane.address);
    if (after == vgpu.ranges.begin()) return false;
    // The application may have mapped several pieces of memory side by side.
    std::uint64_t at = plane.address;
    for (auto range = std::prev(after); range != vgpu.ranges.end() && range->first <= at; ++range) {
      const std::uint64_t offset = at - range->first;
      if (offset >= range->second.bytes) return false;
      if (bytes <= range->second.bytes - offset) return true;
      bytes -= range->second.bytes - offset;
      at = range->first + range->second.bytes;
    }
    return false;
  }
  const auto after = variables_.upper_bound(plane.address);
  if (after == variables_.begin()) return false;
  const auto& [address, variable] = *std::prev(after);
  const std::uint64_t offset = plane.address - address;
  return offset < variable.bytes && bytes <= variable.bytes - offset;
}

}  // namespace farwarp::server
