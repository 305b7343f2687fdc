#include "server/session/arrived_bulk.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace farwarp::server {
namespace {

constexpr std::size_t kPage = 4096;
// From here on pages of its own, which the system can move without copying.
constexpr std::size_t kMappedFrom = std::size_t{512} << 10;

}  // namespace

ArrivedBulk::~ArrivedBulk() {
  if (mapped_) {
    ::munmap(data_, capacity_);
  } else {
    std::free(data_);
  }
}

void ArrivedBulk::Grow(std::size_t least) {
  const std::size_t wanted = std::max(least, capacity_ * 2 - capacity_ / 8);
  const std::size_t capacity = (wanted + kPage - 1) / kPage * kPage;
  void* grown = nullptr;
  if (capacity < kMappedFrom) {
    grown = std::realloc(data_, capacity);
    if (grown == nullptr) throw std::bad_alloc();
  } else if (mapped_) {
    grown = ::mremap(data_, capacity_, capacity, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED) throw std::bad_alloc();
  } else {
    grown = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (grown == MAP_FAILED) throw std::bad_alloc();
    if (size_ != 0) std::memcpy(grown, data_, size_);
    std::free(data_);
    mapped_ = true;
  }
  data_ = static_cast<std::byte*>(grown);
  capacity_ = capacity;
}

}  // namespace farwarp::server
