#include "server/session/commands/staging.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

namespace farwarp::server {
namespace {

constexpr std::size_t kSmallest = std::size_t{64} << 10;
// What is kept for reuse beside what is in use.
constexpr std::size_t kKeptBytes = std::size_t{256} << 20;

// Few sizes, so that buffers are used again, and at most an eighth more than asked for.
std::size_t CapacityFor(std::size_t bytes) {
  bytes = std::max(bytes, kSmallest);
  const std::size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

std::shared_ptr<Staging::Buffer> Staging::Take(const driver::Table& driver, std::size_t bytes) {
  const std::size_t capacity = CapacityFor(bytes);
  CUcontext context = nullptr;
  if (driver.cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr) return nullptr;
  std::byte* data = nullptr;
  std::uint64_t life = 0;
  std::vector<std::byte*> surplus;
  {
    const MutexLock lock(mutex_);
    if (in_use_ + capacity > kMaxBytes) return nullptr;
    in_use_ += capacity;
    List& list = lists_[context];
    life = list.life;
    if (const auto found = list.free.find(capacity); found != list.free.end()) {
      data = found->second;
      kept_ -= capacity;
      list.free.erase(found);
    }
    // Kept buffers of other sizes make room for a new one.
    while (data == nullptr && in_use_ + kept_ > kKeptBytes && !list.free.empty()) {
      surplus.push_back(list.free.begin()->second);
      kept_ -= list.free.begin()->first;
      list.free.erase(list.free.begin());
    }
  }
  for (std::byte* memory : surplus) driver.cuMemFreeHost(memory);
  if (data == nullptr) {
    void* memory = nullptr;
    if (driver.cuMemHostAlloc(&memory, capacity, CU_MEMHOSTALLOC_PORTABLE) != CUDA_SUCCESS) {
      const MutexLock lock(mutex_);
      in_use_ -= capacity;
      return nullptr;
    }
    data = static_cast<std::byte*>(memory);
  }
  return std::make_shared<Buffer>(shared_from_this(), data, capacity, context, life);
}

void Staging::Return(const Buffer& buffer) noexcept {
  const MutexLock lock(mutex_);
  in_use_ -= buffer.capacity_;
  List& list = lists_[buffer.context_];
  if (buffer.leaving_ && --list.leaving == 0) sent_.NotifyAll();
  if (list.life == buffer.life_) {
    kept_ += buffer.capacity_;
    list.free.emplace(buffer.capacity_, buffer.data_);
  }
}

void Staging::Leaves(Buffer& buffer) noexcept {
  const MutexLock lock(mutex_);
  if (std::exchange(buffer.leaving_, true)) return;
  ++lists_[buffer.context_].leaving;
}

void Staging::WaitUntilSent(CUcontext context) noexcept {
  const MutexLock lock(mutex_);
  const List& list = lists_[context];
  while (list.leaving != 0) sent_.Wait(mutex_);
}

void Staging::Forget(CUcontext context) {
  const MutexLock lock(mutex_);
  List& list = lists_[context];
  for (const auto& [capacity, data] : list.free) kept_ -= capacity;
  list.free.clear();
  ++list.life;
}

}  // namespace farwarp::server
