#include "client/driver/memory/pools.h"

#include <algorithm>
#include <utility>

#include "client/driver/process.h"

namespace farwarp::client {

std::uint64_t Pools::KeyOf(const StreamUse& use) noexcept {
  return use.legacy() ? use.context_handle.bits() : wire::FromPointer(use.wire).bits();
}

CUmemoryPool Pools::DefaultLocked(int ordinal) {
  CUmemoryPool& handle = default_[ordinal];
  if (handle == nullptr) {
    auto pool = std::make_shared<MemPool>();
    pool->ordinal = ordinal;
    pool->is_default = true;
    const wire::Handle minted(wire::HandleKind::kMemPool, 1, next_++);
    pools_[minted.bits()] = std::move(pool);
    handle = wire::ToPointer<CUmemoryPool>(minted);
  }
  return handle;
}

CUmemoryPool Pools::Default(int ordinal) {
  const MutexLock lock(mutex_);
  return DefaultLocked(ordinal);
}

CUmemoryPool Pools::Current(int ordinal) {
  const MutexLock lock(mutex_);
  const auto found = current_.find(ordinal);
  return found != current_.end() ? found->second : DefaultLocked(ordinal);
}

std::shared_ptr<MemPool> Pools::Find(CUmemoryPool handle) {
  const MutexLock lock(mutex_);
  const auto found = pools_.find(wire::FromPointer(handle).bits());
  return found == pools_.end() ? nullptr : found->second;
}

CUresult Pools::SetCurrent(int ordinal, CUmemoryPool handle) {
  const MutexLock lock(mutex_);
  const auto found = pools_.find(wire::FromPointer(handle).bits());
  if (found == pools_.end() || found->second->ordinal != ordinal) return CUDA_ERROR_INVALID_VALUE;
  current_[ordinal] = handle;
  return CUDA_SUCCESS;
}

CUresult Pools::Create(const CUmemPoolProps& props, CUmemoryPool* handle) {
  if (props.allocType != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
  // Pools cannot be shared with processes on other machines, nor lie in the program's memory.
  if (props.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      props.handleTypes != CU_MEM_HANDLE_TYPE_NONE) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (process_.FindDevice(props.location.id) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  auto pool = std::make_shared<MemPool>(props.maxSize);
  pool->ordinal = props.location.id;
  const MutexLock lock(mutex_);
  const wire::Handle minted(wire::HandleKind::kMemPool, 1, next_++);
  pools_[minted.bits()] = std::move(pool);
  *handle = wire::ToPointer<CUmemoryPool>(minted);
  return CUDA_SUCCESS;
}

CUresult Pools::Destroy(CUmemoryPool handle) {
  const MutexLock lock(mutex_);
  const auto found = pools_.find(wire::FromPointer(handle).bits());
  if (found == pools_.end() || found->second->is_default) return CUDA_ERROR_INVALID_VALUE;
  const auto current = current_.find(found->second->ordinal);
  if (current != current_.end() && current->second == handle) current_.erase(current);
  // What is allocated keeps the pool's books until it is freed.
  pools_.erase(found);
  return CUDA_SUCCESS;
}

bool Pools::Gone(CUdeviceptr address, const Block& block) {
  const auto found = block.device->memory.Find(address);
  return !found.has_value() || found->serial != block.serial;
}

bool Pools::Reuse(std::uint64_t stream, const Device& device, std::uint64_t bytes,
                  std::shared_ptr<MemPool> pool, CUdeviceptr* address) {
  for (auto it = freed_.begin(); it != freed_.end(); ++it) {
    Freed& freed = it->second;
    if (freed.stream != stream || freed.block.device != &device || freed.block.bytes != bytes) {
      continue;
    }
    *address = it->first;
    freed.block.pool = std::move(pool);
    blocks_[it->first] = std::move(freed.block);
    freed_.erase(it);
    return true;
  }
  return false;
}

void Pools::SweepLocked() {
  for (auto it = freed_.begin(); it != freed_.end();) {
    const Freed& freed = it->second;
    if (!freed.context->work.settled(freed.mark)) {
      ++it;
      continue;
    }
    // The heap knows it, so that freeing it cannot fail but for a dead session.
    if (!Gone(it->first, freed.block)) {
      static_cast<void>(freed.block.device->memory.Free(it->first));
    }
    it = freed_.erase(it);
  }
}

void Pools::DropGone() {
  const MutexLock lock(mutex_);
  std::erase_if(blocks_, [](const auto& entry) {
    if (!Gone(entry.first, entry.second)) return false;
    entry.second.pool->books.Discharge(entry.second.bytes);
    return true;
  });
  std::erase_if(freed_, [](const auto& entry) { return Gone(entry.first, entry.second.block); });
}

void Pools::Sweep() {
  const MutexLock lock(mutex_);
  SweepLocked();
}

CUresult Pools::Allocate(const Caller& caller, const StreamUse& use, CUmemoryPool handle,
                         std::uint64_t bytes, CUdeviceptr* address) {
  if (address == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto pool = Find(handle);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!pool->books.Charge(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUdeviceptr at = 0;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  try {
    result = Carve(caller, use, pool, bytes, &at);
  } catch (...) {
  }
  if (result == CUDA_SUCCESS) {
    pool->books.NoteHigh();
    *address = at;
  } else {
    pool->books.Discharge(bytes);
  }
  return result;
}

CUresult Pools::Carve(const Caller& caller, const StreamUse& use,
                      const std::shared_ptr<MemPool>& pool, std::uint64_t bytes,
                      CUdeviceptr* address) {
  Device& device = *process_.FindDevice(pool->ordinal);
  {
    const MutexLock lock(mutex_);
    if (Reuse(KeyOf(use), device, bytes, pool, address)) return CUDA_SUCCESS;
    SweepLocked();
  }
  std::uint64_t at = 0;
  CUresult result = device.memory.Allocate(bytes, use.context_handle.bits(), &at);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    // What streams have freed is free when they have got there.
    const CUresult waited = SynchronizeBusy(process_, &device, caller.context_handle);
    if (waited != CUDA_SUCCESS) return waited;
    Sweep();
    result = device.memory.Allocate(bytes, use.context_handle.bits(), &at);
  }
  if (result != CUDA_SUCCESS) return result;
  try {
    const std::uint64_t serial = device.memory.Find(at)->serial;
    const MutexLock lock(mutex_);
    blocks_.insert_or_assign(at, Block{&device, bytes, serial, pool});
  } catch (...) {
    static_cast<void>(device.memory.Free(at));
    throw;
  }
  *address = at;
  return CUDA_SUCCESS;
}

CUresult Pools::Free(const Caller& caller, const StreamUse& use, CUdeviceptr address) {
  Device* device = caller.process->DeviceOf(address);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto allocation = device->memory.Find(address);
  if (!allocation.has_value() || allocation->address != address) return CUDA_ERROR_INVALID_VALUE;
  const MutexLock lock(mutex_);
  if (const auto old = freed_.find(address); old != freed_.end()) {
    if (old->second.block.serial == allocation->serial) return CUDA_ERROR_INVALID_VALUE;
    freed_.erase(old);
  }
  Block block{device, allocation->bytes, allocation->serial, nullptr};
  if (const auto found = blocks_.find(address); found != blocks_.end()) {
    if (found->second.serial == allocation->serial) block = std::move(found->second);
    blocks_.erase(found);
  }
  if (block.pool != nullptr) block.pool->books.Discharge(block.bytes);
  block.pool = nullptr;
  freed_[address] = {std::move(block), KeyOf(use), use.context, use.context->work.Mark()};
  SweepLocked();
  return CUDA_SUCCESS;
}

bool Pools::Forget(CUdeviceptr address) {
  const MutexLock lock(mutex_);
  if (const auto freed = freed_.find(address); freed != freed_.end()) {
    if (!Gone(address, freed->second.block)) return false;
    freed_.erase(freed);
  }
  const auto found = blocks_.find(address);
  if (found == blocks_.end()) return true;
  found->second.pool->books.Discharge(found->second.bytes);
  blocks_.erase(found);
  return true;
}

}  // namespace farwarp::client
