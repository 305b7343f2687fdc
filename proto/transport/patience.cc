#include "proto/transport/patience.h"

namespace farwarp::transport {
namespace {

// A program that has said something so recently is not stopped.
constexpr std::chrono::seconds kTalking{3};

}  // namespace

void Patience::LookAt(Clock::time_point now) noexcept {
  const Clock::duration since = now - looked_;
  if (since > kSlice + kStall) end_ += since;
  looked_ = now;
}

int Patience::next_wait_ms() const noexcept {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - looked_);
  return static_cast<int>(std::clamp(left, std::chrono::milliseconds(0), kSlice).count());
}

bool Patience::Prolong(Clock::duration silence, Clock::duration limit) noexcept {
  if (silence >= limit || looked_ - begun_ >= given_ + limit) return false;
  const Clock::duration talking = std::min<Clock::duration>(kTalking, given_);
  if (silence >= talking) {
    stopped_ = true;
    warned_ = false;
    end_ = looked_ + kSlice;
    return true;
  }
  // It may have been stopped just now, or have come back just now; if it goes on talking, it has
  // had its time.
  if (warned_) return false;
  warned_ = true;
  end_ = looked_ + (stopped_ ? given_ : talking);
  return true;
}

}  // namespace farwarp::transport
