#include "server/session/commands/resolve.h"

#include <cstring>

#include "server/session/commands/state.h"
#include "server/session/handle_table.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

Handle PeekHandle(Call& call) {
  wire::Decoder ahead = call.args();
  return Handle(ahead.Get<std::uint64_t>());
}

CUfunction ResolveFunction(Call& call) {
  return PeekHandle(call).Is(HandleKind::kKernel)
             ? reinterpret_cast<CUfunction>(call.Resolve<CUkernel>(HandleKind::kKernel))
             : call.Resolve<CUfunction>(HandleKind::kFunction);
}

void Unbind(Call& call, Handle handle) {
  call.handles().Remove(handle);
}

bool ComesAsBulk(Call& call) {
  wire::Decoder ahead = call.args();
  ahead.Get<std::uint64_t>();
  return ahead.Get<std::uint64_t>() != 0;
}

std::span<const std::byte> ReadBulk(Call& call, std::size_t max_bytes) {
  const auto bytes = call.args().Get<std::uint64_t>();
  const auto transfer = call.args().Get<std::uint64_t>();
  if (bytes > max_bytes) {
    call.MarkBad();
    return {};
  }
  if (transfer == 0) return call.args().GetRaw(static_cast<std::size_t>(bytes));
  const auto data = call.Bulk(transfer);
  if (data.size() != bytes) {
    call.MarkBad();
    return {};
  }
  return data;
}

CommandState& StateOf(Call& call) {
  return call.session().state();
}

bool Readable(Call& call) {
  if (!call.bad() && call.args().finished()) return true;
  call.MarkBad();
  call.Finish(CUDA_ERROR_INVALID_HANDLE);
  return false;
}

}  // namespace farwarp::server
