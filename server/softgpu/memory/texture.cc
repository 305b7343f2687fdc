#include "server/softgpu/memory/texture.h"

#include <cstring>

namespace farwarp::softgpu {

TextureTable& TextureTable::Textures() {
  static TextureTable& table = *new TextureTable();  // Kernels may run until the process ends.
  return table;
}
TextureTable& TextureTable::Surfaces() {
  static TextureTable& table = *new TextureTable();
  return table;
}

TextureTable::~TextureTable() {
  for (auto& chunk : chunks_) delete chunk.load(std::memory_order_relaxed);
}

TextureTable::Slot* TextureTable::Find(uint64_t handle) const noexcept {
  const uint64_t index = (handle & 0xffffffff) - 1;
  if (index >= uint64_t{kChunks} * kChunkSlots) return nullptr;
  Chunk* const chunk = chunks_[index / kChunkSlots].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &chunk->slots[index % kChunkSlots];
}

bool TextureTable::Publish(uint64_t handle, const TextureState& state) {
  const uint64_t index = (handle & 0xffffffff) - 1;
  if (index >= uint64_t{kChunks} * kChunkSlots) return false;
  const MutexLock lock(mutex_);
  auto& chunk = chunks_[index / kChunkSlots];
  if (chunk.load(std::memory_order_relaxed) == nullptr) {
    chunk.store(std::make_unique<Chunk>().release(), std::memory_order_release);
  }
  uint64_t words[kWords];
  std::memcpy(words, &state, sizeof(state));
  Slot* const slot = Find(handle);
  slot->handle.store(0, std::memory_order_relaxed);
  // Release: whoever reads a new word sees that the handle has changed.
  for (uint32_t k = 0; k < kWords; ++k) slot->words[k].store(words[k], std::memory_order_release);
  slot->handle.store(handle, std::memory_order_release);
  return true;
}

void TextureTable::Withdraw(uint64_t handle) {
  const MutexLock lock(mutex_);
  Slot* const slot = Find(handle);
  if (slot != nullptr && slot->handle.load(std::memory_order_relaxed) == handle) {
    slot->handle.store(0, std::memory_order_relaxed);
  }
}

bool TextureTable::Read(uint64_t handle, TextureState* state) const noexcept {
  const Slot* const slot = Find(handle);
  if (slot == nullptr || slot->handle.load(std::memory_order_acquire) != handle) return false;
  uint64_t words[kWords];
  for (uint32_t k = 0; k < kWords; ++k) words[k] = slot->words[k].load(std::memory_order_acquire);
  if (slot->handle.load(std::memory_order_relaxed) != handle) return false;
  std::memcpy(static_cast<void*>(state), words, sizeof(words));
  return true;
}

}  // namespace farwarp::softgpu
