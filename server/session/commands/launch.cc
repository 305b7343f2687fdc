// Launches. The parameters arrive packed in the kernel's own layout and go to the driver as they
// are.
#include <vector>

#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"

namespace farwarp::server {
namespace {

constexpr std::size_t kMaxAttributes = 32;

// The value of others may be an address or an object of this process.
bool IsPlain(CUlaunchAttributeID id) {
  return id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION || id == CU_LAUNCH_ATTRIBUTE_PRIORITY ||
         id == CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
}

}  // namespace

void HandleLaunch(Call& call) {
  auto* function = ResolveFunction(call);
  auto* stream = call.ResolveStream();
  const auto shape = call.args().GetStruct<wire::LaunchShape>();
  const std::size_t attribute_count = call.args().GetCount(kMaxAttributes, 72);
  CUlaunchAttribute attributes[kMaxAttributes + 1];
  for (std::size_t i = 0; i < attribute_count; ++i) {
    attributes[i] = {};
    attributes[i].id = static_cast<CUlaunchAttributeID>(call.args().Get<std::int32_t>());
    attributes[i].value = call.args().GetStruct<CUlaunchAttributeValue>();
    if (!IsPlain(attributes[i].id)) call.MarkBad();
  }
  const auto parameters = call.args().GetBlob(wire::kMaxKernelParameterBytes);
  if ((shape.flags & ~wire::kLaunchCooperative) != 0) call.MarkBad();
  if (!Readable(call)) return;

  std::size_t parameter_bytes = parameters.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<std::byte*>(parameters.data()),
                   CU_LAUNCH_PARAM_BUFFER_SIZE, &parameter_bytes, CU_LAUNCH_PARAM_END};
  void** arguments = parameter_bytes != 0 ? extra : nullptr;
  const driver::Table& driver = call.driver();
  if (attribute_count == 0 && shape.flags == 0) {
    return call.Finish(driver.cuLaunchKernel(function, shape.grid[0], shape.grid[1], shape.grid[2],
                                             shape.block[0], shape.block[1], shape.block[2],
                                             shape.shared_bytes, stream, nullptr, arguments));
  }
  auto count = static_cast<unsigned>(attribute_count);
  if ((shape.flags & wire::kLaunchCooperative) != 0) {
    attributes[count] = {};
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attributes[count].value.cooperative = 1;
    ++count;
  }
  CUlaunchConfig config{};
  config.gridDimX = shape.grid[0];
  config.gridDimY = shape.grid[1];
  config.gridDimZ = shape.grid[2];
  config.blockDimX = shape.block[0];
  config.blockDimY = shape.block[1];
  config.blockDimZ = shape.block[2];
  config.sharedMemBytes = shape.shared_bytes;
  config.hStream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  call.Finish(driver.cuLaunchKernelEx(&config, function, nullptr, arguments));
}

}  // namespace farwarp::server
