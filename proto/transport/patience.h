// Patience: how long one operation on a socket may go on waiting.
//
// It counts only time in which the waiting thread could run. Waits are cut into slices; a thread
// that comes back from one much too late has been stopped (SIGSTOP, a debugger, a host without a
// free core), and cannot know what its peer did meanwhile: the time is given back, so that what
// lies in the socket is read before anybody is judged.
//
// One thread, for one operation.
#pragma once

#include <algorithm>
#include <chrono>

#include "farwarp/base/deadline.h"

namespace farwarp::transport {

class Patience {
 public:
  using Clock = Deadline::Clock;

  // No wait is longer, so that a stall can be told from one.
  static constexpr std::chrono::milliseconds kSlice{500};
  // A thread that comes back so much too late was stopped.
  static constexpr std::chrono::milliseconds kStall{250};

  // `tolerates_silence`: for operations that may go on while the peer is stopped.
  explicit Patience(Deadline deadline, bool tolerates_silence = false)
      : begun_(Clock::now()),
        looked_(begun_),
        end_(deadline.when()),
        given_(std::max(Clock::duration(0), end_ - begun_)),
        tolerates_silence_(tolerates_silence) {}

  // Takes note of the time. To be called before each wait and after it.
  void Look() noexcept { LookAt(Clock::now()); }
  void LookAt(Clock::time_point now) noexcept;
  // How long the next wait may take: what is left, a slice at most; 0 if nothing is left.
  int next_wait_ms() const noexcept;

  bool tolerates_silence() const noexcept { return tolerates_silence_; }
  // The time is over, but the peer's host answers, and its program said something `silence` ago.
  // Prolongs the wait if the program is stopped, or seems to have gone on a moment ago; false if it
  // runs and still does not do its part, or if the wait has lasted for `limit` beyond its deadline.
  bool Prolong(Clock::duration silence, Clock::duration limit) noexcept;

 private:
  Clock::time_point begun_;
  Clock::time_point looked_;
  Clock::time_point end_;
  const Clock::duration given_;
  const bool tolerates_silence_;
  bool stopped_ = false;  // The peer, at the last judgement.
  bool warned_ = false;   // It talked at the last judgement.
};

}  // namespace farwarp::transport
