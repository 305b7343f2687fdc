#include "client/session/kernel_output.h"

#include <algorithm>
#include <cstdio>

#include "farwarp/base/log.h"

namespace farwarp::client {

void KernelOutput::Add(std::span<const std::byte> text) {
  const MutexLock lock(mutex_);
  const std::size_t bytes = std::min(text.size(), kMaxBytes - text_.size());
  text_.insert(text_.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bytes));
  if (bytes < text.size() && !dropped_) {
    dropped_ = true;
    FARWARP_LOG(kWarn, "kernels print faster than the program waits for them: text is lost");
  }
  pending_.store(true, std::memory_order_release);
}

void KernelOutput::Write() noexcept {
  if (!pending_.load(std::memory_order_acquire)) return;
  const MutexLock writing(write_mutex_);
  {
    const MutexLock lock(mutex_);
    writing_.swap(text_);
    dropped_ = false;
  }
  if (!writing_.empty()) {
    std::fwrite(writing_.data(), 1, writing_.size(), stdout);
    std::fflush(stdout);
    writing_.clear();
  }
  const MutexLock lock(mutex_);
  if (text_.empty()) pending_.store(false, std::memory_order_release);
}

}  // namespace farwarp::client
