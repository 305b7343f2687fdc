// KernelOutput: what kernels have printed, on its way to the program's standard output. The
// receiver adds; a thread that has waited for the GPU writes, as CUDA does, before its call
// returns. Thus text comes in order with what the program prints itself, and a full pipe stalls
// only the threads that print into it, not the session.
//
// Thread-safe. Bounded: text that nobody waits for is dropped beyond kMaxBytes.
#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

class KernelOutput {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{16} << 20;

  // Never waits. Throws only when memory runs out.
  void Add(std::span<const std::byte> text) EXCLUDES(mutex_);
  // Writes all that was added before; waits for another thread that is writing it.
  void Write() noexcept EXCLUDES(mutex_, write_mutex_);

 private:
  std::atomic<bool> pending_{false};  // Something was added that has not been written.
  Mutex write_mutex_;                 // Keeps the text in order; taken before mutex_.
  std::vector<std::byte> writing_ GUARDED_BY(write_mutex_);
  Mutex mutex_;
  std::vector<std::byte> text_ GUARDED_BY(mutex_);
  bool dropped_ GUARDED_BY(mutex_) = false;
};

}  // namespace farwarp::client
