#include "client/driver/memory/device_heap.h"

#include <algorithm>
#include <iterator>

namespace farwarp::client {
namespace {

constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

DeviceHeap::DeviceHeap(Range window) : window_(window) {}

std::uint64_t DeviceHeap::RangeBytesFor(std::uint64_t bytes) const noexcept {
  if (bytes == 0 || bytes > window_.bytes) return 0;
  return RoundUp(bytes, kGranularity);
}

std::optional<std::uint64_t> DeviceHeap::Allocate(std::uint64_t bytes, std::uint64_t owner) {
  if (bytes == 0 || bytes > window_.bytes) return std::nullopt;
  const std::uint64_t size = RoundUp(bytes, kAlignment);
  const auto best = free_by_size_.lower_bound({size, 0});
  if (best == free_by_size_.end()) return std::nullopt;
  const auto [free_bytes, address] = *best;
  const auto allocation =
      allocations_.try_emplace(address, Allocation{address, bytes, owner, next_serial_}).first;
  try {
    if (free_bytes > size) InsertFree(address + size, free_bytes - size);
  } catch (...) {
    allocations_.erase(allocation);
    throw;
  }
  EraseFree(free_.find(address));
  ++next_serial_;
  allocated_bytes_ += size;
  return address;
}

std::optional<DeviceHeap::Range> DeviceHeap::AddRange(std::uint64_t bytes) {
  if (bytes == 0 || bytes % kGranularity != 0 || bytes > window_.bytes) return std::nullopt;
  // First hole that is large enough; holes are what lies between ranges.
  std::uint64_t at = window_.address;
  for (const auto& [address, length] : ranges_) {
    if (address - at >= bytes) break;
    at = address + length;
  }
  if (window_.address + window_.bytes - at < bytes) return std::nullopt;
  ranges_[at] = bytes;
  try {
    InsertFree(at, bytes);
  } catch (...) {
    ranges_.erase(at);
    throw;
  }
  mapped_bytes_ += bytes;
  return Range{at, bytes};
}

bool DeviceHeap::Free(std::uint64_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) return false;
  const std::uint64_t size = RoundUp(found->second.bytes, kAlignment);
  // The only memory that this needs; nothing fails from here on.
  std::map<std::uint64_t, std::uint64_t> block{{address, size}};
  std::set<std::pair<std::uint64_t, std::uint64_t>> block_by_size{{size, address}};
  allocations_.erase(found);
  allocated_bytes_ -= size;
  // Join with free neighbours of the same range: ranges are unmapped one by one, so no block may
  // span two.
  const auto range = RangeOf(address);
  std::uint64_t begin = address;
  std::uint64_t end = address + size;
  if (const auto after = free_.find(end);
      after != free_.end() && end < range->first + range->second) {
    end += after->second;
    EraseFree(after);
  }
  if (auto before = free_.lower_bound(begin); before != free_.begin()) {
    --before;
    if (before->first + before->second == begin && before->first >= range->first) {
      begin = before->first;
      EraseFree(before);
    }
  }
  auto node = block.extract(block.begin());
  node.key() = begin;
  node.mapped() = end - begin;
  free_.insert(std::move(node));
  auto node_by_size = block_by_size.extract(block_by_size.begin());
  node_by_size.value() = {end - begin, begin};
  free_by_size_.insert(std::move(node_by_size));
  return true;
}

std::vector<DeviceHeap::Range> DeviceHeap::EmptyRanges(std::uint64_t keep_bytes) const {
  std::vector<Range> empty;
  std::uint64_t empty_bytes = 0;
  for (const auto& [address, bytes] : ranges_) {
    const auto free = free_.find(address);
    if (free == free_.end() || free->second != bytes) continue;
    empty.push_back({address, bytes});
    empty_bytes += bytes;
  }
  std::sort(empty.begin(), empty.end(), [](const Range& a, const Range& b) {
    return std::pair(b.bytes, a.address) < std::pair(a.bytes, b.address);
  });
  std::size_t count = 0;
  while (count < empty.size() && empty_bytes > keep_bytes) empty_bytes -= empty[count++].bytes;
  empty.resize(count);
  return empty;
}

void DeviceHeap::RemoveEmptyRange(const Range& range) noexcept {
  EraseFree(free_.find(range.address));
  ranges_.erase(range.address);
  mapped_bytes_ -= range.bytes;
}

std::optional<DeviceHeap::Allocation> DeviceHeap::Find(std::uint64_t address) const {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return std::nullopt;
  const Allocation& candidate = std::prev(after)->second;
  if (address - candidate.address >= candidate.bytes) return std::nullopt;
  return candidate;
}

bool DeviceHeap::Covers(std::uint64_t address, std::uint64_t bytes) const {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return false;
  const Allocation& candidate = std::prev(after)->second;
  const std::uint64_t offset = address - candidate.address;
  return offset <= candidate.bytes && bytes <= candidate.bytes - offset;
}

std::vector<std::uint64_t> DeviceHeap::OwnedBy(std::uint64_t owner) const {
  std::vector<std::uint64_t> owned;
  for (const auto& [address, allocation] : allocations_) {
    if (allocation.owner == owner) owned.push_back(address);
  }
  return owned;
}

bool DeviceHeap::Consistent() const {
  std::uint64_t mapped = 0;
  std::uint64_t previous_end = window_.address;
  for (const auto& [address, bytes] : ranges_) {
    if (address < previous_end || bytes == 0 || bytes % kGranularity != 0) return false;
    previous_end = address + bytes;
    mapped += bytes;
    // Free blocks and allocations must tile the range without gap or overlap.
    std::uint64_t at = address;
    bool last_free = false;
    while (at < address + bytes) {
      if (const auto free = free_.find(at); free != free_.end()) {
        if (last_free || !free_by_size_.contains({free->second, at})) return false;
        at += free->second;
        last_free = true;
      } else if (const auto used = allocations_.find(at); used != allocations_.end()) {
        at += RoundUp(used->second.bytes, kAlignment);
        last_free = false;
      } else {
        return false;
      }
    }
    if (at != address + bytes) return false;
  }
  std::uint64_t allocated = 0;
  for (const auto& [address, allocation] : allocations_) {
    allocated += RoundUp(allocation.bytes, kAlignment);
  }
  std::uint64_t free_total = 0;
  for (const auto& [address, bytes] : free_) free_total += bytes;
  return previous_end <= window_.address + window_.bytes && mapped == mapped_bytes_ &&
         allocated == allocated_bytes_ && free_total + allocated == mapped &&
         free_.size() == free_by_size_.size();
}

void DeviceHeap::InsertFree(std::uint64_t address, std::uint64_t bytes) {
  const auto free = free_.try_emplace(address, bytes).first;
  try {
    free_by_size_.insert({bytes, address});
  } catch (...) {
    free_.erase(free);
    throw;
  }
}

void DeviceHeap::EraseFree(std::map<std::uint64_t, std::uint64_t>::iterator free) {
  free_by_size_.erase({free->second, free->first});
  free_.erase(free);
}

std::map<std::uint64_t, std::uint64_t>::const_iterator DeviceHeap::RangeOf(
    std::uint64_t address) const {
  return std::prev(ranges_.upper_bound(address));
}

}  // namespace farwarp::client
