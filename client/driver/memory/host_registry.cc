#include "client/driver/memory/host_registry.h"

#include <sys/mman.h>

#include <iterator>

namespace farwarp::client {
namespace {

void Unmap(const HostRegistry::Block& block) {
  if (block.allocated) {
    ::munmap(reinterpret_cast<void*>(static_cast<std::uintptr_t>(block.address)), block.bytes);
  }
}

}  // namespace

HostRegistry::~HostRegistry() {
  for (const auto& [address, block] : blocks_) Unmap(block);
}

void* HostRegistry::Allocate(std::uint64_t bytes, unsigned flags, std::uint64_t owner) {
  if (bytes == 0 || bytes > (std::uint64_t{1} << 47)) return nullptr;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<std::uint64_t>(memory);
  const MutexLock lock(mutex_);
  blocks_[address] = Block{address, bytes, flags, true, owner, next_serial_++};
  count_.store(blocks_.size(), std::memory_order_relaxed);
  return memory;
}

HostRegistry::Outcome HostRegistry::Free(std::uint64_t address) {
  Block block;
  {
    const MutexLock lock(mutex_);
    const auto found = blocks_.find(address);
    if (found == blocks_.end()) return Outcome::kUnknown;
    if (!found->second.allocated) return Outcome::kWrongKind;
    block = found->second;
    blocks_.erase(found);
    count_.store(blocks_.size(), std::memory_order_relaxed);
  }
  Unmap(block);
  return Outcome::kDone;
}

HostRegistry::Outcome HostRegistry::Register(std::uint64_t address, std::uint64_t bytes,
                                             unsigned flags, std::uint64_t owner) {
  const MutexLock lock(mutex_);
  const auto after = blocks_.upper_bound(address);
  if (after != blocks_.end() && after->first - address < bytes) return Outcome::kOverlaps;
  if (FindLocked(address) != nullptr) return Outcome::kOverlaps;
  blocks_[address] = Block{address, bytes, flags, false, owner, next_serial_++};
  count_.store(blocks_.size(), std::memory_order_relaxed);
  return Outcome::kDone;
}

HostRegistry::Outcome HostRegistry::Unregister(std::uint64_t address) {
  const MutexLock lock(mutex_);
  const auto found = blocks_.find(address);
  if (found == blocks_.end()) return Outcome::kUnknown;
  if (found->second.allocated) return Outcome::kWrongKind;
  blocks_.erase(found);
  count_.store(blocks_.size(), std::memory_order_relaxed);
  return Outcome::kDone;
}

void HostRegistry::DropOwnedBy(std::uint64_t owner) {
  std::vector<Block> dropped;
  {
    const MutexLock lock(mutex_);
    for (auto it = blocks_.begin(); it != blocks_.end();) {
      if (it->second.owner != owner) {
        ++it;
        continue;
      }
      dropped.push_back(it->second);
      it = blocks_.erase(it);
    }
    count_.store(blocks_.size(), std::memory_order_relaxed);
  }
  for (const Block& block : dropped) Unmap(block);
}

std::optional<HostRegistry::Block> HostRegistry::Find(std::uint64_t address) const {
  if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
  const MutexLock lock(mutex_);
  const Block* block = FindLocked(address);
  if (block == nullptr) return std::nullopt;
  return *block;
}

bool HostRegistry::Contains(std::uint64_t address, std::uint64_t bytes) const {
  const auto block = Find(address);
  return block.has_value() && bytes <= block->bytes - (address - block->address);
}

const HostRegistry::Block* HostRegistry::FindLocked(std::uint64_t address) const {
  const auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return nullptr;
  const Block& candidate = std::prev(after)->second;
  return address - candidate.address < candidate.bytes ? &candidate : nullptr;
}

}  // namespace farwarp::client
