#include "server/softgpu/api/stream/work.h"

#include <chrono>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#include "farwarp/base/log.h"

namespace farwarp::softgpu {
namespace {

// Kernels: what CUDA allows to run at once, since kernels may wait for each other. Copies end by
// themselves. Host functions may block.
constexpr std::array<unsigned, 3> kMaxThreads = {128, 4, 32};
constexpr std::chrono::seconds kIdle{10};

thread_local bool in_host_function = false;

}  // namespace

void Work::After(const std::shared_ptr<Work>& before) {
  if (before == nullptr || before->done()) return;
  const MutexLock lock(before->mutex_);
  if (before->ended_) return;
  // Relaxed: Submit's own decrement orders it.
  blockers_.fetch_add(1, std::memory_order_relaxed);
  before->successors_.push_back(shared_from_this());
}

void Work::Wait() const noexcept {
  while (done_.load(std::memory_order_acquire) == 0) done_.wait(0, std::memory_order_acquire);
}

void Work::Run() noexcept {
  if (body_ != nullptr) {
    in_host_function = lane_ == Lane::kHost;
    try {
      body_();
    } catch (const std::exception& error) {
      FARWARP_LOG(kError, "softgpu: an asynchronous operation failed: %s", error.what());
    }
    in_host_function = false;
    body_ = nullptr;
  }
  held_ = nullptr;
}

bool Executor::InHostFunction() noexcept {
  return in_host_function;
}

void Executor::Submit(const std::shared_ptr<Work>& work) {
  if (work->blockers_.fetch_sub(1, std::memory_order_acq_rel) == 1) Start(work);
}

void Executor::Start(std::shared_ptr<Work> work) {
  if (work->lane_ != Lane::kInline) {
    auto& queue = queues_[static_cast<std::size_t>(work->lane_)];
    Push(queue, std::move(work));
    return;
  }
  work->Run();
  Finish(std::move(work));
}

void Executor::Finish(std::shared_ptr<Work> work) {
  // A list instead of recursion: a long chain of events must not exhaust the stack.
  std::vector<std::shared_ptr<Work>> ended{std::move(work)};
  while (!ended.empty()) {
    const std::shared_ptr<Work> current = std::move(ended.back());
    ended.pop_back();
    std::vector<std::shared_ptr<Work>> next;
    {
      const MutexLock lock(current->mutex_);
      current->ended_ = true;
      next.swap(current->successors_);
    }
    current->done_.store(1, std::memory_order_release);
    current->done_.notify_all();
    for (std::shared_ptr<Work>& successor : next) {
      if (successor->blockers_.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
      if (successor->lane_ == Lane::kInline) {
        successor->Run();
        ended.push_back(std::move(successor));
      } else {
        Queue& queue = queues_[static_cast<std::size_t>(successor->lane_)];
        Push(queue, std::move(successor));
      }
    }
  }
}

void Executor::Push(Queue& queue, std::shared_ptr<Work> work) {
  const Lane lane = work->lane_;
  bool spawn = false;
  {
    const MutexLock lock(queue.mutex);
    work->sequence_ = queue.next_sequence++;
    queue.ready.push(std::move(work));
    spawn = queue.idle < queue.ready.size() &&
            queue.threads < kMaxThreads[static_cast<std::size_t>(lane)];
    if (spawn) ++queue.threads;
  }
  if (!spawn) {
    queue.changed.NotifyOne();
    return;
  }
  try {
    std::thread([this, &queue, lane] { Serve(queue, lane); }).detach();
  } catch (const std::system_error& error) {
    bool alone;
    {
      const MutexLock lock(queue.mutex);
      --queue.threads;
      alone = queue.threads == 0;
    }
    FARWARP_LOG(kWarn, "softgpu: no thread for a device queue: %s", error.what());
    queue.changed.NotifyOne();
    if (!alone) return;
    std::shared_ptr<Work> mine;
    {
      const MutexLock lock(queue.mutex);
      if (queue.ready.empty()) return;
      mine = queue.ready.top();
      queue.ready.pop();
    }
    mine->Run();
    Finish(std::move(mine));
  }
}

void Executor::Serve(Queue& queue, Lane) {
  for (;;) {
    std::shared_ptr<Work> work;
    {
      const MutexLock lock(queue.mutex);
      const auto until = std::chrono::steady_clock::now() + kIdle;
      while (queue.ready.empty()) {
        ++queue.idle;
        const auto status = queue.changed.WaitUntil(queue.mutex, until);
        --queue.idle;
        if (queue.ready.empty() && (queue.stop || status == std::cv_status::timeout)) {
          --queue.threads;
          if (queue.stop) queue.changed.NotifyAll();
          return;
        }
      }
      work = queue.ready.top();
      queue.ready.pop();
    }
    work->Run();
    Finish(std::move(work));
  }
}

Executor::~Executor() {
  for (Queue& queue : queues_) {
    const MutexLock lock(queue.mutex);
    queue.stop = true;
    queue.changed.NotifyAll();
    while (queue.threads != 0) queue.changed.Wait(queue.mutex);
  }
}

}  // namespace farwarp::softgpu
