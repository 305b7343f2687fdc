// What textures and surfaces are for the engine: where texels lie and how they are read. The driver
// publishes a TextureState under the number that programs pass to kernels; handlers read it back by
// that number, which may be any number at all.
//
// Texels lie row by row, rows `pitch` bytes apart, slices (of a volume, layers, faces) `slice`
// bytes apart; nothing is tiled.
//
// Ownership: a table holds copies. Threads: thread-safe; Read never waits and may run in kernels.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

enum class TexelType : uint8_t { kU8, kU16, kU32, kS8, kS16, kS32, kF16, kF32 };
enum class AddressMode : uint8_t { kWrap, kClamp, kMirror, kBorder };

constexpr uint32_t TexelTypeBytes(TexelType type) {
  switch (type) {
    case TexelType::kU8:
    case TexelType::kS8:
      return 1;
    case TexelType::kU16:
    case TexelType::kS16:
    case TexelType::kF16:
      return 2;
    case TexelType::kU32:
    case TexelType::kS32:
    case TexelType::kF32:
      return 4;
  }
  return 4;
}

// A plain value of whole words, so that it can be published word by word.
struct TextureState {
  uint64_t base = 0;
  uint64_t pitch = 0;
  uint64_t slice = 0;
  uint32_t width = 0;   // Texels. Of linear memory: all of them.
  uint32_t height = 0;  // 0: one-dimensional.
  uint32_t depth = 0;   // Slices of a volume, layers, faces; 0: neither.
  TexelType type = TexelType::kF32;
  uint8_t channels = 1;
  // Out of range is 0 whatever the address mode, as for memory without an array.
  bool linear_memory = false;
  bool layered = false;
  bool cube = false;
  bool normalized_coordinates = false;
  bool linear_filter = false;
  bool to_float = false;  // Integers of 8 and 16 bits become floats in [0, 1] or [-1, 1].
  bool srgb = false;
  AddressMode address[3] = {AddressMode::kClamp, AddressMode::kClamp, AddressMode::kClamp};
  float border[4] = {0, 0, 0, 0};

  uint32_t texel_bytes() const { return TexelTypeBytes(type) * channels; }
};
static_assert(sizeof(TextureState) == 64 || sizeof(TextureState) % 8 == 0);

class TextureTable {
 public:
  TextureTable() = default;
  TextureTable(const TextureTable&) = delete;
  TextureTable& operator=(const TextureTable&) = delete;
  ~TextureTable();

  // The process's tables: kernels find what their numbers mean without a context.
  static TextureTable& Textures();
  static TextureTable& Surfaces();

  // Makes `state` readable under `handle`, whose lower half is an index + 1 that no other published
  // handle has. False: the index is beyond what the table holds.
  bool Publish(uint64_t handle, const TextureState& state) EXCLUDES(mutex_);
  void Withdraw(uint64_t handle) EXCLUDES(mutex_);
  // False: no such handle, or it is being withdrawn.
  bool Read(uint64_t handle, TextureState* state) const noexcept;

 private:
  static constexpr uint32_t kWords = sizeof(TextureState) / 8;
  static constexpr uint32_t kChunkSlots = 512;
  static constexpr uint32_t kChunks = 2048;
  struct Slot {
    std::atomic<uint64_t> handle{0};  // 0 while the words change.
    std::array<std::atomic<uint64_t>, kWords> words{};
  };
  struct Chunk {
    std::array<Slot, kChunkSlots> slots;
  };
  Slot* Find(uint64_t handle) const noexcept;

  Mutex mutex_;  // Between writers.
  std::array<std::atomic<Chunk*>, kChunks> chunks_{};
};

}  // namespace farwarp::softgpu
