// Streams, events and host functions on the server's side of the client's handles.
#include <memory>

#include "farwarp/wire/push.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/commands/wait.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

void HandleCreateStream(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kStream);
  const auto flags = call.args().Get<std::uint32_t>();
  const auto priority = call.args().Get<std::int32_t>();
  if (!Readable(call)) return;
  CUstream stream = nullptr;
  const CUresult result = call.driver().cuStreamCreateWithPriority(&stream, flags, priority);
  if (result == CUDA_SUCCESS) call.Bind(handle, stream);
  call.Finish(result);
}

void HandleDestroyStream(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* stream = call.Resolve<CUstream>(HandleKind::kStream);
  if (!Readable(call)) return;
  Unbind(call, handle);
  call.Finish(call.driver().cuStreamDestroy_v2(stream));
}

void HandleSynchronizeStream(Call& call) {
  auto* stream = call.ResolveStream();
  if (!Readable(call)) return;
  WaitForStream(call, stream);
}

void HandleQueryStream(Call& call) {
  auto* stream = call.ResolveStream();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuStreamQuery(stream));
}

void HandleStreamWaitEvent(Call& call) {
  auto* stream = call.ResolveStream();
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuStreamWaitEvent(stream, event, flags));
}

void HandleCreateEvent(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kEvent);
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  CUevent event = nullptr;
  // Waiters block on it: spinning would take a core from the device's host work.
  const CUresult result = call.driver().cuEventCreate(&event, flags | CU_EVENT_BLOCKING_SYNC);
  if (result == CUDA_SUCCESS) call.Bind(handle, event);
  call.Finish(result);
}

void HandleDestroyEvent(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  Unbind(call, handle);
  call.Finish(call.driver().cuEventDestroy_v2(event));
}

void HandleRecordEvent(Call& call) {
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  auto* stream = call.ResolveStream();
  const auto flags = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  call.Finish(flags == 0 ? call.driver().cuEventRecord(event, stream)
                         : call.driver().cuEventRecordWithFlags(event, stream, flags));
}

void HandleRecordContextEvent(Call& call) {
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  call.Finish(call.driver().cuCtxRecordEvent(context, event));
}

void HandleContextWaitEvent(Call& call) {
  auto* context = call.Resolve<CUcontext>(HandleKind::kContext);
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  call.Finish(call.driver().cuCtxWaitEvent(context, event));
}

void HandleQueryEvent(Call& call) {
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  call.Finish(call.driver().cuEventQuery(event));
}

void HandleSynchronizeEvent(Call& call) {
  auto* event = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  WaitForEvent(call, event);
}

void HandleElapsedTime(Call& call) {
  auto* start = call.Resolve<CUevent>(HandleKind::kEvent);
  auto* end = call.Resolve<CUevent>(HandleKind::kEvent);
  if (!Readable(call)) return;
  float milliseconds = 0;
  const CUresult result = call.driver().cuEventElapsedTime(&milliseconds, start, end);
  if (result == CUDA_SUCCESS) call.results().Put(milliseconds);
  call.Finish(result);
}

void HandleHostFunction(Call& call) {
  auto* stream = call.ResolveStream();
  const auto number = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  Session& session = call.session();
  auto functions = StateOf(call).host_functions;
  call.Finish(EnqueueHostFunction(call, stream, [&session, functions, number] {
    wire::Buffer body;
    wire::Encoder(body).Put(number);
    session.Push(wire::PushType::kHostCallback, body);
    functions->WaitFor(number);
  }));
}

void HandleHostFunctionDone(Call& call) {
  // The receiver has let the stream go on (Session::ReleaseStreams).
  call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(CUDA_SUCCESS);
}

}  // namespace farwarp::server
