#include "server/softgpu/memory/allocation_map.h"

#include <iterator>
#include <utility>

namespace farwarp::softgpu {

AllocationMap::ByAddress::const_iterator AllocationMap::At(std::uint64_t address) const {
  auto next = by_address_.upper_bound(address);
  if (next == by_address_.begin()) return by_address_.end();
  const auto found = std::prev(next);
  return address < found->second.end() ? found : by_address_.end();
}

bool AllocationMap::Insert(Allocation allocation) {
  const MutexLock lock(mutex_);
  if (allocation.bytes == 0 || allocation.end() < allocation.address) return false;
  const auto next = by_address_.lower_bound(allocation.address);
  if (next != by_address_.end() && next->first < allocation.end()) return false;
  if (next != by_address_.begin() && std::prev(next)->second.end() > allocation.address) {
    return false;
  }
  allocation.id = next_id_++;
  const std::uint64_t address = allocation.address;
  by_address_.emplace(address, std::move(allocation));
  return true;
}

std::optional<Allocation> AllocationMap::Remove(std::uint64_t address) {
  const MutexLock lock(mutex_);
  auto node = by_address_.extract(address);
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

std::optional<Allocation> AllocationMap::Remove(std::uint64_t address, MemoryKind kind) {
  const MutexLock lock(mutex_);
  const auto found = by_address_.find(address);
  if (found == by_address_.end() || found->second.kind != kind) return std::nullopt;
  return std::move(by_address_.extract(found).mapped());
}

std::optional<Allocation> AllocationMap::Find(std::uint64_t address) const {
  const MutexLock lock(mutex_);
  const auto found = At(address);
  if (found == by_address_.end()) return std::nullopt;
  return found->second;
}

std::optional<Allocation> AllocationMap::Nearest(std::uint64_t address) const {
  const MutexLock lock(mutex_);
  const auto behind = by_address_.upper_bound(address);
  if (behind == by_address_.begin()) {
    return behind == by_address_.end() ? std::nullopt : std::optional(behind->second);
  }
  const auto before = std::prev(behind);
  if (behind == by_address_.end() || address < before->second.end() ||
      address - before->second.end() <= behind->first - address) {
    return before->second;
  }
  return behind->second;
}

bool AllocationMap::Covers(std::uint64_t address, std::uint64_t bytes, bool write) const {
  const MutexLock lock(mutex_);
  auto found = At(address);
  while (found != by_address_.end()) {
    const Allocation& part = found->second;
    if (!part.readable || (write && !part.writable)) return false;
    const std::uint64_t here = part.end() - address;
    if (bytes <= here) return true;
    if (part.kind != MemoryKind::kMapped) return false;
    address += here;
    bytes -= here;
    ++found;
    if (found != by_address_.end() &&
        (found->first != address || found->second.kind != MemoryKind::kMapped)) {
      return false;
    }
  }
  return false;
}

bool AllocationMap::Overlaps(std::uint64_t address, std::uint64_t bytes) const {
  const MutexLock lock(mutex_);
  if (At(address) != by_address_.end()) return true;
  const auto next = by_address_.lower_bound(address);
  return next != by_address_.end() && next->first - address < bytes;
}

std::vector<Allocation> AllocationMap::Exactly(std::uint64_t address, std::uint64_t bytes) const {
  const MutexLock lock(mutex_);
  std::vector<Allocation> parts;
  std::uint64_t at = address;
  for (auto next = by_address_.find(address); next != by_address_.end() && next->first == at;
       ++next) {
    if (next->second.bytes > bytes - (at - address)) break;
    parts.push_back(next->second);
    at = next->second.end();
    if (at - address == bytes) return parts;
  }
  return {};
}

std::vector<Allocation> AllocationMap::RemoveOwnedBy(std::uint64_t context) {
  const MutexLock lock(mutex_);
  std::vector<Allocation> removed;
  for (auto it = by_address_.begin(); it != by_address_.end();) {
    if (it->second.context == context) {
      removed.push_back(std::move(it->second));
      it = by_address_.erase(it);
    } else {
      ++it;
    }
  }
  return removed;
}

}  // namespace farwarp::softgpu
