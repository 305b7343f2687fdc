// ArrivedBulk: the bytes of one transfer from the client, put together as its frames arrive. Not a
// vector: nothing is zeroed first, and a large transfer does not move while it grows.
//
// Value type; external lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/limits.h"

namespace farwarp::server {

class ArrivedBulk {
 public:
  // Room for `bytes` more behind what is there.
  std::span<std::byte> Extend(std::size_t bytes) {
    if (size_ + bytes > capacity_) Grow(size_ + bytes, bytes);
    size_ += bytes;
    return {data_.get() + size_ - bytes, bytes};
  }
  std::span<const std::byte> bytes() const noexcept { return {data_.get(), size_}; }
  std::size_t size() const noexcept { return size_; }

 private:
  void Grow(std::size_t least, std::size_t chunk) {
    // A full first chunk announces a large transfer; pages that it does not need cost nothing.
    const std::size_t large = chunk < wire::kBulkChunkBytes ? 0 : std::size_t{wire::kMaxCopyBytes};
    const std::size_t capacity = std::max({least, capacity_ * 2, large});
    std::unique_ptr<std::byte[]> data(new std::byte[capacity]);
    if (size_ != 0) std::memcpy(data.get(), data_.get(), size_);
    data_ = std::move(data);
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace farwarp::server
