// DeviceHeap: what malloc in kernels hands out, from one range of device memory per context.
//
// Blocks are multiples of 16 bytes, taken best-fit from a map of free ranges that lies outside of
// device memory, so a kernel cannot damage it. Memory outlives the launch that took it. The range
// is asked for when the first malloc comes.
//
// Ownership: the heap owns its range through the two functions it is given. Threads: thread-safe;
// it never touches the memory it manages.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::softgpu {

class DeviceHeap {
 public:
  // Gives the address of that much accessible memory, or 0.
  using Take = std::function<std::uint64_t(std::uint64_t bytes)>;
  using GiveBack = std::function<void(std::uint64_t address, std::uint64_t bytes)>;

  DeviceHeap(std::uint64_t bytes, Take take, GiveBack give_back);
  ~DeviceHeap() { Close(); }
  DeviceHeap(const DeviceHeap&) = delete;
  DeviceHeap& operator=(const DeviceHeap&) = delete;

  // Changes the size; false once memory has been asked for.
  bool Resize(std::uint64_t bytes) EXCLUDES(mutex_);
  std::uint64_t bytes() const EXCLUDES(mutex_);

  // 0 if there is no room, as CUDA's malloc does; malloc(0) gives nothing. `align` is a power of
  // two, or nothing is given.
  std::uint64_t Allocate(std::uint64_t bytes, std::uint64_t align = kGrain) noexcept
      EXCLUDES(mutex_);
  // False if the address is not one that Allocate gave and nobody freed.
  bool Free(std::uint64_t address) noexcept EXCLUDES(mutex_);
  // Gives the range back. From then on there is nothing to allocate.
  void Close() EXCLUDES(mutex_);

  // The block that holds an address, as its begin and size; nothing if none does.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> BlockAt(std::uint64_t address) const
      EXCLUDES(mutex_);

  static constexpr std::uint64_t kGrain = 16;

 private:
  void Insert(std::uint64_t address, std::uint64_t bytes) REQUIRES(mutex_);
  void Erase(std::map<std::uint64_t, std::uint64_t>::iterator range) REQUIRES(mutex_);

  const Take take_;
  const GiveBack give_back_;
  mutable Mutex mutex_;
  std::uint64_t bytes_ GUARDED_BY(mutex_);
  std::uint64_t base_ GUARDED_BY(mutex_) = 0;
  bool started_ GUARDED_BY(mutex_) = false;
  std::map<std::uint64_t, std::uint64_t> free_ GUARDED_BY(mutex_);  // Address → bytes.
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, std::uint64_t> used_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::softgpu
