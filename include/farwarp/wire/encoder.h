// Encoder: appends values to a byte buffer in Farwarp's wire form.
//
//   scalar    := value, little endian, zero-extended (sign-extended if signed) to 8 bytes
//   struct    := its C layout as the API model states it, zero-padded to a multiple of 8
//   blob      := count:u64, bytes, zero-padded to a multiple of 8
//   optional  := present:u64 (0 or 1), value if present
//
// Everything starts at a multiple of 8 from the buffer's beginning. Both ends are little-endian
// LP64 machines with the same struct layouts, which the handshake's table hash proves.
//
// The buffer belongs to the caller and is reused, so that steady traffic allocates nothing. One
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace farwarp::wire {

using Buffer = std::vector<std::byte>;

constexpr std::size_t Padded(std::size_t bytes) {
  return (bytes + 7) & ~std::size_t{7};
}

class Encoder {
 public:
  // Appends to `buffer`, whose size must be a multiple of 8.
  explicit Encoder(Buffer& buffer) noexcept : buffer_(buffer), start_(buffer.size()) {}

  // Integers, enums, bool, float and double.
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    std::uint64_t word = 0;
    if constexpr (std::is_enum_v<T>) {
      word = static_cast<std::uint64_t>(
          static_cast<std::int64_t>(static_cast<std::underlying_type_t<T>>(value)));
    } else if constexpr (std::is_floating_point_v<T>) {
      std::memcpy(&word, &value, sizeof value);
    } else if constexpr (std::is_signed_v<T>) {
      word = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
    } else {
      word = static_cast<std::uint64_t>(value);
    }
    std::memcpy(Grow(sizeof word), &word, sizeof word);
  }

  // Opaque pointers that the peer treats as numbers: device addresses, client-minted handles.
  void PutPointer(const void* pointer) { Put(reinterpret_cast<std::uintptr_t>(pointer)); }

  // A structure without pointers, in its C layout.
  template <typename T>
  void PutStruct(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    PutRaw(&value, sizeof value);
  }

  // `bytes` bytes without a count: the peer knows the length from an earlier value.
  void PutRaw(const void* data, std::size_t bytes) {
    std::byte* to = Grow(Padded(bytes));
    if (bytes != 0) std::memcpy(to, data, bytes);
    if (const std::size_t rest = Padded(bytes) - bytes; rest != 0) std::memset(to + bytes, 0, rest);
  }

  void PutBlob(const void* data, std::size_t bytes) {
    Put(static_cast<std::uint64_t>(bytes));
    PutRaw(data, bytes);
  }
  void PutString(std::string_view text) { PutBlob(text.data(), text.size()); }

  // Overwrites an 8-byte word written earlier; `offset` counts from this encoder's start.
  void Patch(std::size_t offset, std::uint64_t word) {
    std::memcpy(buffer_.data() + start_ + offset, &word, sizeof word);
  }

  // Bytes written by this encoder.
  std::size_t bytes() const noexcept { return buffer_.size() - start_; }

 private:
  std::byte* Grow(std::size_t bytes) {
    const std::size_t at = buffer_.size();
    buffer_.resize(at + bytes);
    return buffer_.data() + at;
  }

  Buffer& buffer_;
  std::size_t start_;
};

}  // namespace farwarp::wire
