// PoolBooks: what a memory pool (cuMemPool*) knows about itself: how much of it is in use, the most
// there ever was, and the attributes that a program reads and sets. Where the memory is belongs to
// the driver library that has the pool. Neither of them caches, so what is reserved is what is
// used.
//
// Beside the graph model because both driver libraries have it, and nodes allocate from pools.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "cuda/driver_api.h"

namespace farwarp::graph {

class PoolBooks {
 public:
  // `max_bytes`: the pool's own limit; 0: none.
  explicit PoolBooks(std::uint64_t max_bytes = 0) noexcept : max_bytes_(max_bytes) {}

  // False, and nothing has changed, if the pool's own limit would be exceeded.
  [[nodiscard]] bool Charge(std::uint64_t bytes) noexcept {
    const std::uint64_t limit = max_bytes_ != 0 ? max_bytes_ : ~std::uint64_t{0};
    std::uint64_t used = used_.load();
    do {
      if (used > limit || bytes > limit - used) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes));
    return true;
  }
  // What was charged has become an allocation. If it did not, it is discharged instead.
  void NoteHigh() noexcept {
    const std::uint64_t now = used_.load();
    std::uint64_t high = high_.load();
    while (now > high && !high_.compare_exchange_weak(high, now)) {
    }
  }
  void Discharge(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes); }

  // Reads or writes one attribute at `value`, whose type the attribute tells. Not null.
  CUresult Get(CUmemPool_attribute attribute, void* value) const noexcept {
    const auto number = [value](std::uint64_t is) {
      *static_cast<cuuint64_t*>(value) = is;
      return CUDA_SUCCESS;
    };
    const auto flag = [value](int is) {
      *static_cast<int*>(value) = is;
      return CUDA_SUCCESS;
    };
    switch (attribute) {
      case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        return flag(follow_event_dependencies_);
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        return flag(allow_opportunistic_);
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        return flag(allow_internal_dependencies_);
      case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        return number(release_threshold_);
      case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        return number(used_);
      case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        return number(high_);
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  }
  CUresult Set(CUmemPool_attribute attribute, const void* value) noexcept {
    switch (attribute) {
      case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        follow_event_dependencies_ = *static_cast<const int*>(value);
        return CUDA_SUCCESS;
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        allow_opportunistic_ = *static_cast<const int*>(value);
        return CUDA_SUCCESS;
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        allow_internal_dependencies_ = *static_cast<const int*>(value);
        return CUDA_SUCCESS;
      case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        release_threshold_ = *static_cast<const cuuint64_t*>(value);
        return CUDA_SUCCESS;
      case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        // Only a reset is possible.
        if (*static_cast<const cuuint64_t*>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
        high_ = used_.load();
        return CUDA_SUCCESS;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  }

 private:
  const std::uint64_t max_bytes_;
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> high_{0};
  std::atomic<std::uint64_t> release_threshold_{0};
  std::atomic<int> follow_event_dependencies_{1};
  std::atomic<int> allow_opportunistic_{1};
  std::atomic<int> allow_internal_dependencies_{1};
};

}  // namespace farwarp::graph
