#include "server/softgpu/api/context/context.h"

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "server/softgpu/api/device.h"
#include "server/softgpu/memory/address_space.h"

namespace farwarp::softgpu {
namespace {

std::atomic<std::uint64_t> next_stream_id{1};

// The default streams of one thread, by context. They go with the thread, their work does not.
struct ThreadStreams {
  std::unordered_map<std::uint64_t, std::shared_ptr<Stream>> by_context;
  ~ThreadStreams() {
    for (auto& [id, stream] : by_context) {
      if (const std::shared_ptr<Context> context = stream->context()) context->Forget(stream);
    }
  }
};
thread_local ThreadStreams thread_streams;

constexpr std::uint64_t kDefaultHeap = std::uint64_t{8} << 20;

std::uint64_t WholePages(std::uint64_t bytes) {
  return (bytes + AddressSpace::kPage - 1) & ~(AddressSpace::kPage - 1);
}

// The memory of a heap: an address, or 0 if the device has not as much.
std::uint64_t TakeHeap(Device& device, std::uint64_t bytes) {
  const Result<AddressSpace*> space = AddressSpace::Get();
  const std::uint64_t whole = WholePages(bytes);
  if (!space.ok() || !device.budget().Charge(whole)) return 0;
  // The page behind it stays inaccessible.
  const Result<std::uint64_t> at = (*space)->Reserve(whole + AddressSpace::kPage);
  if (at.ok() && (*space)->Commit(*at, whole).ok()) return *at;
  if (at.ok()) static_cast<void>((*space)->Release(*at));
  device.budget().Refund(whole);
  return 0;
}

void GiveHeapBack(Device& device, std::uint64_t address, std::uint64_t bytes) {
  if (const Result<AddressSpace*> space = AddressSpace::Get(); space.ok()) {
    static_cast<void>((*space)->Release(address));
  }
  device.budget().Refund(WholePages(bytes));
}

}  // namespace

void PrintBuffer::Write(std::string_view text) noexcept {
  const MutexLock lock(mutex_);
  try {
    text_.append(text);
  } catch (const std::bad_alloc&) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  if (text_.size() <= limit_) return;
  std::fwrite(text_.data(), 1, text_.size(), stdout);
  text_.clear();
}

void PrintBuffer::Flush() noexcept {
  const MutexLock lock(mutex_);
  if (text_.empty()) return;
  std::fwrite(text_.data(), 1, text_.size(), stdout);
  std::fflush(stdout);
  text_.clear();
}

void PrintBuffer::set_limit(std::size_t bytes) {
  const MutexLock lock(mutex_);
  limit_ = bytes;
}

Context::Context(Device& device, Executor& executor, std::uint64_t id, unsigned flags, bool primary)
    : device_(device),
      executor_(executor),
      id_(id),
      primary_(primary),
      flags_(flags),
      heap_(
          kDefaultHeap, [&device](std::uint64_t bytes) { return TakeHeap(device, bytes); },
          [&device](std::uint64_t address, std::uint64_t bytes) {
            GiveHeapBack(device, address, bytes);
          }) {}

void Context::Open() {
  legacy_ = MakeStream(StreamKind::kLegacy, 0, kLeastPriority);
}

void Context::Fail(CUresult error) noexcept {
  int none = 0;
  error_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  cancelled_.store(true);
  const MutexLock lock(room_mutex_);
  room_.NotifyAll();
}

CUresult Context::Limit(CUlimit limit, std::size_t* value) const noexcept {
  switch (limit) {
    case CU_LIMIT_STACK_SIZE:
      *value = stack_bytes_;
      return CUDA_SUCCESS;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
      *value = printf_bytes_;
      return CUDA_SUCCESS;
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      *value = heap_.bytes();
      return CUDA_SUCCESS;
    case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
      *value = sync_depth_;
      return CUDA_SUCCESS;
    case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
      *value = pending_launches_;
      return CUDA_SUCCESS;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
      *value = l2_fetch_bytes_;
      return CUDA_SUCCESS;
    case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_LIMIT_SHMEM_SIZE:
    case CU_LIMIT_CIG_ENABLED:
    case CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED:
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult Context::SetLimit(CUlimit limit, std::size_t value) noexcept {
  constexpr std::size_t kMaxStack = std::size_t{512} << 10;
  constexpr std::size_t kMaxHeap = std::size_t{1} << 40;
  switch (limit) {
    case CU_LIMIT_STACK_SIZE:
      if (value > kMaxStack) return CUDA_ERROR_INVALID_VALUE;
      stack_bytes_ = (value + 15) & ~std::size_t{15};
      return CUDA_SUCCESS;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
      if (value > kMaxHeap) return CUDA_ERROR_INVALID_VALUE;
      printf_bytes_ = value;
      print_.set_limit(value);
      return CUDA_SUCCESS;
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      if (value > kMaxHeap) return CUDA_ERROR_INVALID_VALUE;
      // As CUDA says: not once a kernel has used it.
      return heap_.Resize(value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
      sync_depth_ = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
      pending_launches_ = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
      if (value > 128) return CUDA_ERROR_INVALID_VALUE;
      l2_fetch_bytes_ = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
      return value == 0 ? CUDA_SUCCESS : CUDA_ERROR_UNSUPPORTED_LIMIT;
    case CU_LIMIT_SHMEM_SIZE:
    case CU_LIMIT_CIG_ENABLED:
    case CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED:
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

DeviceLimits Context::KernelLimits() const noexcept {
  DeviceLimits limits;
  limits.sm_count = static_cast<uint32_t>(device_.multiprocessors());
  limits.stack_bytes = stack_bytes_;
  return limits;
}

std::shared_ptr<Stream> Context::MakeStream(StreamKind kind, unsigned flags, int priority) {
  auto stream = std::make_shared<Stream>(weak_from_this(), kind, flags, priority, next_stream_id++);
  const MutexLock lock(mutex_);
  streams_.push_back(stream);
  return stream;
}

std::shared_ptr<Stream> Context::PerThread() {
  std::shared_ptr<Stream>& mine = thread_streams.by_context[id_];
  if (mine == nullptr) mine = MakeStream(StreamKind::kPerThread, 0, kLeastPriority);
  return mine;
}

void Context::Forget(const std::shared_ptr<Stream>& stream) {
  const MutexLock lock(mutex_);
  const auto found = std::find(streams_.begin(), streams_.end(), stream);
  if (found == streams_.end()) return;
  DropFinishedOrphans();
  if (stream->tail_ != nullptr && !stream->tail_->done()) {
    orphans_.push_back({stream->tail_, stream->blocking()});
  }
  streams_.erase(found);
}

void Context::DropFinishedOrphans() {
  std::erase_if(orphans_, [](const Orphan& orphan) { return orphan.work->done(); });
}

std::shared_ptr<Work> Context::Submit(const std::shared_ptr<Stream>& stream,
                                      std::shared_ptr<Work> work,
                                      const std::shared_ptr<Work>& also) {
  work->After(also);
  {
    const MutexLock lock(mutex_);
    work->After(stream->tail_);
    if (stream->kind() == StreamKind::kLegacy) {
      for (const auto& other : streams_) {
        if (other != stream && other->blocking()) work->After(other->tail_);
      }
      DropFinishedOrphans();
      for (const Orphan& orphan : orphans_) {
        if (orphan.blocking) work->After(orphan.work);
      }
    } else if (stream->blocking()) {
      work->After(legacy_->tail_);
    }
    stream->tail_ = work;
  }
  executor_.Submit(work);
  return work;
}

std::shared_ptr<Work> Context::Enqueue(const std::shared_ptr<Stream>& stream, Lane lane,
                                       Work::Body body, const std::shared_ptr<Work>& also) {
  if (body == nullptr) return EnqueueAlways(stream, lane, nullptr, also);
  return EnqueueAlways(
      stream, lane,
      [this, body = std::move(body)] {
        if (error() == CUDA_SUCCESS) body();
      },
      also);
}

std::shared_ptr<Work> Context::EnqueueAlways(const std::shared_ptr<Stream>& stream, Lane lane,
                                             Work::Body body, const std::shared_ptr<Work>& also) {
  // Host functions may put nothing in, so a thread that waits here holds up no work.
  TakeRoom();
  // Gives the room back however the work ends, and also if it never comes to be.
  const auto give = [self = shared_from_this()](const void*) { self->GiveRoom(); };
  std::shared_ptr<const void> room(static_cast<const void*>(nullptr), give);
  return Submit(stream,
                std::make_shared<Work>(lane, stream->priority(), std::move(body), std::move(room)),
                also);
}

void Context::TakeRoom() {
  const MutexLock lock(room_mutex_);
  // What has failed ends by itself and soon, so that the count stays small.
  while (outstanding_ >= kMaxOutstanding && error() == CUDA_SUCCESS) {
    room_.Wait(room_mutex_);
  }
  ++outstanding_;
}

void Context::GiveRoom() {
  const MutexLock lock(room_mutex_);
  --outstanding_;
  room_.NotifyAll();
}

void Context::Finish() {
  static_cast<void>(Synchronize(nullptr));
  // Work that slips in from other threads meanwhile stops at once.
  Fail(CUDA_ERROR_CONTEXT_IS_DESTROYED);
  static_cast<void>(Synchronize(nullptr));
}

std::vector<std::shared_ptr<Work>> Context::Outstanding(const Stream* stream) {
  std::vector<std::shared_ptr<Work>> all;
  const auto add = [&all](const std::shared_ptr<Work>& work) {
    if (work != nullptr && !work->done()) all.push_back(work);
  };
  const MutexLock lock(mutex_);
  const bool legacy = stream != nullptr && stream->kind() == StreamKind::kLegacy;
  for (const auto& one : streams_) {
    if (stream == nullptr || one.get() == stream || (legacy && one->blocking())) add(one->tail_);
  }
  DropFinishedOrphans();
  for (const Orphan& orphan : orphans_) {
    if (stream == nullptr || (legacy && orphan.blocking)) add(orphan.work);
  }
  return all;
}

bool Context::Idle(const Stream* stream) {
  return Outstanding(stream).empty();
}

CUresult Context::Synchronize(const Stream* stream) {
  for (const std::shared_ptr<Work>& work : Outstanding(stream)) work->Wait();
  print_.Flush();
  return error();
}

CUresult Context::EnablePeer(std::uint64_t peer) {
  const MutexLock lock(mutex_);
  if (std::find(peers_.begin(), peers_.end(), peer) != peers_.end()) {
    return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  }
  peers_.push_back(peer);
  return CUDA_SUCCESS;
}

CUresult Context::DisablePeer(std::uint64_t peer) {
  const MutexLock lock(mutex_);
  return std::erase(peers_, peer) != 0 ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}

}  // namespace farwarp::softgpu
