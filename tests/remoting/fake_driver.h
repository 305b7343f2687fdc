// FakeDriver: a driver table for tests of client and server together. Small, but honest where it
// matters: work runs on a thread of its own, in order and after the call; device memory is where
// the VMM calls put it, and is counted; events and queries tell the truth; a kernel that faults
// leaves a failed context behind.
//
// Kernels (each module has all): add(out, a, b, n), fill(out, value, n), wait(gate), fault().
// An image with the word "broken" does not load.
//
// One at a time in a process: a driver's functions carry no `this`. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>

#include "server/driver/table.h"

namespace farwarp::tests {

class FakeDriver {
 public:
  explicit FakeDriver(int devices = 1);
  ~FakeDriver();
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  const server::driver::Table& table() const noexcept { return table_; }

  // Bytes of physical memory that exist now, and the most there ever were.
  std::uint64_t physical_bytes() const;
  std::uint64_t peak_bytes() const;
  // Live contexts, streams, events, modules and libraries.
  std::size_t objects() const;
  // Lets kernels `wait` pass, now and later.
  void OpenGate();
  std::uint64_t launches() const;

 private:
  server::driver::Table table_;
};

}  // namespace farwarp::tests
