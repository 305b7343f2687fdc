// ObjectTable<T>: mints the handles of one kind and finds the client's record of each.
//
// An index is reused after destruction with the next generation, so a stale handle is refused, as a
// forged one is. The server refuses an index that it still knows, so nobody may be given one before
// the command that ends its last owner is in the stream: Removed keeps it until then. Find takes no
// lock and costs two dependent loads: it is on the launch path. The records are taken over by Mint
// and given back by Remove; using a handle in one thread while another destroys it is the
// application's bug, as it is in CUDA.
//
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"
#include "farwarp/wire/limits.h"

namespace farwarp::client {

template <typename T, wire::HandleKind kKind>
class ObjectTable {
 public:
  ObjectTable() = default;
  ObjectTable(const ObjectTable&) = delete;
  ObjectTable& operator=(const ObjectTable&) = delete;
  ~ObjectTable() {
    for (auto& chunk : chunks_) {
      Chunk* slots = chunk.load(std::memory_order_relaxed);
      if (slots == nullptr) continue;
      for (auto& slot : *slots) delete slot.object.load(std::memory_order_relaxed);
      delete slots;
    }
  }

  // A record whose handle has ended, and the index that it had, which is free again when this ends.
  // Null if there was none. Must not outlive the table.
  class [[nodiscard]] Removed {
   public:
    Removed() = default;
    Removed(Removed&& other) noexcept
        : object_(std::move(other.object_)),
          table_(std::exchange(other.table_, nullptr)),
          index_(other.index_) {}
    Removed& operator=(Removed&&) = delete;
    ~Removed() {
      if (table_ != nullptr) table_->Free(index_);
    }
    T* get() const noexcept { return object_.get(); }
    T* operator->() const noexcept { return object_.get(); }
    bool operator==(std::nullptr_t) const noexcept { return object_ == nullptr; }

   private:
    friend class ObjectTable;
    Removed(std::unique_ptr<T> object, ObjectTable* table, std::uint32_t index)
        : object_(std::move(object)), table_(table), index_(index) {}

    std::unique_ptr<T> object_;
    ObjectTable* table_ = nullptr;
    std::uint32_t index_ = 0;
  };

  // Takes the record over. A null handle if too many are alive or memory is short.
  wire::Handle Mint(std::unique_ptr<T> object) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    std::uint32_t index;
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      if (next_ == wire::kMaxHandlesPerKind) return {};
      index = next_;
      if (ChunkOf(index).load(std::memory_order_relaxed) == nullptr) {
        // Giving an index back must not fail.
        free_.reserve(std::size_t{index} + kChunk);
        auto* chunk = new (std::nothrow) Chunk;
        if (chunk == nullptr) return {};
        ChunkOf(index).store(chunk, std::memory_order_release);
      }
      ++next_;
    }
    Slot& slot = SlotOf(*ChunkOf(index).load(std::memory_order_relaxed), index);
    const wire::Handle handle(kKind, slot.generation, index);
    slot.object.store(object.release(), std::memory_order_relaxed);
    // Release: whoever finds the handle sees the record behind it.
    slot.handle.store(handle.bits(), std::memory_order_release);
    ++live_;
    return handle;
  }

  // The record of a live handle, else nullptr.
  T* Find(wire::Handle handle) const noexcept {
    if (!handle.Is(kKind) || handle.index() >= wire::kMaxHandlesPerKind) return nullptr;
    const Chunk* chunk = ChunkOf(handle.index()).load(std::memory_order_acquire);
    if (chunk == nullptr) return nullptr;
    const Slot& slot = (*chunk)[handle.index() % kChunk];
    if (slot.handle.load(std::memory_order_acquire) != handle.bits()) return nullptr;
    return slot.object.load(std::memory_order_relaxed);
  }
  template <typename Pointer>
  T* Find(Pointer pointer) const noexcept {
    return Find(wire::FromPointer(pointer));
  }

  // Ends the handle. The caller keeps what is returned until the command that ends the object on
  // the server has been posted.
  Removed Remove(wire::Handle handle) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (Find(handle) == nullptr) return {};
    Slot& slot = SlotOf(*ChunkOf(handle.index()).load(std::memory_order_relaxed), handle.index());
    slot.handle.store(0, std::memory_order_release);
    std::unique_ptr<T> object(slot.object.exchange(nullptr, std::memory_order_relaxed));
    --live_;
    // A generation that would wrap around could make a very old handle valid again: the index is
    // retired instead.
    const bool again = ++slot.generation != 0;
    return {std::move(object), again ? this : nullptr, handle.index()};
  }

  // Calls `visit(handle, record)` for each live record. `visit` must not call back into this table.
  template <typename Visit>
  void ForEach(Visit visit) EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    for (std::uint32_t index = 0; index < next_; ++index) {
      Slot& slot = SlotOf(*ChunkOf(index).load(std::memory_order_relaxed), index);
      const std::uint64_t bits = slot.handle.load(std::memory_order_relaxed);
      if (bits != 0) visit(wire::Handle(bits), *slot.object.load(std::memory_order_relaxed));
    }
  }

  std::size_t live() const EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return live_;
  }

 private:
  static constexpr std::uint32_t kChunk = 1024;
  struct Slot {
    std::atomic<std::uint64_t> handle{0};
    std::atomic<T*> object{nullptr};
    std::uint16_t generation = 1;
  };
  using Chunk = std::array<Slot, kChunk>;

  void Free(std::uint32_t index) noexcept EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    free_.push_back(index);
  }

  std::atomic<Chunk*>& ChunkOf(std::uint32_t index) noexcept { return chunks_[index / kChunk]; }
  const std::atomic<Chunk*>& ChunkOf(std::uint32_t index) const noexcept {
    return chunks_[index / kChunk];
  }
  static Slot& SlotOf(Chunk& chunk, std::uint32_t index) noexcept { return chunk[index % kChunk]; }

  std::array<std::atomic<Chunk*>, wire::kMaxHandlesPerKind / kChunk> chunks_{};
  mutable Mutex mutex_;
  std::vector<std::uint32_t> free_ GUARDED_BY(mutex_);
  std::uint32_t next_ GUARDED_BY(mutex_) = 0;
  std::size_t live_ GUARDED_BY(mutex_) = 0;
};

}  // namespace farwarp::client
