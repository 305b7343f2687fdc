// Context: a CUDA context of one device: its streams and the order of their work, its limits, its
// sticky error, and what its kernels printed.
//
// A fault makes the error sticky: from then on every call on this context returns it, queued work
// is skipped and running kernels stop, so that waits end; other contexts are not touched.
//
// Ownership: the handle table (or the device, for the primary context) holds it; work in flight and
// events keep it alive. Threads: thread-safe; no lock is held while work runs or is waited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "server/softgpu/api/stream/stream.h"
#include "server/softgpu/api/stream/work.h"
#include "server/softgpu/exec/launch.h"
#include "server/softgpu/memory/device_heap.h"

namespace farwarp::softgpu {

class Device;

// How much work of one context may be outstanding. Whoever puts in more waits until some has ended,
// as the launching thread of a real GPU does at about this number; the wait ends as well when the
// context fails or is being destroyed. A thread that may not wait, such as one that serves a
// connection, has to count: record an event after at most half as many calls, and give no more
// before it is reached.
inline constexpr std::uint32_t kMaxOutstanding = 1024;

// What kernels print, until the next synchronisation. A context that prints more than its buffer
// holds is written out at once, so that nothing is lost.
class PrintBuffer final : public TextSink {
 public:
  void Write(std::string_view text) noexcept override EXCLUDES(mutex_);
  void Flush() noexcept EXCLUDES(mutex_);
  void set_limit(std::size_t bytes) EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::string text_ GUARDED_BY(mutex_);
  std::size_t limit_ GUARDED_BY(mutex_) = std::size_t{1} << 20;
};

class Context : public std::enable_shared_from_this<Context> {
 public:
  Context(Device& device, Executor& executor, std::uint64_t id, unsigned flags, bool primary);

  Device& device() const noexcept { return device_; }
  std::uint64_t id() const noexcept { return id_; }
  bool primary() const noexcept { return primary_; }
  unsigned flags() const noexcept { return flags_.load(std::memory_order_relaxed); }
  void set_flags(unsigned flags) noexcept { flags_.store(flags, std::memory_order_relaxed); }
  CUcontext handle() const noexcept { return handle_.load(std::memory_order_relaxed); }
  void set_handle(CUcontext handle) noexcept { handle_.store(handle, std::memory_order_relaxed); }

  // The sticky error, CUDA_SUCCESS if there is none.
  CUresult error() const noexcept {
    return static_cast<CUresult>(error_.load(std::memory_order_acquire));
  }
  // Makes an error sticky unless there is one already, and stops running kernels.
  void Fail(CUresult error) noexcept;
  // Set when the context has failed: running kernels stop.
  std::atomic<bool>& cancelled() noexcept { return cancelled_; }

  CUresult Limit(CUlimit limit, std::size_t* value) const noexcept;
  CUresult SetLimit(CUlimit limit, std::size_t value) noexcept;
  DeviceLimits KernelLimits() const noexcept;

  CUfunc_cache cache_config() const noexcept { return cache_config_.load(); }
  void set_cache_config(CUfunc_cache config) noexcept { cache_config_.store(config); }
  PrintBuffer& print() noexcept { return print_; }
  // What kernels allocate; charged to the device as a whole, when the first of it is asked for.
  DeviceHeap& heap() noexcept { return heap_; }

  // Streams. The legacy default stream always exists; the calling thread's own is made on demand.
  const std::shared_ptr<Stream>& legacy() const noexcept { return legacy_; }
  void Open() EXCLUDES(mutex_);  // Makes the legacy stream; once, right after construction.
  std::shared_ptr<Stream> PerThread() EXCLUDES(mutex_);
  std::shared_ptr<Stream> MakeStream(StreamKind kind, unsigned flags, int priority)
      EXCLUDES(mutex_);
  // Takes no more work; what is queued runs on, and the context still waits for it.
  void Forget(const std::shared_ptr<Stream>& stream) EXCLUDES(mutex_);

  // Puts work into a stream, behind everything that CUDA's rules put before it, and behind `also`
  // (may be null). The body is skipped if the context has failed by then, except for kInline.
  // Returns the Work, for those who wait. Waits while too much is outstanding (kMaxOutstanding).
  std::shared_ptr<Work> Enqueue(const std::shared_ptr<Stream>& stream, Lane lane, Work::Body body,
                                const std::shared_ptr<Work>& also = nullptr) EXCLUDES(mutex_);
  // As above; the body also runs on a failed context.
  std::shared_ptr<Work> EnqueueAlways(const std::shared_ptr<Stream>& stream, Lane lane,
                                      Work::Body body, const std::shared_ptr<Work>& also = nullptr)
      EXCLUDES(mutex_);

  // What a wait for the stream (null: for the whole context) has to wait for.
  std::vector<std::shared_ptr<Work>> Outstanding(const Stream* stream) EXCLUDES(mutex_);
  bool Idle(const Stream* stream) EXCLUDES(mutex_);
  // Waits, hands out what was printed, and returns the sticky error.
  CUresult Synchronize(const Stream* stream) EXCLUDES(mutex_);
  // The beginning of the end: waits for the work that is there, as long as it takes and unless the
  // context has failed; then makes it fail and waits until all is over.
  void Finish() EXCLUDES(mutex_);

  // Peers whose memory this context may use.
  CUresult EnablePeer(std::uint64_t peer) EXCLUDES(mutex_);
  CUresult DisablePeer(std::uint64_t peer) EXCLUDES(mutex_);

 private:
  struct Orphan {
    std::shared_ptr<Work> work;
    bool blocking;
  };
  std::shared_ptr<Work> Submit(const std::shared_ptr<Stream>& stream, std::shared_ptr<Work> work,
                               const std::shared_ptr<Work>& also) EXCLUDES(mutex_);
  void DropFinishedOrphans() REQUIRES(mutex_);
  void TakeRoom() EXCLUDES(room_mutex_);
  void GiveRoom() EXCLUDES(room_mutex_);

  Device& device_;
  Executor& executor_;
  const std::uint64_t id_;
  const bool primary_;
  std::atomic<unsigned> flags_;
  std::atomic<CUcontext> handle_{nullptr};
  std::atomic<int> error_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<CUfunc_cache> cache_config_{CU_FUNC_CACHE_PREFER_NONE};
  std::atomic<std::size_t> stack_bytes_{1024};
  std::atomic<std::size_t> printf_bytes_{std::size_t{1} << 20};
  std::atomic<std::size_t> sync_depth_{2};
  std::atomic<std::size_t> pending_launches_{2048};
  std::atomic<std::size_t> l2_fetch_bytes_{128};
  Mutex room_mutex_;
  CondVar room_;
  std::uint32_t outstanding_ GUARDED_BY(room_mutex_) = 0;
  PrintBuffer print_;
  DeviceHeap heap_;
  std::shared_ptr<Stream> legacy_;  // Written once by Open.
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<Stream>> streams_ GUARDED_BY(mutex_);
  std::vector<Orphan> orphans_ GUARDED_BY(mutex_);
  std::vector<std::uint64_t> peers_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::softgpu
