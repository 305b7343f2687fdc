// PageMove: memory that changes its place behind an address while kernels use it.
//
// For the time of a move the range is inaccessible. A kernel that meets it there faults; the fault
// handler asks WasMoved, which waits for the move's end and has the access repeated, so the kernel
// notices nothing but the time. Copies are kept out by InUse::Pause.
//
// Moves: thread-safe, one at a time in the process. WasMoved: from a signal handler, any thread
// that holds no lock.
#pragma once

#include <cstdint>

namespace farwarp::softgpu {

class PageMove {
 public:
  // From the first change of the range's protection to the last.
  PageMove(std::uint64_t address, std::uint64_t bytes);
  ~PageMove();
  PageMove(const PageMove&) = delete;
  PageMove& operator=(const PageMove&) = delete;

  // Whether an access that faulted at `address` may have done so because of a move: then it is to
  // be repeated, now. At most once per thread and move, so a wrong access faults all the same.
  static bool WasMoved(std::uint64_t address) noexcept;
};

}  // namespace farwarp::softgpu
