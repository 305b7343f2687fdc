#include "server/session/commands/finisher.h"

#include <utility>

#include "server/session/session.h"

namespace farwarp::server {

void Finisher::Run(Call& call, Work work, Settled settle) {
  Queue({&call.session(), call.Defer(), std::move(work), std::move(settle)});
}

void Finisher::RunQuietly(std::function<void()> work) {
  Queue({nullptr, {}, [work = std::move(work)] { return work(), Answer(); }, nullptr});
}

void Finisher::Queue(Item item) {
  while (unsettled_ >= kMaxQueued && WaitForOne()) {
  }
  ++unsettled_;
  if (!thread_.joinable()) thread_ = std::thread([this] { RunThread(); });
  const MutexLock lock(mutex_);
  queue_.push_back(std::move(item));
  changed_.NotifyAll();
}

void Finisher::Settle() {
  if (unsettled_ == 0) return;
  std::deque<Done> done;
  {
    const MutexLock lock(mutex_);
    done.swap(done_);
  }
  unsettled_ -= done.size();
  for (const Done& one : done) {
    if (one.settle) one.settle(one.result);
  }
}

bool Finisher::WaitForOne() {
  if (unsettled_ == 0) return false;
  {
    const MutexLock lock(mutex_);
    while (done_.empty() && !closed_) changed_.Wait(mutex_);
    if (done_.empty()) return false;
  }
  Settle();
  return true;
}

void Finisher::Close() noexcept {
  const MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

void Finisher::Drain() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  Settle();
}

void Finisher::RunThread() {
  for (;;) {
    Item item;
    {
      const MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    const Answer answer = item.work();
    {
      const MutexLock lock(mutex_);
      done_.push_back({std::move(item.settle), answer.result});
      changed_.NotifyAll();
    }
    if (item.session != nullptr) item.session->Reply(item.reply_to, answer.result, answer.body);
  }
}

}  // namespace farwarp::server
