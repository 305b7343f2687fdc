// Arrivals: the asynchronous copies from the device whose bytes may still come, and which waits of
// the program's mean that they have come or never will.
//
// A copy that fails sends no bytes, so its registration does not end by itself. It ends when the
// program has waited for something that comes after the copy: its stream, the legacy stream for
// those that are ordered with it, an event recorded behind it, a stream that waited for such an
// event, its context. What is not followed here (order by graphs, or by work in the legacy stream)
// only lets a registration live longer.
//
// Functions with "Note" in their name, and Mark, are called while the caller holds the stream's
// tail (a Command under construction), so that what is noted is in the order of what is posted.
// They may throw when memory runs out. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "farwarp/base/thread_annotations.h"

namespace farwarp::client {

class Session;
struct StreamUse;

class Arrivals {
 public:
  explicit Arrivals(Session& session) : session_(session) {}
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // Makes room for what Note adds: forgets copies that have come. Without the tail.
  void Tidy() EXCLUDES(mutex_);
  // `transfer` of a copy in `use` will be written to [address, address + bytes).
  void NoteCopy(std::uint64_t address, std::uint64_t bytes, std::uint64_t transfer,
                const StreamUse& use) EXCLUDES(mutex_);
  // `event` is recorded in a stream, and stands for what it stood for before no more.
  void NoteRecord(std::uint64_t event, const StreamUse& use) EXCLUDES(mutex_);
  // The same where nobody here knows what the record comes after.
  void NoteUnknownRecord(std::uint64_t event) EXCLUDES(mutex_);
  // A stream waits for `event`.
  void NoteWait(const StreamUse& use, std::uint64_t event) EXCLUDES(mutex_);
  // All notes so far are less.
  std::uint64_t Mark() const noexcept { return next_.load(std::memory_order_relaxed); }

  // A stream, an event or a whole context has been waited for, or has failed. Of what it came after
  // at `mark`, what has not arrived never will, and is not written if it does.
  void EndStream(const StreamUse& use, std::uint64_t mark) EXCLUDES(mutex_);
  void EndEvent(std::uint64_t event, std::uint64_t mark) EXCLUDES(mutex_);
  void EndContext(std::uint64_t context, std::uint64_t mark) EXCLUDES(mutex_);

  // A copy into [address, address + bytes) is on its way.
  bool Pending(std::uint64_t address, std::uint64_t bytes) EXCLUDES(mutex_);

 private:
  // Something that comes after a copy.
  struct Point {
    std::uint64_t what;  // The bits of an event or a stream, or of a context for its legacy stream.
    std::uint64_t legacy;  // The context whose legacy stream waits for it; 0: none does.
    std::uint64_t noted;   // When.
  };
  struct Copy {
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint64_t transfer;
    std::uint64_t context;
    std::uint64_t noted;
    std::vector<Point> points;
  };

  static Point PointOf(const StreamUse& use, std::uint64_t noted) noexcept;
  // True if the wait that `of` stands for is one for `copy`.
  static bool Covers(const Point& of, const Copy& copy) noexcept;
  std::uint64_t Next() noexcept { return next_.fetch_add(1, std::memory_order_relaxed); }
  void ForgetArrived() REQUIRES(mutex_);
  template <typename Ended>
  void End(Ended ended) EXCLUDES(mutex_);

  Session& session_;
  std::atomic<std::uint64_t> next_{1};
  std::atomic<bool> any_{false};  // A look without the mutex: usually there is nothing to do.
  Mutex mutex_;
  std::vector<Copy> copies_ GUARDED_BY(mutex_);
  std::size_t tidy_at_ GUARDED_BY(mutex_) = 64;
};

}  // namespace farwarp::client
