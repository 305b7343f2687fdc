#include "server/softgpu/memory/device_heap.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <new>

namespace farwarp::softgpu {

DeviceHeap::DeviceHeap(std::uint64_t bytes, Take take, GiveBack give_back)
    : take_(std::move(take)), give_back_(std::move(give_back)), bytes_(bytes) {}

void DeviceHeap::Close() {
  const MutexLock lock(mutex_);
  if (base_ != 0) give_back_(base_, bytes_);
  base_ = 0;
  started_ = true;
  free_.clear();
  by_size_.clear();
  used_.clear();
}

bool DeviceHeap::Resize(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  if (started_) return false;
  bytes_ = bytes;
  return true;
}

std::uint64_t DeviceHeap::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

std::uint64_t DeviceHeap::Allocate(std::uint64_t bytes, std::uint64_t align) noexcept {
  if (bytes == 0 || !std::has_single_bit(align)) return 0;
  align = std::max(align, kGrain);
  const MutexLock lock(mutex_);
  try {
    if (!started_) {
      started_ = true;
      base_ = bytes_ == 0 ? 0 : take_(bytes_);
      if (base_ != 0) Insert(base_, bytes_ / kGrain * kGrain);
    }
    if (bytes > bytes_ || align > bytes_) return 0;
    const std::uint64_t wanted = (bytes + kGrain - 1) / kGrain * kGrain;
    const auto found = by_size_.lower_bound({wanted + align - kGrain, 0});
    if (found == by_size_.end()) return 0;
    const auto [room, begin] = *found;
    const std::uint64_t address = (begin + align - 1) & ~(align - 1);
    const std::uint64_t before = address - begin;
    used_.emplace(address, wanted);
    Erase(free_.find(begin));
    if (before != 0) Insert(begin, before);
    if (room > before + wanted) Insert(address + wanted, room - before - wanted);
    return address;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> DeviceHeap::BlockAt(
    std::uint64_t address) const {
  const MutexLock lock(mutex_);
  const auto behind = used_.upper_bound(address);
  if (behind == used_.begin()) return std::nullopt;
  const auto found = std::prev(behind);
  if (address - found->first >= found->second) return std::nullopt;
  return *found;
}

bool DeviceHeap::Free(std::uint64_t address) noexcept {
  const MutexLock lock(mutex_);
  const auto found = used_.find(address);
  if (found == used_.end()) return false;
  std::uint64_t bytes = found->second;
  used_.erase(found);
  try {
    // Neighbours become one range again.
    const auto behind = free_.find(address + bytes);
    if (behind != free_.end()) {
      bytes += behind->second;
      Erase(behind);
    }
    const auto next = free_.lower_bound(address);
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == address) {
        address = before->first;
        bytes += before->second;
        Erase(before);
      }
    }
    Insert(address, bytes);
  } catch (const std::bad_alloc&) {
    // The range is lost to the heap, not to its owner.
  }
  return true;
}

void DeviceHeap::Insert(std::uint64_t address, std::uint64_t bytes) {
  free_.emplace(address, bytes);
  by_size_.emplace(bytes, address);
}

void DeviceHeap::Erase(std::map<std::uint64_t, std::uint64_t>::iterator range) {
  by_size_.erase({range->second, range->first});
  free_.erase(range);
}

}  // namespace farwarp::softgpu
