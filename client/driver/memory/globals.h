// Globals: where the variables of loaded modules lie on the device. They are outside the address
// window, so this is what makes them device addresses for copies and pointer attributes.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

class Globals {
 public:
  struct Variable {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    std::uint64_t module = 0;   // Handle of the module or library.
    std::uint64_t context = 0;  // Handle of the context that it was asked in.
  };

  void Add(const Variable& variable) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    variables_[variable.address] = variable;
    count_.store(variables_.size(), std::memory_order_relaxed);
  }
  // Forgets those of a module or library.
  void DropModule(std::uint64_t module) EXCLUDES(mutex_) {
    DropIf([module](const Variable& variable) { return variable.module == module; });
  }
  void DropContext(std::uint64_t context) EXCLUDES(mutex_) {
    DropIf([context](const Variable& variable) { return variable.context == context; });
  }

  // The variable that `address` lies in.
  std::optional<Variable> Find(std::uint64_t address) const EXCLUDES(mutex_) {
    if (count_.load(std::memory_order_relaxed) == 0) return std::nullopt;
    const MutexLock lock(mutex_);
    const auto after = variables_.upper_bound(address);
    if (after == variables_.begin()) return std::nullopt;
    const Variable& candidate = std::prev(after)->second;
    if (address - candidate.address >= candidate.bytes) return std::nullopt;
    return candidate;
  }

 private:
  template <typename Drop>
  void DropIf(Drop drop) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    std::erase_if(variables_, [&](const auto& entry) { return drop(entry.second); });
    count_.store(variables_.size(), std::memory_order_relaxed);
  }

  mutable Mutex mutex_;
  std::map<std::uint64_t, Variable> variables_ GUARDED_BY(mutex_);
  std::atomic<std::size_t> count_{0};  // Relaxed: a hint that skips the lock.
};

}  // namespace farwarp::client
