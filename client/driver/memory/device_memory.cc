#include "client/driver/memory/device_memory.h"

#include <algorithm>

#include "client/session/command.h"
#include "client/session/session.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::IdOf;
using wire::InternalCommand;

DeviceMemory::DeviceMemory(Session& session, std::uint32_t vgpu, DeviceHeap::Range window,
                           std::uint64_t credit)
    : session_(session), vgpu_(vgpu), window_(window), heap_(HeapOf(window)), credit_(credit) {}

CUresult DeviceMemory::Allocate(std::uint64_t bytes, std::uint64_t owner, std::uint64_t* address) {
  // Credit that one thread acquires another may spend first; a few attempts are plenty.
  for (int attempt = 0; attempt < 16; ++attempt) {
    std::uint64_t missing = 0;
    {
      const MutexLock lock(mutex_);
      auto carved = heap_.Allocate(bytes, owner);
      if (!carved.has_value()) {
        const CUresult result = MapFor(bytes, &missing);
        if (result != CUDA_SUCCESS) return result;
        if (missing == 0) carved = heap_.Allocate(bytes, owner);
      }
      if (carved.has_value()) {
        *address = *carved;
        return CUDA_SUCCESS;
      }
    }
    if (missing == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    if (const CUresult result = Acquire(missing); result != CUDA_SUCCESS) return result;
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult DeviceMemory::MapFor(std::uint64_t bytes, std::uint64_t* missing) {
  const std::uint64_t range_bytes = heap_.RangeBytesFor(bytes);
  if (range_bytes == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  if (credit_ < range_bytes) {
    // Memory that is mapped but holds nothing is credit, too.
    if (const CUresult result = UnmapEmpty(0); result != CUDA_SUCCESS) return result;
  }
  if (credit_ < range_bytes) {
    *missing = range_bytes - credit_;
    return CUDA_SUCCESS;
  }
  const auto range = heap_.AddRange(range_bytes);
  if (!range.has_value()) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  try {
    result = PostRange(InternalCommand::kMapRange, *range);
  } catch (...) {
  }
  if (result == CUDA_SUCCESS) {
    credit_ -= range->bytes;
  } else {
    heap_.RemoveEmptyRange(*range);  // The server never heard of it.
  }
  return result;
}

CUresult DeviceMemory::PostRange(InternalCommand id, const DeviceHeap::Range& range) {
  Command command(session_, IdOf(id));
  command.DespiteContextError();
  command.body().Put(vgpu_);
  command.body().Put(range.address);
  command.body().Put(range.bytes);
  return command.Post();
}

CUresult DeviceMemory::Acquire(std::uint64_t bytes) {
  Reply reply;
  {
    Command command(session_, IdOf(InternalCommand::kAcquireCredit));
    command.DespiteContextError();
    command.body().Put(vgpu_);
    command.body().Put(bytes);
    if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  }
  const MutexLock lock(mutex_);
  credit_ += bytes;
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::Spend(std::uint64_t bytes) {
  // As in Allocate: what one thread acquires another may spend first.
  for (int attempt = 0; attempt < 16; ++attempt) {
    std::uint64_t missing = 0;
    {
      const MutexLock lock(mutex_);
      if (credit_ < bytes) {
        const CUresult result = UnmapEmpty(0);
        if (result != CUDA_SUCCESS) return result;
      }
      if (credit_ >= bytes) {
        credit_ -= bytes;
        return CUDA_SUCCESS;
      }
      missing = bytes - credit_;
    }
    if (const CUresult result = Acquire(missing); result != CUDA_SUCCESS) return result;
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult DeviceMemory::Regain(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  credit_ += bytes;
  return ReturnSurplus();
}

CUresult DeviceMemory::Free(std::uint64_t address) {
  const MutexLock lock(mutex_);
  if (!heap_.Free(address)) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = UnmapEmpty(kKeepEmpty); result != CUDA_SUCCESS) return result;
  return ReturnSurplus();
}

void DeviceMemory::FreeOwnedBy(std::uint64_t owner) {
  const MutexLock lock(mutex_);
  for (const std::uint64_t address : heap_.OwnedBy(owner)) heap_.Free(address);
  // A dead session has nothing mapped any more: the result changes nothing.
  if (UnmapEmpty(0) == CUDA_SUCCESS) static_cast<void>(ReturnSurplus());
}

CUresult DeviceMemory::UnmapEmpty(std::uint64_t keep_bytes) {
  for (const DeviceHeap::Range& range : heap_.EmptyRanges(keep_bytes)) {
    const CUresult result = PostRange(InternalCommand::kUnmapRange, range);
    if (result != CUDA_SUCCESS) return result;
    heap_.RemoveEmptyRange(range);
    credit_ += range.bytes;
  }
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::ReturnSurplus() {
  if (credit_ <= kKeepCredit) return CUDA_SUCCESS;
  const std::uint64_t surplus = credit_ - kKeepCredit;
  Command command(session_, IdOf(InternalCommand::kReturnCredit));
  command.DespiteContextError();
  command.body().Put(vgpu_);
  command.body().Put(surplus);
  const CUresult result = command.Post();
  if (result == CUDA_SUCCESS) credit_ -= surplus;
  return result;
}

CUresult DeviceMemory::Info(std::uint64_t* free_bytes, std::uint64_t* total_bytes) {
  Reply reply;
  {
    Command command(session_, IdOf(InternalCommand::kMemoryInfo));
    command.body().Put(vgpu_);
    if (const CUresult result = command.Call(reply); result != CUDA_SUCCESS) return result;
  }
  const auto free_in_lease = reply.body().Get<std::uint64_t>();
  const auto quota = reply.body().Get<std::uint64_t>();
  if (const CUresult result = reply.Finish(); result != CUDA_SUCCESS) return result;
  // Credit is charged to the lease but not used: the application can still have it.
  *free_bytes = std::min(free_in_lease + credit(), quota);
  *total_bytes = quota;
  return CUDA_SUCCESS;
}

std::optional<DeviceHeap::Allocation> DeviceMemory::Find(std::uint64_t address) const {
  const MutexLock lock(mutex_);
  return heap_.Find(address);
}

bool DeviceMemory::Covers(std::uint64_t address, std::uint64_t bytes) const {
  const MutexLock lock(mutex_);
  return heap_.Covers(address, bytes);
}

std::uint64_t DeviceMemory::mapped_bytes() const {
  const MutexLock lock(mutex_);
  return heap_.mapped_bytes();
}

bool DeviceMemory::Consistent() const {
  const MutexLock lock(mutex_);
  return heap_.Consistent();
}

std::uint64_t DeviceMemory::credit() const {
  const MutexLock lock(mutex_);
  return credit_;
}

}  // namespace farwarp::client
