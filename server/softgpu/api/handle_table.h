// HandleTable<T>: turns the opaque handles of one kind into objects. A handle holds its kind, a
// generation and an index, so a forged, stale or confused one is found out and nothing is read
// through it.
//
// Ownership: the table holds one reference; a caller that works on an object while another thread
// destroys it keeps it alive by its own. Threads: thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

enum class HandleKind : std::uint8_t {
  kContext = 1,
  kStream,
  kEvent,
  kModule,
  kFunction,
  kLibrary,
  kKernel,
  kMemory,
  kPool,
  kLink,
  kArray,
  kTexture,
  kSurface,
};

// Any handle as a number: bits 56-63 kind, 32-55 generation, 0-31 index + 1.
template <typename Pointer>
std::uint64_t HandleBits(Pointer handle) noexcept {
  if constexpr (std::is_pointer_v<Pointer>) {
    return reinterpret_cast<std::uint64_t>(handle);
  } else {
    return handle;
  }
}
inline bool IsHandleKind(std::uint64_t bits, HandleKind kind) noexcept {
  return bits >> 56 == static_cast<std::uint64_t>(kind);
}

// Handle is CUDA's type of it: CUstream, CUmemGenericAllocationHandle, ...
template <typename T, typename Handle, HandleKind kKind>
class HandleTable {
 public:
  Handle Add(std::shared_ptr<T> object) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    std::uint32_t index;
    if (free_.empty()) {
      index = static_cast<std::uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    slots_[index].object = std::move(object);
    slots_[index].used = true;
    return ToHandle(Bits(index, slots_[index].generation));
  }

  // The object of a live handle, else nullptr.
  std::shared_ptr<T> Find(Handle handle) const EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const Slot* slot = SlotOf(slots_, HandleBits(handle));
    return slot == nullptr ? nullptr : slot->object;
  }

  // Whether this was ever a handle of this table: alive, or destroyed since.
  bool WasKnown(Handle handle) const EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const std::uint64_t bits = HandleBits(handle);
    const std::uint64_t index = (bits & 0xffffffff) - 1;
    return IsHandleKind(bits, kKind) && index < slots_.size() &&
           ((bits >> 32) & 0xffffff) <= slots_[index].generation;
  }

  std::shared_ptr<T> Remove(Handle handle) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    Slot* slot = SlotOf(slots_, HandleBits(handle));
    if (slot == nullptr || slot->object == nullptr) return nullptr;
    return Clear(slot);
  }

  // Puts another object, or none for the moment, behind a live handle; returns the old one.
  std::shared_ptr<T> Replace(Handle handle, std::shared_ptr<T> object) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    Slot* slot = SlotOf(slots_, HandleBits(handle));
    if (slot == nullptr) return nullptr;
    std::swap(slot->object, object);
    return object;
  }

  // Removes every object for which matches(object); they are returned, to be destroyed unlocked.
  template <typename Matches>
  std::vector<std::shared_ptr<T>> RemoveIf(Matches matches) EXCLUDES(mutex_) {
    std::vector<std::shared_ptr<T>> removed;
    const MutexLock lock(mutex_);
    for (Slot& slot : slots_) {
      if (slot.object != nullptr && matches(*slot.object)) removed.push_back(Clear(&slot));
    }
    return removed;
  }

  std::vector<std::shared_ptr<T>> All() const EXCLUDES(mutex_) {
    std::vector<std::shared_ptr<T>> all;
    const MutexLock lock(mutex_);
    for (const Slot& slot : slots_) {
      if (slot.object != nullptr) all.push_back(slot.object);
    }
    return all;
  }

 private:
  struct Slot {
    std::shared_ptr<T> object;
    std::uint32_t generation = 1;
    bool used = false;
  };

  static std::uint64_t Bits(std::uint32_t index, std::uint32_t generation) noexcept {
    return static_cast<std::uint64_t>(kKind) << 56 | static_cast<std::uint64_t>(generation) << 32 |
           (index + 1u);
  }
  static Handle ToHandle(std::uint64_t bits) noexcept {
    if constexpr (std::is_pointer_v<Handle>) {
      return reinterpret_cast<Handle>(bits);
    } else {
      return bits;
    }
  }
  // The slot of a live handle, const or not as `slots` is.
  template <typename Slots>
  static auto* SlotOf(Slots& slots, std::uint64_t bits) {
    const std::uint64_t index = (bits & 0xffffffff) - 1;
    const bool found = IsHandleKind(bits, kKind) && index < slots.size() && slots[index].used &&
                       slots[index].generation == ((bits >> 32) & 0xffffff);
    return found ? &slots[index] : nullptr;
  }
  std::shared_ptr<T> Clear(Slot* slot) REQUIRES(mutex_) {
    std::shared_ptr<T> object = std::move(slot->object);
    slot->object = nullptr;
    slot->used = false;
    // A generation that wraps around could make an old handle valid: such a slot is retired.
    if (++slot->generation < 0xffffff) {
      free_.push_back(static_cast<std::uint32_t>(slot - slots_.data()));
    }
    return object;
  }

  mutable Mutex mutex_;
  std::vector<Slot> slots_ GUARDED_BY(mutex_);
  std::vector<std::uint32_t> free_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::softgpu
