// ThreadState: what the client keeps per application thread: the stack of current contexts, and the
// thread's own default stream in each context.
//
// Created by the thread's first CUDA call, destroyed by a key destructor when the thread ends. One
// thread.
#pragma once

#include <vector>

#include "client/driver/context/context_stack.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

struct ThreadState {
  struct OwnStream {
    wire::Handle context;
    wire::Handle stream;
  };

  // nullptr only if memory is short.
  static ThreadState* Get() noexcept;

  ContextStack contexts;
  std::vector<OwnStream> own_streams;
};

}  // namespace farwarp::client
