// Staging: page-locked memory of the server's process through which bytes pass to and from the
// device, so that the driver's copies are truly asynchronous.
//
// Bounded: what is in use never exceeds kMaxBytes, and nobody waits. A client that keeps to its
// credit (wire/credit.h), once for each direction, stays below: it is the client that waits, before
// it sends, where only the thread that copies is held up. One that does not is refused.
//
// Buffers are kept for reuse. Page-locked memory ends with the context in which it was allocated,
// hence one list per context; and a context may end only when no bytes wait in its memory for the
// client to take them (WaitUntilSent). Take: dispatch thread. Buffers end on any thread, also on
// the driver's, where nothing of the driver may be called: they only go back to the list.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "farwarp/base/thread_annotations.h"
#include "server/driver/table.h"

namespace farwarp::server {

class Staging : public std::enable_shared_from_this<Staging> {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{512} << 20;

  class Buffer {
   public:
    Buffer(std::shared_ptr<Staging> owner, std::byte* data, std::size_t capacity, CUcontext context,
           std::uint64_t life)
        : owner_(std::move(owner)),
          data_(data),
          capacity_(capacity),
          context_(context),
          life_(life) {}
    ~Buffer() { owner_->Return(*this); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    std::byte* data() const noexcept { return data_; }
    // Keeps the credit that the client has spent for the bytes.
    void HoldCharge(std::shared_ptr<const void> charge) { charge_ = std::move(charge); }

   private:
    friend class Staging;
    const std::shared_ptr<Staging> owner_;
    std::byte* const data_;
    const std::size_t capacity_;
    const CUcontext context_;
    const std::uint64_t life_;
    bool leaving_ = false;  // Counted in its list. Under the owner's mutex.
    std::shared_ptr<const void> charge_;
  };

  // nullptr if there is no memory. A context must be current.
  std::shared_ptr<Buffer> Take(const driver::Table& driver, std::size_t bytes) EXCLUDES(mutex_);
  // Before a buffer's bytes are queued for the client. Any thread.
  void Leaves(Buffer& buffer) noexcept EXCLUDES(mutex_);
  // Waits until nothing of the context's memory is queued for the client: whoever sends gives up on
  // a client that takes nothing, so this ends. Nothing may run in the context any more. Any thread.
  void WaitUntilSent(CUcontext context) noexcept EXCLUDES(mutex_);
  // The context is about to end, and with it the memory that was allocated in it.
  void Forget(CUcontext context) EXCLUDES(mutex_);

 private:
  struct List {
    std::uint64_t life = 0;                       // Which context of this address.
    std::size_t leaving = 0;                      // Buffers whose bytes are queued.
    std::multimap<std::size_t, std::byte*> free;  // By capacity.
  };

  void Return(const Buffer& buffer) noexcept EXCLUDES(mutex_);

  Mutex mutex_;
  CondVar sent_;
  std::map<CUcontext, List> lists_ GUARDED_BY(mutex_);
  std::size_t in_use_ GUARDED_BY(mutex_) = 0;
  std::size_t kept_ GUARDED_BY(mutex_) = 0;
};

}  // namespace farwarp::server
