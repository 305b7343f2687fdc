#include "client/driver/stream/callbacks.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <new>

#include "client/driver/copy/copy_geometry.h"
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

bool Callbacks::Start() {
  if (started_) return true;
  // The application's signals stay with its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  started_ = pthread_create(&thread_, nullptr, RunThread, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started_;
}

CUresult Callbacks::Keep(Entry entry, std::uint64_t* number) {
  const MutexLock lock(mutex_);
  if (!Start()) return CUDA_ERROR_OUT_OF_MEMORY;
  entry.kept = true;
  *number = next_++;
  waiting_[*number] = entry;
  return CUDA_SUCCESS;
}

void Callbacks::Retire(std::vector<std::uint64_t> numbers) {
  bool idle = true;
  process_.contexts.ForEach([&](wire::Handle, Context& context) {
    if (context.alive.load() && !context.work.idle()) idle = false;
  });
  const MutexLock lock(mutex_);
  retired_.insert(retired_.end(), numbers.begin(), numbers.end());
  if (!idle) return;
  for (const std::uint64_t number : retired_) waiting_.erase(number);
  retired_.clear();
}

void Callbacks::Expect(const std::vector<std::uint64_t>& numbers, std::uint64_t context,
                       const Owed& owed) {
  if (owed == Owed{}) return;
  const MutexLock lock(mutex_);
  Owed& all = owed_[context];
  all.functions += owed.functions;
  all.fetch_bytes += owed.fetch_bytes;
  pending_.fetch_add(owed.functions, std::memory_order_release);
  fetch_bytes_.fetch_add(owed.fetch_bytes, std::memory_order_release);
  for (const std::uint64_t number : numbers) {
    if (const auto found = waiting_.find(number); found != waiting_.end()) {
      found->second.context = context;
    }
  }
}

void Callbacks::Unexpect(std::uint64_t context, const Owed& owed) noexcept {
  const MutexLock lock(mutex_);
  Settle(context, owed);
}

Callbacks::Owed Callbacks::ShareOf(const Entry& entry) noexcept {
  return entry.task == Task::kFetch ? Owed{0, *CopyBytes(entry.extent)} : Owed{1, 0};
}

void Callbacks::Settle(std::uint64_t context, const Owed& done) noexcept {
  const auto found = owed_.find(context);
  if (found == owed_.end()) return;  // Dropped.
  Owed& owed = found->second;
  const std::size_t functions = std::min(done.functions, owed.functions);
  const std::uint64_t bytes = std::min(done.fetch_bytes, owed.fetch_bytes);
  owed.functions -= functions;
  owed.fetch_bytes -= bytes;
  if (owed == Owed{}) owed_.erase(found);
  pending_.fetch_sub(functions, std::memory_order_release);
  fetch_bytes_.fetch_sub(bytes, std::memory_order_release);
}

void Callbacks::DropContext(std::uint64_t context) noexcept {
  const MutexLock lock(mutex_);
  const auto owed = owed_.find(context);
  if (owed == owed_.end()) return;
  Owed left = running_ == context ? running_share_ : Owed{};
  for (const std::uint64_t number : reached_) {
    const auto found = waiting_.find(number);
    if (found == waiting_.end() || found->second.context != context) continue;
    const Owed share = ShareOf(found->second);
    left.functions += share.functions;
    left.fetch_bytes += share.fetch_bytes;
  }
  std::erase_if(waiting_, [&](const auto& waiting) REQUIRES(mutex_) {
    return waiting.second.context == context && !waiting.second.kept &&
           std::find(reached_.begin(), reached_.end(), waiting.first) == reached_.end();
  });
  const Owed all = owed->second;
  Settle(context, {all.functions - std::min(left.functions, all.functions),
                   all.fetch_bytes - std::min(left.fetch_bytes, all.fetch_bytes)});
}

void Callbacks::DropFailed() {
  std::vector<std::uint64_t> contexts;
  {
    const MutexLock lock(mutex_);
    for (const auto& [context, owed] : owed_) contexts.push_back(context);
  }
  for (const std::uint64_t context : contexts) {
    if (process_.session().ContextError(context) != CUDA_SUCCESS) DropContext(context);
  }
}

void Callbacks::Fetch(std::uint64_t number, const Entry& entry) noexcept {
  const auto bytes = static_cast<std::size_t>(*CopyBytes(entry.extent));
  const void* data = reinterpret_cast<const void*>(entry.from.address);
  std::unique_ptr<std::byte[]> packed;
  if (!IsDense(entry.from, entry.extent)) {
    packed.reset(new (std::nothrow) std::byte[bytes]);
    if (packed != nullptr) PackRows(entry.from, entry.extent, packed.get());
    data = packed.get();
  }
  Command command(process_.session(), IdOf(InternalCommand::kHostFunctionDone));
  command.body().Put(number);
  // Without memory the copy keeps what it had; the program is out of memory anyway.
  if (data != nullptr) command.AttachBulk(wire::kFetchedBit | number, data, bytes);
  static_cast<void>(command.Post());
}

CUresult Callbacks::Enqueue(const StreamUse& use, const Entry& entry) {
  std::uint64_t number;
  {
    const MutexLock lock(mutex_);
    if (!Start()) return CUDA_ERROR_OUT_OF_MEMORY;
    number = next_++;
    Entry& waiting = waiting_[number] = entry;
    waiting.context = use.context_handle.bits();
    ++owed_[waiting.context].functions;
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
    if (waiting_.erase(number) != 0) Settle(use.context_handle.bits(), {1, 0});
  }
  return result;
}

void Callbacks::Reached(std::uint64_t number) {
  const MutexLock lock(mutex_);
  reached_.push_back(number);
  reached_cv_.NotifyOne();
}

namespace {
thread_local bool on_thread = false;
}  // namespace

bool Callbacks::OnThread() noexcept {
  return on_thread;
}

void* Callbacks::RunThread(void* self) {
  on_thread = true;
  static_cast<Callbacks*>(self)->Run();
  return nullptr;
}

void Callbacks::Done(std::uint64_t number) noexcept {
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

void Callbacks::Run() noexcept {
  for (;;) {
    Entry entry;
    std::uint64_t number;
    bool dropped;
    {
      const MutexLock lock(mutex_);
      while (reached_.empty() && !stopping_) reached_cv_.Wait(mutex_);
      if (reached_.empty()) return;
      number = reached_.front();
      reached_.pop_front();
      const auto found = waiting_.find(number);
      dropped = found == waiting_.end();
      if (!dropped) {
        entry = found->second;
        if (!entry.kept) waiting_.erase(found);
        running_ = entry.context;
        running_share_ = ShareOf(entry);
      }
    }
    if (dropped) {
      Done(number);
      continue;
    }
    if (entry.task == Task::kFetch) {
      Fetch(number, entry);
    } else if (entry.task == Task::kCopy) {
      CopyRows(entry.from, entry.to, entry.extent);
    } else if (entry.function != nullptr) {
      entry.function(entry.data);
    } else {
      entry.callback(entry.stream, CUDA_SUCCESS, entry.data);
    }
    {
      const MutexLock lock(mutex_);
      running_ = 0;
      Settle(entry.context, ShareOf(entry));
    }
    if (entry.task != Task::kFetch) Done(number);
  }
}

}  // namespace farwarp::client
