#include "server/session/commands/wait.h"

#include <utility>

#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/state.h"
#include "server/session/session.h"

namespace farwarp::server {

WaitThreads::~WaitThreads() {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    queued_.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void WaitThreads::Run(std::function<void()> wait) {
  const MutexLock lock(mutex_);
  queue_.push_back(std::move(wait));
  if (queue_.size() > idle_ && threads_.size() < kMaxThreads) {
    threads_.emplace_back([this] { RunThread(); });
  }
  queued_.NotifyOne();
}

bool WaitThreads::full() const {
  const MutexLock lock(mutex_);
  return queue_.size() >= wire::kMaxOutstandingCalls;
}

void WaitThreads::RunThread() {
  for (;;) {
    std::function<void()> wait;
    {
      const MutexLock lock(mutex_);
      ++idle_;
      while (queue_.empty() && !stopping_) queued_.Wait(mutex_);
      --idle_;
      if (queue_.empty()) return;
      wait = std::move(queue_.front());
      queue_.pop_front();
    }
    wait();
  }
}

CUresult StreamFunctions::Enqueue(const driver::Table& driver, CUcontext context, CUstream stream,
                                  std::function<void()> function, HostBudget::Hold hold,
                                  bool keep) {
  Entry* entry;
  {
    const MutexLock lock(mutex_);
    entries_.push_back({this, context, {}, std::move(function), std::move(hold), 0});
    entry = &entries_.back();
    entry->self = std::prev(entries_.end());
  }
  const CUresult result = driver.cuLaunchHostFunc(stream, &Reached, entry);
  if (result != CUDA_SUCCESS && !keep) {
    const MutexLock lock(mutex_);
    entries_.erase(entry->self);
  }
  return result;
}

std::uint64_t StreamFunctions::Doom(CUcontext context) {
  const MutexLock lock(mutex_);
  ++dooms_;
  for (Entry& entry : entries_) {
    if (entry.context != context) continue;
    entry.context = nullptr;
    entry.doom = dooms_;
  }
  return dooms_;
}

void StreamFunctions::Drop(std::uint64_t doom) {
  std::list<Entry> dropped;  // What they own may take locks of its own.
  const MutexLock lock(mutex_);
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto next = std::next(it);
    if (it->doom == doom) dropped.splice(dropped.end(), entries_, it);
    it = next;
  }
}

void StreamFunctions::Reached(void* pointer) {
  auto* entry = static_cast<Entry*>(pointer);
  entry->function();
  StreamFunctions& owner = *entry->owner;
  std::list<Entry> over;  // What it owns may send.
  const MutexLock lock(owner.mutex_);
  over.splice(over.end(), owner.entries_, entry->self);
}

CUresult WaitPairs::Take(const driver::Table& driver, CUcontext context, Pair* pair) {
  {
    const MutexLock lock(mutex_);
    for (auto it = free_.rbegin(); it != free_.rend(); ++it) {
      if (it->context != context) continue;
      *pair = *it;
      free_.erase(std::next(it).base());
      return CUDA_SUCCESS;
    }
    pair->context = context;
    pair->life = lives_[context];
  }
  CUresult result = driver.cuStreamCreate(&pair->stream, CU_STREAM_NON_BLOCKING);
  if (result != CUDA_SUCCESS) return result;
  result = driver.cuEventCreate(&pair->event, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING);
  if (result != CUDA_SUCCESS) driver.cuStreamDestroy_v2(pair->stream);
  return result;
}

void WaitPairs::Return(const Pair& pair) {
  const MutexLock lock(mutex_);
  // It has ended with its context, in whose place there may be another.
  if (lives_[pair.context] != pair.life) return;
  free_.push_back(pair);
}

void WaitPairs::Drop(const driver::Table& driver, CUcontext context) {
  std::vector<Pair> dropped;
  {
    const MutexLock lock(mutex_);
    ++lives_[context];
    std::erase_if(free_, [&](const Pair& pair) {
      if (pair.context != context) return false;
      dropped.push_back(pair);
      return true;
    });
  }
  for (const Pair& pair : dropped) {
    driver.cuEventDestroy_v2(pair.event);
    driver.cuStreamDestroy_v2(pair.stream);
  }
}

namespace {

// Waits for `pair.event` elsewhere and then answers.
void ReplyWhenRecorded(Call& call, const WaitPairs::Pair& pair) {
  Session& session = call.session();
  CommandState& state = StateOf(call);
  const driver::Table& driver = call.driver();
  const ReplyTo reply_to = call.Defer();
  state.waits.threads.Run([&session, &state, &driver, reply_to, pair] {
    CUresult result = driver.cuCtxSetCurrent(pair.context);
    if (result == CUDA_SUCCESS) result = driver.cuEventSynchronize(pair.event);
    state.waits.pairs.Return(pair);
    session.Reply(reply_to, result);
  });
}

// A wait costs a thread or objects of the driver, so there is one only for somebody who waits.
bool MayWait(Call& call) {
  if (call.has_ticket() && !StateOf(call).waits.threads.full()) return true;
  call.Finish(call.has_ticket() ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE);
  return false;
}

CUcontext ContextOf(Call& call, CUstream stream) {
  CUcontext context = nullptr;
  // 0, 1 and 2 are the special streams of the current context.
  const CUresult result = reinterpret_cast<std::uintptr_t>(stream) <= 2
                              ? call.driver().cuCtxGetCurrent(&context)
                              : call.driver().cuStreamGetCtx(stream, &context);
  return result == CUDA_SUCCESS ? context : nullptr;
}

// Makes `context` current for a scope.
class ScopedContext {
 public:
  ScopedContext(const driver::Table& driver, CUcontext context) : driver_(driver) {
    result_ = driver_.cuCtxPushCurrent_v2(context);
  }
  ~ScopedContext() {
    CUcontext popped = nullptr;
    if (result_ == CUDA_SUCCESS) driver_.cuCtxPopCurrent_v2(&popped);
  }
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;
  CUresult result() const { return result_; }

 private:
  const driver::Table& driver_;
  CUresult result_;
};

}  // namespace

void WaitForContext(Call& call, CUcontext context) {
  if (!MayWait(call)) return;
  Session& session = call.session();
  const driver::Table& driver = call.driver();
  const ReplyTo reply_to = call.Defer();
  StateOf(call).waits.threads.Run([&session, &driver, reply_to, context] {
    CUresult result = driver.cuCtxSetCurrent(context);
    if (result == CUDA_SUCCESS) result = driver.cuCtxSynchronize();
    session.Reply(reply_to, result);
  });
}

void WaitForStream(Call& call, CUstream stream) {
  if (!MayWait(call)) return;
  const driver::Table& driver = call.driver();
  // What is done already needs no thread. The legacy stream may itself be idle while streams are
  // not that its next work waits for, and a wait for it is one for those: its event, below, knows.
  const bool legacy = stream == nullptr || stream == CU_STREAM_LEGACY;
  const CUresult now = driver.cuStreamQuery(stream);
  if (now != CUDA_ERROR_NOT_READY && !(legacy && now == CUDA_SUCCESS)) return call.Finish(now);
  const CUcontext context = ContextOf(call, stream);
  const ScopedContext scope(driver, context);
  if (scope.result() != CUDA_SUCCESS) return call.Finish(scope.result());
  WaitPairs::Pair pair;
  CUresult result = StateOf(call).waits.pairs.Take(driver, context, &pair);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  result = driver.cuEventRecord(pair.event, stream);
  if (result != CUDA_SUCCESS) {
    StateOf(call).waits.pairs.Return(pair);
    return call.Finish(result);
  }
  if (now == CUDA_SUCCESS) {
    result = driver.cuEventQuery(pair.event);
    if (result != CUDA_ERROR_NOT_READY) {
      StateOf(call).waits.pairs.Return(pair);
      return call.Finish(result);
    }
  }
  ReplyWhenRecorded(call, pair);
}

void WaitForEvent(Call& call, CUevent event) {
  if (!MayWait(call)) return;
  const driver::Table& driver = call.driver();
  if (const CUresult now = driver.cuEventQuery(event); now != CUDA_ERROR_NOT_READY) {
    return call.Finish(now);
  }
  // The client may record the event anew or destroy it meanwhile: wait for what it is now.
  const CUcontext context = ContextOf(call, nullptr);
  WaitPairs::Pair pair;
  CUresult result = context == nullptr ? CUDA_ERROR_INVALID_CONTEXT
                                       : StateOf(call).waits.pairs.Take(driver, context, &pair);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  result = driver.cuStreamWaitEvent(pair.stream, event, 0);
  if (result == CUDA_SUCCESS) result = driver.cuEventRecord(pair.event, pair.stream);
  if (result != CUDA_SUCCESS) {
    StateOf(call).waits.pairs.Return(pair);
    return call.Finish(result);
  }
  ReplyWhenRecorded(call, pair);
}

CUresult EnqueueHostFunction(Call& call, CUstream stream, std::function<void()> function) {
  // An entry here, what the function owns, and the driver's part.
  constexpr std::uint64_t kCost = 512;
  CommandState& state = StateOf(call);
  HostBudget::Hold hold = state.host_budget.Take(HostBudget::Kind::kFunctions, kCost);
  if (!hold) return CUDA_ERROR_OUT_OF_MEMORY;
  return state.waits.functions.Enqueue(call.driver(), ContextOf(call, stream), stream,
                                       std::move(function), std::move(hold), false);
}

CUresult ReleaseBehind(Call& call, CUstream stream, std::function<void()> function) {
  return StateOf(call).waits.functions.Enqueue(call.driver(), ContextOf(call, stream), stream,
                                               std::move(function), {}, true);
}

}  // namespace farwarp::server
