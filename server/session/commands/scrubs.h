// Scrubs: clears new memory before the client's work can see it, and lets nobody wait for that: the
// fills run in a stream of the session's own, one for each context, and each stream that the client
// uses meanwhile is made to wait for them on the device.
//
// Whoever takes cleared memory away calls Forget and, if that says so, waits for the fills
// (Finish) before it unmaps; that may be done on any thread while the lane lives. A context that
// ends lets the dispatcher wait for fills that are still under way in it; on a card that is full of
// the client's own kernels, only that client waits the longer. Dispatch thread, except Finish.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cuda/driver_api.h"
#include "server/driver/table.h"
#include "server/session/commands/wait.h"

namespace farwarp::server {

class Scrubs {
 public:
  // `pairs` outlives the object.
  explicit Scrubs(WaitPairs& pairs) : pairs_(pairs) {}
  Scrubs(const Scrubs&) = delete;
  Scrubs& operator=(const Scrubs&) = delete;

  // Begins to clear [address, address + bytes) in the current context.
  CUresult Clear(const driver::Table& driver, std::uint64_t address, std::uint64_t bytes);
  // What `stream` is given from now on runs behind all clearing so far. A stream that cannot be
  // told so belongs to a context that has failed and runs nothing more.
  void PutBefore(const driver::Table& driver, CUstream stream) {
    if (!idle_) WaitOnDevice(driver, stream);
  }
  // The memory is going away. The lane that may still be clearing it, if one does.
  std::optional<WaitPairs::Pair> Forget(const driver::Table& driver, std::uint64_t address);
  // Waits for what a lane was given so far. Leaves no context current that was not.
  static void Finish(const driver::Table& driver, const WaitPairs::Pair& lane);
  // The context is about to end. What is returned must be destroyed before it is, behind every
  // Finish.
  std::optional<WaitPairs::Pair> Drop(const driver::Table& driver, CUcontext context);

 private:
  struct Range {
    std::uint64_t address;
    std::uint64_t bytes;
  };
  struct Lane {
    WaitPairs::Pair pair;  // Its event is recorded behind the last fill.
    std::vector<Range> clearing;
  };

  void WaitOnDevice(const driver::Table& driver, CUstream stream);
  // True if the lane has nothing to do any more. What a failed context has not cleared is left to
  // another one.
  bool Settle(const driver::Table& driver, Lane& lane);

  WaitPairs& pairs_;
  std::vector<Lane> lanes_;
  std::vector<Range> unclean_;
  bool idle_ = true;  // Nothing is being cleared.
};

}  // namespace farwarp::server
