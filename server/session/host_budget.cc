#include "server/session/host_budget.h"

#include "farwarp/base/log.h"

namespace farwarp::server {
namespace {

// By kind. The rest is the driver's and the session's, whose buffers have limits of their own.
constexpr const char* kNames[HostBudget::kKinds] = {"module images", "graphs", "host functions"};
constexpr std::uint64_t kParts[HostBudget::kKinds] = {4, 4, 32};

}  // namespace

HostBudget::HostBudget(std::uint64_t bytes) noexcept {
  for (std::size_t i = 0; i < kKinds; ++i) shares_[i].limit = bytes / kParts[i];
}

bool HostBudget::Charge(Kind kind, std::uint64_t bytes) noexcept {
  Share& share = Of(kind);
  std::uint64_t used = share.used.load(std::memory_order_relaxed);
  do {
    if (bytes > share.limit - used) {
      if (!share.refused.exchange(true)) {
        FARWARP_LOG(kWarn,
                    "the client's %s would need more than the %llu bytes of host memory that they "
                    "may have; what is beyond fails with CUDA_ERROR_OUT_OF_MEMORY",
                    kNames[static_cast<std::size_t>(kind)],
                    static_cast<unsigned long long>(share.limit));
      }
      return false;
    }
  } while (!share.used.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

HostBudget::Hold HostBudget::Take(Kind kind, std::uint64_t bytes) noexcept {
  return Charge(kind, bytes) ? Hold(this, kind, bytes) : Hold();
}

bool HostBudget::Hold::Grow(std::uint64_t bytes) noexcept {
  if (budget_ == nullptr || !budget_->Charge(kind_, bytes)) return false;
  bytes_ += bytes;
  return true;
}

void HostBudget::Hold::Drop() noexcept {
  if (budget_ == nullptr) return;
  budget_->Of(kind_).used.fetch_sub(bytes_, std::memory_order_relaxed);
  budget_ = nullptr;
  bytes_ = 0;
}

}  // namespace farwarp::server
