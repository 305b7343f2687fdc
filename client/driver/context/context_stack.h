// ContextStack: the calling thread's stack of current contexts, as cuCtxPushCurrent and its
// siblings see it. Purely local: the server learns the current context from the command stream.
//
// Owned by one thread's ThreadState; one thread. Fixed capacity, because CUDA's own stack is small
// and a thread's state must need no destructor.
#pragma once

#include <array>
#include <cstddef>

#include "farwarp/wire/handle.h"

namespace farwarp::client {

class ContextStack {
 public:
  static constexpr std::size_t kCapacity = 256;

  // The current context, or a null handle.
  wire::Handle top() const noexcept { return depth_ == 0 ? wire::Handle{} : slots_[depth_ - 1]; }
  std::size_t depth() const noexcept { return depth_; }

  // False if the stack is full.
  bool Push(wire::Handle context) noexcept {
    if (depth_ == kCapacity) return false;
    slots_[depth_++] = context;
    return true;
  }
  // The context that was on top; a null handle if there was none.
  wire::Handle Pop() noexcept { return depth_ == 0 ? wire::Handle{} : slots_[--depth_]; }

  // cuCtxSetCurrent: replaces the top; null pops it, and on an empty stack does nothing.
  void SetTop(wire::Handle context) noexcept {
    if (context.bits() == 0) {
      Pop();
    } else if (depth_ == 0) {
      slots_[depth_++] = context;
    } else {
      slots_[depth_ - 1] = context;
    }
  }

 private:
  std::array<wire::Handle, kCapacity> slots_{};
  std::size_t depth_ = 0;
};

}  // namespace farwarp::client
