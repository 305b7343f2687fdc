// cuGetErrorName, cuGetErrorString, and the call trace.
#include "client/custom.h"
#include "client/driver/trace.h"

namespace farwarp::client {
namespace {

struct Text {
  CUresult result;
  const char* name;
  const char* text;
};
constexpr Text kTexts[] = {
#define X(name, text) {name, #name, text},
#include "proto/cuda/driver_errors.inc"
#undef X
};

const Text* FindText(CUresult result) noexcept {
  for (const Text& text : kTexts) {
    if (text.result == result) return &text;
  }
  return nullptr;
}

}  // namespace

const char* ResultName(CUresult result) noexcept {
  const Text* text = FindText(result);
  return text != nullptr ? text->name : nullptr;
}

void Trace::Write(CUresult result) const noexcept {
  const char* name = ResultName(result);
  FARWARP_LOG(kTrace, "%s: %d %s", name_, static_cast<int>(result), name != nullptr ? name : "?");
}

namespace custom {

CUresult cuGetErrorName(CUresult error, const char** pStr) {
  if (pStr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pStr = ResultName(error);
  return *pStr != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** pStr) {
  if (pStr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Text* text = FindText(error);
  *pStr = text != nullptr ? text->text : nullptr;
  return text != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace custom
}  // namespace farwarp::client
