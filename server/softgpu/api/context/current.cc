#include "server/softgpu/api/context/current.h"

#include <vector>

#include "server/softgpu/api/driver.h"

namespace farwarp::softgpu {
namespace {
thread_local std::vector<CUcontext> stack;
}

CUcontext TopContext() noexcept {
  return stack.empty() ? nullptr : stack.back();
}

void SetTopContext(CUcontext context) {
  if (context == nullptr) {
    if (!stack.empty()) stack.pop_back();
  } else if (stack.empty()) {
    stack.push_back(context);
  } else {
    stack.back() = context;
  }
}

void PushContext(CUcontext context) {
  stack.push_back(context);
}

bool PopContext(CUcontext* context) noexcept {
  if (stack.empty()) return false;
  *context = stack.back();
  stack.pop_back();
  return true;
}

CUresult CurrentContext(Driver& driver, std::shared_ptr<Context>* context) {
  const CUcontext top = TopContext();
  if (top == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  *context = driver.contexts.Find(top);
  return *context == nullptr ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
}

}  // namespace farwarp::softgpu
