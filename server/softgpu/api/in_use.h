// InUse: the ranges of device memory that copies and fills touch at this moment.
//
// Kernels may use freed memory as they like: page protection stops them. Copies run as ordinary
// code of this process and must not meet an unmapped page. So each enters its ranges when it
// begins, then looks whether they are still allocated; whoever frees memory takes it out of the
// allocation map, then waits until no copy is inside. Copies end by themselves, so this wait is
// short, whatever else the process's streams hold.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <list>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

class InUse {
 public:
  struct Range {
    std::uint64_t address;
    std::uint64_t bytes;
  };
  // One range for as long as it lives.
  class Entry {
   public:
    Entry(InUse& owner, Range range) : owner_(owner) {
      const MutexLock lock(owner_.mutex_);
      owner_.ranges_.push_front(range);
      at_ = owner_.ranges_.begin();
    }
    ~Entry() {
      const MutexLock lock(owner_.mutex_);
      owner_.ranges_.erase(at_);
      owner_.left_.NotifyAll();
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    InUse& owner_;
    std::list<Range>::iterator at_;
  };

  // Returns when no entry touches the range.
  void WaitUntilUnused(Range range) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    while (Touches(range)) left_.Wait(mutex_);
  }

 private:
  bool Touches(Range range) const REQUIRES(mutex_) {
    for (const Range& one : ranges_) {
      if (one.address < range.address + range.bytes && range.address < one.address + one.bytes) {
        return true;
      }
    }
    return false;
  }

  Mutex mutex_;
  CondVar left_;
  std::list<Range> ranges_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::softgpu
