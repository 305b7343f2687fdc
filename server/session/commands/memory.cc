// Ranges of the address window and the credit that pays for them.
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/state.h"

namespace farwarp::server {
namespace {

struct RangeArguments {
  std::uint32_t vgpu;
  std::uint64_t address;
  std::uint64_t bytes;
};
RangeArguments ReadRange(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto address = call.args().Get<std::uint64_t>();
  return {vgpu, address, call.args().Get<std::uint64_t>()};
}

}  // namespace

void HandleMapRange(Call& call) {
  const RangeArguments range = ReadRange(call);
  if (!Readable(call)) return;
  call.Finish(StateOf(call).MapRange(range.vgpu, range.address, range.bytes));
}

void HandleUnmapRange(Call& call) {
  const RangeArguments range = ReadRange(call);
  if (!Readable(call)) return;
  StateOf(call).UnmapRange(call, range.vgpu, range.address, range.bytes);
}

void HandleAcquireCredit(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  StateOf(call).AcquireCredit(call, vgpu, bytes);
}

void HandleReturnCredit(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  StateOf(call).ReturnCredit(call, vgpu, bytes);
}

void HandleMemoryInfo(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  StateOf(call).MemoryInfo(call, vgpu);
}

}  // namespace farwarp::server
