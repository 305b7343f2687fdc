#include "server/session/commands/staging.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>
#include <vector>

namespace farwarp::server {
namespace {

constexpr std::size_t kSmallest = std::size_t{64} << 10;
// Far longer than any copy takes; a stream that is stuck for so long has a stuck kernel in front.
constexpr std::chrono::seconds kPatience{30};

}  // namespace

std::shared_ptr<Staging::Buffer> Staging::Take(const driver::Table& driver, std::size_t bytes) {
  const std::size_t capacity = std::bit_ceil(std::max(bytes, kSmallest));
  CUcontext context = nullptr;
  if (driver.cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr) return nullptr;
  std::byte* data = nullptr;
  std::uint64_t life = 0;
  std::vector<std::byte*> surplus;
  {
    const MutexLock lock(mutex_);
    auto until = std::chrono::steady_clock::now() + kPatience;
    std::uint64_t returns = returns_;
    while (!closed_ && in_use_ + capacity > kMaxBytes) {
      const auto woken = returned_.WaitUntil(mutex_, until);
      // Slow is not stuck: patience ends when nothing at all comes back.
      if (returns != returns_) {
        returns = returns_;
        until = std::chrono::steady_clock::now() + kPatience;
      } else if (woken == std::cv_status::timeout) {
        return nullptr;
      }
    }
    if (closed_) return nullptr;
    in_use_ += capacity;
    List& list = lists_[context];
    life = list.life;
    if (const auto found = list.free.find(capacity); found != list.free.end()) {
      data = found->second;
      kept_ -= capacity;
      list.free.erase(found);
    }
    // Kept buffers of other sizes make room for a new one.
    while (data == nullptr && in_use_ + kept_ > kMaxBytes && !list.free.empty()) {
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
  ++returns_;
  List& list = lists_[buffer.context_];
  if (list.life == buffer.life_) {
    kept_ += buffer.capacity_;
    list.free.emplace(buffer.capacity_, buffer.data_);
  }
  returned_.NotifyAll();
}

void Staging::Close() noexcept {
  const MutexLock lock(mutex_);
  closed_ = true;
  returned_.NotifyAll();
}

void Staging::Forget(CUcontext context) {
  const MutexLock lock(mutex_);
  List& list = lists_[context];
  for (const auto& [capacity, data] : list.free) kept_ -= capacity;
  list.free.clear();
  ++list.life;
}

}  // namespace farwarp::server
