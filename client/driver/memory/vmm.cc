#include "client/driver/memory/vmm.h"

#include <algorithm>
#include <bit>

#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::IdOf;
using wire::InternalCommand;

namespace {

bool Granular(std::uint64_t value) {
  return value % Vmm::kGranularity == 0;
}

}  // namespace

CUresult Vmm::Reserve(const Caller& caller, std::uint64_t bytes, std::uint64_t alignment,
                      std::uint64_t wish, CUdeviceptr* address) {
  if (bytes == 0 || !Granular(bytes) || (alignment != 0 && !std::has_single_bit(alignment))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // Which vGPU's part it is in does not matter: any memory may be mapped there.
  Device& device = caller.context != nullptr ? caller.device() : *process_.devices().front();
  const DeviceHeap::Range area = device.memory.mappable();
  const std::uint64_t align = std::max(alignment, kGranularity);
  const MutexLock lock(mutex_);
  const auto free = [&](std::uint64_t at) REQUIRES(mutex_) {
    if (at < area.address || at - area.address > area.bytes ||
        bytes > area.bytes - (at - area.address)) {
      return false;
    }
    const auto after = reserved_.lower_bound(at);
    if (after != reserved_.end() && after->first - at < bytes) return false;
    return after == reserved_.begin() || at - std::prev(after)->first >= std::prev(after)->second;
  };
  std::uint64_t at = wish;
  if (wish == 0 || !Granular(wish) || !free(wish)) {
    at = (area.address + align - 1) / align * align;
    for (const auto& [begin, length] : reserved_) {
      if (begin + length <= at) continue;
      if (begin >= at && begin - at >= bytes) break;
      at = (begin + length + align - 1) / align * align;
    }
    if (!free(at)) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  reserved_[at] = bytes;
  *address = at;
  return CUDA_SUCCESS;
}

CUresult Vmm::Unreserve(std::uint64_t address, std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  const auto found = reserved_.find(address);
  if (found == reserved_.end() || found->second != bytes) return CUDA_ERROR_INVALID_VALUE;
  const auto mapped = mappings_.lower_bound(address);
  if (mapped != mappings_.end() && mapped->first - address < bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  reserved_.erase(found);
  return CUDA_SUCCESS;
}

CUresult Vmm::Create(const CUmemAllocationProp& props, std::uint64_t bytes,
                     CUmemGenericAllocationHandle* handle) {
  if (bytes == 0 || !Granular(bytes)) return CUDA_ERROR_INVALID_VALUE;
  Device* device = process_.FindDevice(props.location.id);
  CUresult result = device->memory.Spend(bytes);
  if (result != CUDA_SUCCESS) return result;
  const MutexLock lock(mutex_);
  const std::uint64_t number = next_++;
  Command command(process_.session(), IdOf(InternalCommand::kCreatePhysical));
  command.DespiteContextError();
  command.body().Put(number);
  command.body().Put(device->vgpu);
  command.body().Put(bytes);
  result = command.Post();
  if (result != CUDA_SUCCESS) {
    static_cast<void>(device->memory.Regain(bytes));
    return result;
  }
  physicals_[number] = {props, bytes, device, 1, 0};
  *handle = number;
  return CUDA_SUCCESS;
}

CUresult Vmm::DropIfUnused(std::uint64_t number) {
  const auto found = physicals_.find(number);
  if (found->second.handles != 0 || found->second.mappings != 0) return CUDA_SUCCESS;
  {
    Command command(process_.session(), IdOf(InternalCommand::kReleasePhysical));
    command.DespiteContextError();
    command.body().Put(number);
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  const CUresult result = found->second.device->memory.Regain(found->second.bytes);
  physicals_.erase(found);
  return result;
}

CUresult Vmm::Release(CUmemGenericAllocationHandle handle) {
  const MutexLock lock(mutex_);
  const auto found = physicals_.find(handle);
  if (found == physicals_.end() || found->second.handles == 0) return CUDA_ERROR_INVALID_VALUE;
  --found->second.handles;
  return DropIfUnused(handle);
}

CUresult Vmm::Map(std::uint64_t address, std::uint64_t bytes, std::uint64_t offset,
                  CUmemGenericAllocationHandle handle) {
  if (bytes == 0 || !Granular(address) || !Granular(bytes) || !Granular(offset)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const MutexLock lock(mutex_);
  const auto physical = physicals_.find(handle);
  if (physical == physicals_.end() || physical->second.handles == 0 ||
      offset > physical->second.bytes || bytes > physical->second.bytes - offset) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto range = reserved_.upper_bound(address);
  if (range == reserved_.begin()) return CUDA_ERROR_INVALID_VALUE;
  --range;
  if (address - range->first >= range->second || bytes > range->second - (address - range->first)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto after = mappings_.lower_bound(address);
  if ((after != mappings_.end() && after->first - address < bytes) ||
      (after != mappings_.begin() &&
       address - std::prev(after)->first < std::prev(after)->second.bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Command command(process_.session(), IdOf(InternalCommand::kMapPhysical));
  command.DespiteContextError();
  command.body().Put(std::uint64_t{handle});
  command.body().Put(address);
  command.body().Put(bytes);
  command.body().Put(offset);
  if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  ++physical->second.mappings;
  mappings_[address] = {address,        bytes, offset, handle, physical->second.props.location.id,
                        next_serial_++, {}};
  any_.store(true, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

std::vector<Vmm::Mappings::iterator> Vmm::Exactly(std::uint64_t address, std::uint64_t bytes) {
  std::vector<Mappings::iterator> parts;
  std::uint64_t at = address;
  for (auto it = mappings_.find(address); it != mappings_.end() && at - address < bytes; ++it) {
    if (it->first != at) return {};
    parts.push_back(it);
    at += it->second.bytes;
  }
  return at - address == bytes ? parts : std::vector<Mappings::iterator>{};
}

CUresult Vmm::Unmap(std::uint64_t address, std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  const auto parts = Exactly(address, bytes);
  if (parts.empty()) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& part : parts) {
    {
      Command command(process_.session(), IdOf(InternalCommand::kUnmapPhysical));
      command.DespiteContextError();
      command.body().Put(part->first);
      command.body().Put(part->second.bytes);
      if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
    }
    const std::uint64_t number = part->second.physical;
    mappings_.erase(part);
    --physicals_.at(number).mappings;
    if (const CUresult result = DropIfUnused(number); result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult Vmm::SetAccess(std::uint64_t address, std::uint64_t bytes, const CUmemAccessDesc* desc,
                        std::size_t count) {
  const MutexLock lock(mutex_);
  const auto parts = Exactly(address, bytes);
  if (parts.empty()) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
    const Device* device = process_.FindDevice(desc[i].location.id);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
        desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
        desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    Command command(process_.session(), IdOf(InternalCommand::kProtectRange));
    command.DespiteContextError();
    command.body().Put(device->vgpu);
    command.body().Put(address);
    command.body().Put(bytes);
    command.body().Put(static_cast<std::uint32_t>(desc[i].flags));
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
    for (const auto& part : parts) part->second.access[desc[i].location.id] = desc[i].flags;
  }
  return CUDA_SUCCESS;
}

CUresult Vmm::GetAccess(std::uint64_t address, int ordinal, unsigned long long* flags) {
  const auto mapping = Find(address);
  if (!mapping.has_value()) return CUDA_ERROR_INVALID_VALUE;
  const auto found = mapping->access.find(ordinal);
  *flags = found == mapping->access.end() ? std::uint64_t{CU_MEM_ACCESS_FLAGS_PROT_NONE}
                                          : static_cast<std::uint64_t>(found->second);
  return CUDA_SUCCESS;
}

CUresult Vmm::Retain(std::uint64_t address, CUmemGenericAllocationHandle* handle) {
  const auto mapping = Find(address);
  if (!mapping.has_value()) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  const auto physical = physicals_.find(mapping->physical);
  if (physical == physicals_.end()) return CUDA_ERROR_INVALID_VALUE;
  ++physical->second.handles;
  *handle = mapping->physical;
  return CUDA_SUCCESS;
}

CUresult Vmm::Properties(CUmemGenericAllocationHandle handle, CUmemAllocationProp* props) {
  const MutexLock lock(mutex_);
  const auto found = physicals_.find(handle);
  if (found == physicals_.end() || found->second.handles == 0) return CUDA_ERROR_INVALID_VALUE;
  *props = found->second.props;
  return CUDA_SUCCESS;
}

std::optional<Vmm::Mapping> Vmm::Find(std::uint64_t address) {
  if (!any()) return std::nullopt;
  const MutexLock lock(mutex_);
  auto after = mappings_.upper_bound(address);
  if (after == mappings_.begin()) return std::nullopt;
  --after;
  if (address - after->first >= after->second.bytes) return std::nullopt;
  return after->second;
}

bool Vmm::Covers(std::uint64_t address, std::uint64_t bytes) {
  if (!any()) return false;
  const MutexLock lock(mutex_);
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return false;
  --it;
  std::uint64_t at = address;
  for (; it != mappings_.end() && it->first <= at; ++it) {
    const std::uint64_t offset = at - it->first;
    if (offset >= it->second.bytes) return false;
    const bool accessible = std::any_of(
        it->second.access.begin(), it->second.access.end(),
        [](const auto& entry) { return entry.second != CU_MEM_ACCESS_FLAGS_PROT_NONE; });
    if (!accessible) return false;
    if (bytes <= it->second.bytes - offset) return true;
    bytes -= it->second.bytes - offset;
    at = it->first + it->second.bytes;
  }
  return false;
}

}  // namespace farwarp::client
