// Physical memory that the application maps itself (cuMemCreate, cuMemMap): paid for with credit,
// in the window and nowhere else.
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/state.h"
#include "server/session/quota.h"

namespace farwarp::server {
namespace {

constexpr std::uint64_t kGranularity = std::uint64_t{2} << 20;
constexpr std::size_t kMaxPhysicals = std::size_t{1} << 16;

bool Granular(std::uint64_t value) {
  return value % kGranularity == 0;
}

}  // namespace

VgpuMemory* CommandState::FindWindow(std::uint64_t address, std::uint64_t bytes) {
  for (VgpuMemory& vgpu : vgpus_) {
    const std::uint64_t offset = address - vgpu.window_base;
    if (offset < vgpu.window_bytes && bytes <= vgpu.window_bytes - offset) return &vgpu;
  }
  return nullptr;
}

CUresult CommandState::ScrubPhysical(CUdevice device, Physical& physical) {
  CUdeviceptr at = 0;
  CUresult result = driver_.cuMemAddressReserve(&at, physical.bytes, kGranularity, 0, 0);
  if (result != CUDA_SUCCESS) return result;
  result = driver_.cuMemMap(at, physical.bytes, 0, physical.handle, 0);
  if (result != CUDA_SUCCESS) {
    driver_.cuMemAddressFree(at, physical.bytes);
    return result;
  }
  physical.scrubbed_at = at;
  CUmemAccessDesc access{};
  access.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  result = driver_.cuMemSetAccess(at, physical.bytes, &access, 1);
  return result == CUDA_SUCCESS ? scrubs.Clear(driver_, at, physical.bytes) : result;
}

CUresult CommandState::FreePhysical(const Physical& physical) {
  if (physical.scrubbed_at != 0) {
    driver_.cuMemUnmap(physical.scrubbed_at, physical.bytes);
    driver_.cuMemAddressFree(physical.scrubbed_at, physical.bytes);
  }
  return driver_.cuMemRelease(physical.handle);
}

CUresult CommandState::CreatePhysical(std::uint64_t number, std::uint32_t index,
                                      std::uint64_t bytes) {
  VgpuMemory* vgpu = FindVgpu(index);
  if (vgpu == nullptr || number == 0 || bytes == 0 || !Granular(bytes) ||
      physicals_.count(number) != 0 || physicals_.size() >= kMaxPhysicals) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  finisher.Settle();
  if (!Afford(*vgpu, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, vgpu->device};
  Physical physical{index, bytes, 0, 0, 0};
  CUresult result = driver_.cuMemCreate(&physical.handle, bytes, &properties, 0);
  if (result != CUDA_SUCCESS) return result;
  if (!fresh_memory_) result = ScrubPhysical(vgpu->device, physical);
  if (result != CUDA_SUCCESS) {
    static_cast<void>(FreePhysical(physical));
    return result;
  }
  physicals_[number] = physical;
  vgpu->mapped += bytes;
  return CUDA_SUCCESS;
}

void CommandState::ReleasePhysical(Call& call, std::uint64_t number) {
  const auto found = physicals_.find(number);
  if (found == physicals_.end() || found->second.mappings != 0) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  const Physical physical = found->second;
  physicals_.erase(found);
  VgpuMemory* vgpu = &vgpus_[physical.vgpu];
  vgpu->unmapping += physical.bytes;
  finisher.Run(
      call,
      [this, physical, lane = scrubs.Forget(driver_, physical.scrubbed_at)]() -> Finisher::Answer {
        if (lane.has_value()) Scrubs::Finish(driver_, *lane);
        return {FreePhysical(physical), {}};
      },
      [vgpu, bytes = physical.bytes](CUresult result) {
        Left({{vgpu, bytes}}, result == CUDA_SUCCESS);
      });
}

CUresult CommandState::MapPhysical(std::uint64_t number, std::uint64_t address, std::uint64_t bytes,
                                   std::uint64_t offset) {
  const auto found = physicals_.find(number);
  VgpuMemory* window = FindWindow(address, bytes);
  if (found == physicals_.end() || window == nullptr || bytes == 0 || !Granular(bytes) ||
      !Granular(address) || !Granular(offset) || offset > found->second.bytes ||
      bytes > found->second.bytes - offset || Taken(*window, address, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  finisher.Settle();
  if (!Vacate(*window, address, bytes)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = driver_.cuMemMap(address, bytes, offset, found->second.handle, 0);
  if (result != CUDA_SUCCESS) return result;
  window->ranges[address] = {bytes, found->second.handle, number};
  ++found->second.mappings;
  return CUDA_SUCCESS;
}

void CommandState::UnmapPhysical(Call& call, std::uint64_t address, std::uint64_t bytes) {
  VgpuMemory* window = FindWindow(address, bytes);
  if (window == nullptr) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  const auto range = window->ranges.find(address);
  if (range == window->ranges.end() || range->second.bytes != bytes || range->second.number == 0) {
    return call.Finish(CUDA_ERROR_INVALID_VALUE);
  }
  --physicals_.at(range->second.number).mappings;
  Leave(*window, range);
  finisher.Run(
      call,
      [this, address, bytes]() -> Finisher::Answer {
        return {driver_.cuMemUnmap(address, bytes), {}};
      },
      [window, address](CUresult) { window->leaving.erase(address); });
}

CUresult CommandState::ProtectRange(std::uint32_t index, std::uint64_t address, std::uint64_t bytes,
                                    CUmemAccess_flags access) {
  const VgpuMemory* vgpu = FindVgpu(index);
  const VgpuMemory* window = FindWindow(address, bytes);
  if (vgpu == nullptr || window == nullptr || bytes == 0 || !Granular(address) ||
      !Granular(bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Only what the application has mapped; the rest is the server's to protect.
  std::uint64_t at = address;
  for (auto range = window->ranges.find(address);
       at < address + bytes && range != window->ranges.end(); ++range) {
    if (range->first != at || range->second.number == 0) return CUDA_ERROR_INVALID_VALUE;
    at += range->second.bytes;
  }
  if (at != address + bytes) return CUDA_ERROR_INVALID_VALUE;
  CUmemAccessDesc description{};
  description.location = {CU_MEM_LOCATION_TYPE_DEVICE, vgpu->device};
  description.flags = access;
  return driver_.cuMemSetAccess(address, bytes, &description, 1);
}

void HandleCreatePhysical(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(StateOf(call).CreatePhysical(number, vgpu, bytes));
}

void HandleReleasePhysical(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  StateOf(call).ReleasePhysical(call, number);
}

void HandleMapPhysical(Call& call) {
  const auto number = call.args().Get<std::uint64_t>();
  const auto address = call.args().Get<std::uint64_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  const auto offset = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(StateOf(call).MapPhysical(number, address, bytes, offset));
}

void HandleUnmapPhysical(Call& call) {
  const auto address = call.args().Get<std::uint64_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  StateOf(call).UnmapPhysical(call, address, bytes);
}

void HandleProtectRange(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto address = call.args().Get<std::uint64_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  const auto access = call.args().Get<std::uint32_t>();
  if (access != CU_MEM_ACCESS_FLAGS_PROT_NONE && access != CU_MEM_ACCESS_FLAGS_PROT_READ &&
      access != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    call.MarkBad();
  }
  if (!Readable(call)) return;
  call.Finish(
      StateOf(call).ProtectRange(vgpu, address, bytes, static_cast<CUmemAccess_flags>(access)));
}

}  // namespace farwarp::server
