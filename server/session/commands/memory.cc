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
  call.Finish(StateOf(call).UnmapRange(range.vgpu, range.address, range.bytes));
}

void HandleAcquireCredit(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(StateOf(call).AcquireCredit(vgpu, bytes));
}

void HandleReturnCredit(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  const auto bytes = call.args().Get<std::uint64_t>();
  if (!Readable(call)) return;
  call.Finish(StateOf(call).ReturnCredit(vgpu, bytes));
}

void HandleMemoryInfo(Call& call) {
  const auto vgpu = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  std::uint64_t free_bytes = 0, total_bytes = 0;
  const CUresult result = StateOf(call).MemoryInfo(vgpu, &free_bytes, &total_bytes);
  call.results().Put(free_bytes);
  call.results().Put(total_bytes);
  call.Finish(result);
}

}  // namespace farwarp::server
