// HandleTable: what the client's handles stand for in this worker's driver. One flat array per
// kind, found by index; the generation must match, so a stale or forged handle finds nothing.
//
// Dispatch thread only.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "farwarp/wire/handle.h"
#include "farwarp/wire/limits.h"

namespace farwarp::server {

class HandleTable {
 public:
  // The driver's object, or nullptr.
  void* Find(wire::Handle handle) const noexcept {
    const Slot* slot = SlotOf(handle);
    return slot != nullptr && slot->handle == handle.bits() ? slot->object : nullptr;
  }
  // True if `handle` has the form of one that may be bound now.
  bool MayBind(wire::Handle handle, wire::HandleKind kind) const noexcept {
    if (!handle.Is(kind) || handle.index() >= wire::kMaxHandlesPerKind) return false;
    const Slot* slot = SlotOf(handle);
    return slot == nullptr || slot->object == nullptr;
  }
  // Precondition: MayBind. `owner`: the context whose end is this object's end, or null.
  void Bind(wire::Handle handle, void* object, wire::Handle owner = {}) {
    auto& slots = kinds_[static_cast<std::size_t>(handle.kind())];
    if (handle.index() >= slots.size()) slots.resize(std::size_t{handle.index()} + 1);
    slots[handle.index()] = {handle.bits(), object, owner.bits()};
  }
  // Removes and returns what `handle` stood for; nullptr if nothing.
  void* Remove(wire::Handle handle) noexcept {
    void* object = Find(handle);
    if (object != nullptr) {
      kinds_[static_cast<std::size_t>(handle.kind())][handle.index()].object = nullptr;
    }
    return object;
  }
  // Null if the object has none.
  wire::Handle OwnerOf(wire::Handle handle) const noexcept {
    return wire::Handle(Find(handle) != nullptr ? SlotOf(handle)->owner : 0);
  }
  // Forgets what has ended with `owner`, and calls `visit` with each handle.
  template <typename Visit>
  void RemoveOwnedBy(wire::Handle owner, Visit visit) {
    for (auto& slots : kinds_) {
      for (Slot& slot : slots) {
        if (slot.object == nullptr || slot.owner != owner.bits()) continue;
        slot.object = nullptr;
        visit(wire::Handle(slot.handle));
      }
    }
  }
  template <typename Visit>
  void ForEach(wire::HandleKind kind, Visit visit) const {
    for (const Slot& slot : kinds_[static_cast<std::size_t>(kind)]) {
      if (slot.object != nullptr) visit(wire::Handle(slot.handle), slot.object);
    }
  }

 private:
  struct Slot {
    std::uint64_t handle = 0;
    void* object = nullptr;
    std::uint64_t owner = 0;
  };
  const Slot* SlotOf(wire::Handle handle) const noexcept {
    const auto kind = static_cast<std::size_t>(handle.kind());
    if (!handle.tagged() || kind >= kinds_.size()) return nullptr;
    const auto& slots = kinds_[kind];
    return handle.index() < slots.size() ? &slots[handle.index()] : nullptr;
  }

  std::array<std::vector<Slot>, wire::kHandleKinds> kinds_;
};

}  // namespace farwarp::server
