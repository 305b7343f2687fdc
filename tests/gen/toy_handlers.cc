// The handlers that the toy's table says are written by hand.
#include "server/cuda_dispatch.h"
#include "tests/gen/loopback.h"

namespace farwarp::server {

void Handle_toyCustomBoth(Call& call) {
  call.Finish(CUDA_SUCCESS);
}
void Handle_toyCustomServer(Call& call) {
  static_cast<void>(call.Resolve<CUevent>(wire::HandleKind::kEvent));
  if (!call.bad()) call.results().Put(2.5f);
  call.Finish(call.bad() ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS);
}

}  // namespace farwarp::server
