#include "client/driver/copy/arrivals.h"

#include <algorithm>
#include <utility>

#include "client/driver/stream/stream.h"
#include "client/session/session.h"

namespace farwarp::client {
namespace {

constexpr std::size_t kFewCopies = 64;

}  // namespace

Arrivals::Point Arrivals::PointOf(const StreamUse& use, std::uint64_t noted) noexcept {
  const std::uint64_t context = use.context_handle.bits();
  return {use.legacy() ? context : wire::FromPointer(use.wire).bits(),
          use.beside_legacy() ? 0 : context, noted};
}

bool Arrivals::Covers(const Point& of, const Copy& copy) noexcept {
  const bool is_legacy = of.what == of.legacy;
  return std::any_of(copy.points.begin(), copy.points.end(), [&](const Point& point) {
    return point.noted < of.noted &&
           (point.what == of.what || (is_legacy && point.legacy == of.legacy));
  });
}

void Arrivals::ForgetArrived() {
  std::erase_if(copies_,
                [&](const Copy& copy) { return !session_.TransferPending(copy.transfer); });
  tidy_at_ = std::max(kFewCopies, 2 * copies_.size());
}

void Arrivals::Tidy() {
  if (!any_.load(std::memory_order_acquire)) return;
  const MutexLock lock(mutex_);
  if (copies_.size() >= tidy_at_) ForgetArrived();
}

void Arrivals::NoteCopy(std::uint64_t address, std::uint64_t bytes, std::uint64_t transfer,
                        const StreamUse& use) {
  const std::uint64_t noted = Next();
  Copy copy{address, bytes, transfer, use.context_handle.bits(), noted, {PointOf(use, noted)}};
  const MutexLock lock(mutex_);
  copies_.push_back(std::move(copy));
  any_.store(true, std::memory_order_release);
}

void Arrivals::NoteRecord(std::uint64_t event, const StreamUse& use) {
  if (!any_.load(std::memory_order_acquire)) return;
  const std::uint64_t noted = Next();
  const Point stream = PointOf(use, noted);
  const MutexLock lock(mutex_);
  for (Copy& copy : copies_) {
    const bool covered = Covers(stream, copy);
    std::erase_if(copy.points, [&](const Point& point) { return point.what == event; });
    if (covered) copy.points.push_back({event, 0, noted});
  }
}

void Arrivals::NoteUnknownRecord(std::uint64_t event) {
  if (!any_.load(std::memory_order_acquire)) return;
  const MutexLock lock(mutex_);
  for (Copy& copy : copies_) {
    std::erase_if(copy.points, [&](const Point& point) { return point.what == event; });
  }
}

void Arrivals::NoteWait(const StreamUse& use, std::uint64_t event) {
  if (!any_.load(std::memory_order_acquire)) return;
  const std::uint64_t noted = Next();
  const Point stream = PointOf(use, noted);
  const MutexLock lock(mutex_);
  for (Copy& copy : copies_) {
    if (Covers({event, 0, noted}, copy) && !Covers(stream, copy)) copy.points.push_back(stream);
  }
}

template <typename Ended>
void Arrivals::End(Ended ended) {
  if (!any_.load(std::memory_order_acquire)) return;
  // Cancelling waits while bytes come in; others may post copies meanwhile.
  std::vector<std::uint64_t> transfers;
  {
    const MutexLock lock(mutex_);
    for (const Copy& copy : copies_) {
      if (ended(copy)) transfers.push_back(copy.transfer);
    }
    std::erase_if(copies_, ended);
    any_.store(!copies_.empty(), std::memory_order_release);
  }
  for (const std::uint64_t transfer : transfers) session_.CancelTransfer(transfer);
}

void Arrivals::EndStream(const StreamUse& use, std::uint64_t mark) {
  End([of = PointOf(use, mark)](const Copy& copy) { return Covers(of, copy); });
}

void Arrivals::EndEvent(std::uint64_t event, std::uint64_t mark) {
  End([of = Point{event, 0, mark}](const Copy& copy) { return Covers(of, copy); });
}

void Arrivals::EndContext(std::uint64_t context, std::uint64_t mark) {
  End([=](const Copy& copy) { return copy.context == context && copy.noted < mark; });
}

bool Arrivals::Pending(std::uint64_t address, std::uint64_t bytes) {
  if (!any_.load(std::memory_order_acquire)) return false;
  const MutexLock lock(mutex_);
  ForgetArrived();
  return std::any_of(copies_.begin(), copies_.end(), [&](const Copy& copy) {
    return address < copy.address + copy.bytes && copy.address < address + bytes;
  });
}

}  // namespace farwarp::client
