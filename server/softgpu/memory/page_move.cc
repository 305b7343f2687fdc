#include "server/softgpu/memory/page_move.h"

#include <atomic>
#include <cerrno>
#include <ctime>
#include <mutex>

namespace farwarp::softgpu {
namespace {

constexpr long kLookNanoseconds = 50'000;

std::mutex one_at_a_time;
// What moves now; a range without an end is none. The count grows before the range goes, so who
// does not see the one sees the other.
std::atomic<std::uint64_t> range_begin{0};
std::atomic<std::uint64_t> range_end{0};
std::atomic<std::uint64_t> finished{0};

// Of the initial-exec model: see exec/guard.cc.
[[gnu::tls_model("initial-exec")]] thread_local std::uint64_t repeated_after = 0;

bool MovesNow(std::uint64_t address) noexcept {
  return address < range_end.load() && address >= range_begin.load();
}

}  // namespace

PageMove::PageMove(std::uint64_t address, std::uint64_t bytes) {
  one_at_a_time.lock();
  range_begin.store(address);
  range_end.store(address + bytes);
}

PageMove::~PageMove() {
  finished.fetch_add(1);
  range_end.store(0);
  one_at_a_time.unlock();
}

bool PageMove::WasMoved(std::uint64_t address) noexcept {
  const int saved = errno;
  while (MovesNow(address)) {
    const timespec pause{0, kLookNanoseconds};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  }
  errno = saved;
  const std::uint64_t now = finished.load();
  if (now == repeated_after) return false;
  repeated_after = now;
  return true;
}

}  // namespace farwarp::softgpu
