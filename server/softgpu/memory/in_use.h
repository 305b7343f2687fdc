// InUse: the ranges of device memory that copies and fills touch at this moment.
//
// Kernels may use freed memory as they like: page protection stops them. Copies run as ordinary
// code of this process and must not meet an unmapped page. So each enters its ranges when it
// begins, then looks whether they are still allocated; whoever frees memory takes it out of the
// allocation map, then waits until no copy is inside. Copies end by themselves, so this wait is
// short, whatever else the process's streams hold. Memory that stays allocated and only changes its
// place (page_move.h) pauses them instead.
//
// Thread-safe.
#pragma once

#include <cstdint>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

class InUse {
 public:
  struct Range {
    std::uint64_t address;
    std::uint64_t bytes;
  };
  // What one copy writes and reads, for as long as it lives; either may be empty. Linked by itself,
  // so that entering allocates nothing.
  class Entry {
   public:
    Entry(InUse& owner, Range to, Range from) : owner_(owner), to_(to), from_(from) {
      const MutexLock lock(owner_.mutex_);
      while (Overlap(owner_.paused_, to_) || Overlap(owner_.paused_, from_)) {
        owner_.left_.Wait(owner_.mutex_);
      }
      next_ = owner_.first_;
      if (next_ != nullptr) next_->link_ = &next_;
      link_ = &owner_.first_;
      owner_.first_ = this;
    }
    ~Entry() {
      const MutexLock lock(owner_.mutex_);
      *link_ = next_;
      if (next_ != nullptr) next_->link_ = link_;
      owner_.left_.NotifyAll();
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class InUse;
    InUse& owner_;
    const Range to_;
    const Range from_;
    // Guarded by the owner's lock.
    Entry* next_ = nullptr;
    Entry** link_ = nullptr;  // What points here.
  };

  // While it lives no copy is inside of the range, and none enters it.
  class Pause {
   public:
    Pause(InUse& owner, Range range) : owner_(owner) {
      const MutexLock lock(owner_.mutex_);
      while (owner_.paused_.bytes != 0) owner_.left_.Wait(owner_.mutex_);
      owner_.paused_ = range;
      while (owner_.Touches(range)) owner_.left_.Wait(owner_.mutex_);
    }
    ~Pause() {
      const MutexLock lock(owner_.mutex_);
      owner_.paused_ = {0, 0};
      owner_.left_.NotifyAll();
    }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    InUse& owner_;
  };

  // Returns when no entry touches the range.
  void WaitUntilUnused(Range range) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    while (Touches(range)) left_.Wait(mutex_);
  }

 private:
  static bool Overlap(Range a, Range b) noexcept {
    return a.address < b.address + b.bytes && b.address < a.address + a.bytes;
  }
  bool Touches(Range range) const REQUIRES(mutex_) {
    for (const Entry* entry = first_; entry != nullptr; entry = entry->next_) {
      if (Overlap(entry->to_, range) || Overlap(entry->from_, range)) return true;
    }
    return false;
  }

  Mutex mutex_;
  CondVar left_;
  Entry* first_ GUARDED_BY(mutex_) = nullptr;
  Range paused_ GUARDED_BY(mutex_) = {0, 0};
};

}  // namespace farwarp::softgpu
