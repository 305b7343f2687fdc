// Decoder: reads what Encoder wrote, from bytes that may be hostile.
//
// The first error is sticky: from then on every read yields zero or an empty span, and failed()
// says so; callers check once per message. Nothing is allocated here; spans point into the message
// and live as long as it does. A count is checked against the bytes that remain before it is
// believed, so no loop or allocation is driven by an unchecked number.
//
// One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "farwarp/wire/encoder.h"
#include "farwarp/wire/limits.h"

namespace farwarp::wire {

class Decoder {
 public:
  Decoder() = default;
  explicit Decoder(std::span<const std::byte> message) noexcept : rest_(message) {}

  template <typename T>
  T Get() noexcept {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    const std::uint64_t word = Word();
    if constexpr (std::is_floating_point_v<T>) {
      T value;
      std::memcpy(&value, &word, sizeof value);
      return value;
    } else if constexpr (std::is_same_v<T, bool>) {
      if (word > 1) Fail();
      return !failed_ && word == 1;
    } else if constexpr (std::is_enum_v<T>) {
      return static_cast<T>(Narrow<std::underlying_type_t<T>>(word));
    } else {
      return Narrow<T>(word);
    }
  }

  template <typename T>
  T GetPointer() noexcept {
    static_assert(std::is_pointer_v<T>);
    return reinterpret_cast<T>(static_cast<std::uintptr_t>(Word()));
  }

  template <typename T>
  T GetStruct() noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const auto raw = GetRaw(sizeof value);
    if (raw.size() == sizeof value)
      std::memcpy(static_cast<void*>(&value), raw.data(), sizeof value);
    return value;
  }

  // Exactly `bytes` bytes and their padding, or an empty span on failure.
  std::span<const std::byte> GetRaw(std::size_t bytes) noexcept {
    if (failed_ || bytes > rest_.size() || Padded(bytes) > rest_.size()) return Fail();
    const auto raw = rest_.first(bytes);
    rest_ = rest_.subspan(Padded(bytes));
    return raw;
  }

  std::span<const std::byte> GetBlob(std::size_t max_bytes) noexcept {
    const auto bytes = Get<std::uint64_t>();
    if (bytes > max_bytes) return Fail();
    return GetRaw(static_cast<std::size_t>(bytes));
  }

  // Not NUL-terminated. An embedded NUL is an error: such a name would mean two things to two
  // readers.
  std::string_view GetString(std::size_t max_bytes = kMaxStringBytes) noexcept {
    const auto raw = GetBlob(max_bytes);
    const std::string_view text(reinterpret_cast<const char*>(raw.data()), raw.size());
    if (text.find('\0') != std::string_view::npos) {
      Fail();
      return {};
    }
    return text;
  }

  // A count of elements that each take at least `min_element_bytes` of what remains.
  std::size_t GetCount(std::size_t max_count, std::size_t min_element_bytes = 8) noexcept {
    const auto count = Get<std::uint64_t>();
    if (count > max_count || count > rest_.size() / min_element_bytes) {
      Fail();
      return 0;
    }
    return static_cast<std::size_t>(count);
  }

  // Marks the message as bad: a rule beyond the wire form is broken.
  std::span<const std::byte> Fail() noexcept {
    failed_ = true;
    rest_ = {};
    return {};
  }
  bool failed() const noexcept { return failed_; }
  // True if the whole message was read without error: a message may not carry more than its
  // meaning.
  bool finished() const noexcept { return !failed_ && rest_.empty(); }
  std::size_t remaining() const noexcept { return rest_.size(); }

 private:
  std::uint64_t Word() noexcept {
    std::uint64_t word = 0;
    if (failed_ || rest_.size() < sizeof word) {
      Fail();
      return 0;
    }
    std::memcpy(&word, rest_.data(), sizeof word);
    rest_ = rest_.subspan(sizeof word);
    return word;
  }

  // A word whose upper part is not the extension of the value did not come from an Encoder.
  template <typename T>
  T Narrow(std::uint64_t word) noexcept {
    const T value = static_cast<T>(word);
    const auto widened = std::is_signed_v<T>
                             ? static_cast<std::uint64_t>(static_cast<std::int64_t>(value))
                             : static_cast<std::uint64_t>(value);
    if (widened != word) {
      Fail();
      return T{};
    }
    return value;
  }

  std::span<const std::byte> rest_;
  bool failed_ = false;
};

}  // namespace farwarp::wire
