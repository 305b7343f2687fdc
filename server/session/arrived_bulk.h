// ArrivedBulk: the bytes of one transfer from the client, put together as its frames arrive, with a
// zero behind them. Not a vector: nothing is filled first, and a large transfer grows without being
// copied. It never has more than twice the memory of what has come, or a page: memory that is only
// reserved counts against the limit of a worker, too.
//
// Value type; external lock.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace farwarp::server {

class ArrivedBulk {
 public:
  ArrivedBulk() = default;
  ArrivedBulk(ArrivedBulk&& other) noexcept { *this = std::move(other); }
  ArrivedBulk& operator=(ArrivedBulk&& other) noexcept {
    std::swap(charge_, other.charge_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  ArrivedBulk(const ArrivedBulk&) = delete;
  ArrivedBulk& operator=(const ArrivedBulk&) = delete;
  ~ArrivedBulk();

  // Room for `bytes` more behind what is there. Throws std::bad_alloc.
  std::span<std::byte> Extend(std::size_t bytes) {
    if (bytes >= capacity_ - size_) Grow(size_ + bytes + 1);
    size_ += bytes;
    data_[size_] = std::byte{0};
    return {data_ + size_ - bytes, bytes};
  }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  // The client's credit for the bytes: whoever still uses them, or a copy of them, holds it.
  const std::shared_ptr<const void>& charge() const noexcept { return charge_; }
  void set_charge(std::shared_ptr<const void> charge) { charge_ = std::move(charge); }

 private:
  void Grow(std::size_t least);

  std::shared_ptr<const void> charge_;
  std::byte* data_ = nullptr;  // Owned: from malloc, or pages if mapped_.
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  bool mapped_ = false;
};

}  // namespace farwarp::server
