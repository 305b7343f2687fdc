// The calling thread's stack of contexts. Each function concerns only the calling thread.
#pragma once

#include "cuda/driver_api.h"

namespace farwarp::softgpu {

CUcontext TopContext() noexcept;        // nullptr: none.
void SetTopContext(CUcontext context);  // nullptr pops.
void PushContext(CUcontext context);
bool PopContext(CUcontext* context) noexcept;  // False: the stack is empty.

}  // namespace farwarp::softgpu
