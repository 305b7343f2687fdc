#include "client/driver/callbacks.h"

#include <pthread.h>
#include <signal.h>

#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::IdOf;
using wire::InternalCommand;

Callbacks::~Callbacks() {
  {
    const MutexLock lock(mutex_);
    if (!started_) return;
    stopping_ = true;
    reached_cv_.NotifyAll();
  }
  pthread_join(thread_, nullptr);
}

CUresult Callbacks::Enqueue(const StreamUse& use, const Entry& entry) {
  std::uint64_t number;
  {
    const MutexLock lock(mutex_);
    if (!started_) {
      // The application's signals stay with its own threads.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      const bool created = pthread_create(&thread_, nullptr, RunThread, this) == 0;
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (!created) return CUDA_ERROR_OUT_OF_MEMORY;
      started_ = true;
    }
    number = next_++;
    waiting_[number] = entry;
    pending_.fetch_add(1, std::memory_order_release);
  }
  CUresult result;
  {
    Command command(process_.session(), IdOf(InternalCommand::kHostFunction));
    command.body().PutPointer(use.wire);
    command.body().Put(number);
    use.context->work.Begin(use.beside_legacy());
    result = command.Post();
  }
  if (result != CUDA_SUCCESS) {
    const MutexLock lock(mutex_);
    if (waiting_.erase(number) != 0) pending_.fetch_sub(1, std::memory_order_release);
  }
  return result;
}

void Callbacks::Reached(std::uint64_t number) {
  const MutexLock lock(mutex_);
  reached_.push_back(number);
  reached_cv_.NotifyOne();
}

void* Callbacks::RunThread(void* self) {
  static_cast<Callbacks*>(self)->Run();
  return nullptr;
}

void Callbacks::Run() noexcept {
  for (;;) {
    Entry entry;
    std::uint64_t number;
    {
      const MutexLock lock(mutex_);
      while (reached_.empty() && !stopping_) reached_cv_.Wait(mutex_);
      if (reached_.empty()) return;
      number = reached_.front();
      reached_.pop_front();
      const auto found = waiting_.find(number);
      if (found == waiting_.end()) continue;
      entry = found->second;
      waiting_.erase(found);
    }
    if (entry.function != nullptr) {
      entry.function(entry.data);
    } else {
      entry.callback(entry.stream, CUDA_SUCCESS, entry.data);
    }
    pending_.fetch_sub(1, std::memory_order_release);
    // The stream may go on.
    try {
      Command command(process_.session(), IdOf(InternalCommand::kHostFunctionDone));
      command.DespiteContextError();
      command.body().Put(number);
      static_cast<void>(command.Post());
    } catch (...) {
      // The stream would wait for ever.
      process_.session().FailForWantOfMemory();
    }
  }
}

}  // namespace farwarp::client
