#include "client/driver/stream/stream.h"

#include <memory>

#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

namespace {

std::uint64_t NextStreamId() {
  static std::atomic<std::uint64_t> next{16};  // Apart from the ids of the default streams.
  return next.fetch_add(1, std::memory_order_relaxed);
}

// The calling thread's own default stream in the current context.
CUresult OwnStream(const Caller& caller, StreamUse* use) {
  for (const auto& own : caller.thread->own_streams) {
    if (own.context.bits() != caller.context_handle.bits()) continue;
    Stream* stream = caller.process->streams.Find(own.stream);
    if (stream == nullptr) continue;  // Of an earlier life of a primary context.
    use->wire = wire::ToPointer<CUstream>(own.stream);
    use->stream = stream;
    return CUDA_SUCCESS;
  }
  Handle handle;
  const CUresult result = MintStream(caller, CU_STREAM_DEFAULT, 0, true, &handle);
  if (result != CUDA_SUCCESS) return result;
  caller.thread->own_streams.push_back({caller.context_handle, handle});
  use->wire = wire::ToPointer<CUstream>(handle);
  use->stream = caller.process->streams.Find(handle);
  return use->stream != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

// Posts a record of `context`'s copy event in its legacy stream. The lock keeps the count and the
// recorded event together.
CUresult RecordCopyEvent(Process& process, Handle context_handle, Context& context) {
  const MutexLock lock(context.copy_mutex);
  if (context.copy_event.bits() == 0) {
    auto event = std::make_unique<Event>();
    event->context_handle = context_handle;
    context.copy_event = process.events.Mint(std::move(event));
    if (context.copy_event.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
    Command command(process.session(), IdOf(InternalCommand::kCreateEvent));
    command.body().Put(context.copy_event.bits());
    command.body().Put(static_cast<std::uint32_t>(CU_EVENT_DISABLE_TIMING));
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) return result;
  }
  Command command(process.session(), IdOf(InternalCommand::kRecordEvent));
  command.body().Put(context.copy_event.bits());
  command.body().PutPointer(nullptr);
  command.body().Put(std::uint32_t{0});
  context.copies.fetch_add(1, std::memory_order_relaxed);
  return command.Post();
}

CUresult WaitForCopies(Process& process, const StreamUse& use) {
  Context& context = *use.context;
  const MutexLock lock(context.copy_mutex);
  const std::uint64_t copies = context.copies.load(std::memory_order_relaxed);
  use.stream->copies_seen.store(copies, std::memory_order_relaxed);
  if (context.copy_event.bits() == 0) return CUDA_SUCCESS;
  Command command(process.session(), IdOf(InternalCommand::kStreamWaitEvent));
  command.body().PutPointer(use.wire);
  command.body().Put(context.copy_event.bits());
  command.body().Put(std::uint32_t{0});
  return command.Post();
}

}  // namespace

bool StreamUse::beside_legacy() const noexcept {
  return stream != nullptr && (stream->flags & CU_STREAM_NON_BLOCKING) != 0;
}

CUresult MintStream(const Caller& caller, unsigned flags, int priority, bool own_of_thread,
                    Handle* handle) {
  auto stream = std::make_unique<Stream>();
  stream->context_handle = caller.context_handle;
  stream->context = caller.context;
  stream->flags = flags;
  stream->priority = priority;
  stream->own_of_thread = own_of_thread;
  stream->id = NextStreamId();
  const bool beside = (flags & CU_STREAM_NON_BLOCKING) != 0;
  *handle = caller.process->streams.Mint(std::move(stream));
  if (handle->bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  {
    Command command(caller.session(), IdOf(InternalCommand::kCreateStream));
    command.body().Put(handle->bits());
    command.body().Put(static_cast<std::uint32_t>(flags));
    command.body().Put(static_cast<std::int32_t>(priority));
    if (const CUresult result = command.Post(); result != CUDA_SUCCESS) {
      static_cast<void>(caller.process->streams.Remove(*handle));
      return result;
    }
  }
  // From the first such stream on, each synchronous copy records the event; what was copied before
  // is covered by one record now.
  if (beside && caller.context->beside_streams.fetch_add(1) == 0) {
    return RecordCopyEvent(*caller.process, caller.context_handle, *caller.context);
  }
  return CUDA_SUCCESS;
}

CUresult ResolveStream(const Caller& caller, CUstream stream, NullStream null, StreamUse* use) {
  if (stream == nullptr && null == NullStream::kPerThread) stream = CU_STREAM_PER_THREAD;
  if (stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD) {
    if (caller.context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    use->context = caller.context;
    use->context_handle = caller.context_handle;
    if (stream == CU_STREAM_PER_THREAD) return OwnStream(caller, use);
    use->wire = nullptr;  // The two spellings of the legacy stream mean the same.
    return CUDA_SUCCESS;
  }
  use->stream = caller.process->streams.Find(stream);
  if (use->stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  use->wire = stream;
  use->context = use->stream->context;
  use->context_handle = use->stream->context_handle;
  return CUDA_SUCCESS;
}

CUresult ResolveForWork(const Caller& caller, CUstream stream, NullStream null, StreamUse* use) {
  if (const CUresult result = ResolveStream(caller, stream, null, use); result != CUDA_SUCCESS)
    return result;
  if (!use->beside_legacy()) return CUDA_SUCCESS;
  if (use->stream->copies_seen.load(std::memory_order_relaxed) ==
      use->context->copies.load(std::memory_order_relaxed)) {
    return CUDA_SUCCESS;
  }
  return WaitForCopies(*caller.process, *use);
}

CUstream WireStream(CUstream stream, bool per_thread) {
  Caller caller;
  if (EnterContext(&caller) != CUDA_SUCCESS) return stream;
  StreamUse use;
  const auto null = per_thread ? NullStream::kPerThread : NullStream::kLegacy;
  return ResolveForWork(caller, stream, null, &use) == CUDA_SUCCESS ? use.wire : stream;
}

CUresult NoteSynchronousCopy(Process& process, Handle context_handle, Context& context) {
  if (context.beside_streams.load(std::memory_order_relaxed) == 0) return CUDA_SUCCESS;
  return RecordCopyEvent(process, context_handle, context);
}

CUresult SynchronizeStream(Process& process, const StreamUse& use) {
  // An error is the stream's context's, not the calling thread's current one's.
  const TravelIn travel(use.context_handle);
  Reply reply;
  Command command(process.session(), IdOf(InternalCommand::kSynchronizeStream));
  command.body().PutPointer(use.wire);
  const std::uint64_t mark = use.context->work.Mark();
  const std::uint64_t noted = process.arrivals().Mark();
  const CUresult result = command.Call(reply);
  // What could not be asked says nothing about the stream; nothing comes from a context that has
  // failed.
  if (result == CUDA_SUCCESS || process.session().error() != CUDA_SUCCESS) {
    process.arrivals().EndStream(use, noted);
  }
  if (result != CUDA_SUCCESS) return result;
  if (use.legacy()) use.context->work.SettleLegacy(mark);
  return CUDA_SUCCESS;
}

void EndThreadStreams(Process& process, ThreadState& thread) noexcept {
  for (const auto& own : thread.own_streams) {
    process.graphs().ForgetStream(wire::ToPointer<CUstream>(own.stream));
    const auto removed = process.streams.Remove(own.stream);
    if (removed == nullptr) continue;
    static_cast<void>(
        PostEnd(process.session(), InternalCommand::kDestroyStream, own.stream, own.context));
  }
  thread.own_streams.clear();
}

}  // namespace farwarp::client
