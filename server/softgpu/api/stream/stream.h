// Stream: an ordered queue of a context. It is no more than the last Work put into it; the rules of
// order between streams are the context's (context.h).
//
// Ownership: its context and the handle table hold it. Threads: immutable but for the tail, which
// the context guards.
#pragma once

#include <cstdint>
#include <memory>

#include "server/softgpu/api/stream/work.h"

namespace farwarp::softgpu {

class Context;

enum class StreamKind { kLegacy, kPerThread, kCreated };

class Stream {
 public:
  Stream(std::weak_ptr<Context> context, StreamKind kind, unsigned flags, int priority,
         std::uint64_t id)
      : context_(std::move(context)), kind_(kind), flags_(flags), priority_(priority), id_(id) {}

  // Null when the context is gone.
  std::shared_ptr<Context> context() const noexcept { return context_.lock(); }
  StreamKind kind() const noexcept { return kind_; }
  unsigned flags() const noexcept { return flags_; }
  // Whether it takes part in the legacy default stream's ordering.
  bool blocking() const noexcept { return (flags_ & 1) == 0; }
  int priority() const noexcept { return priority_; }
  std::uint64_t id() const noexcept { return id_; }

 private:
  friend class Context;
  const std::weak_ptr<Context> context_;
  const StreamKind kind_;
  const unsigned flags_;
  const int priority_;
  const std::uint64_t id_;
  std::shared_ptr<Work> tail_;  // Guarded by Context::mutex_.
};

}  // namespace farwarp::softgpu
