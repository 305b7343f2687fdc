// cuGetErrorName, cuGetErrorString, the call trace, and the error log (cuLogs*): what this library
// and the server's driver have to say of errors.
#include "client/custom.h"
#include "client/driver/trace.h"
#include "proto/cuda/driver_log.h"

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

CUresult cuLogsRegisterCallback(CUlogsCallback callbackFunc, void* userData,
                                CUlogsCallbackHandle* callback_out) {
  return cuda::DriverLog::Get().Register(callbackFunc, userData, callback_out);
}

CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle callback) {
  return cuda::DriverLog::Get().Unregister(callback);
}

CUresult cuLogsCurrent(CUlogIterator* iterator_out, unsigned int flags) {
  return cuda::DriverLog::Get().Current(iterator_out, flags);
}

CUresult cuLogsDumpToFile(CUlogIterator* iterator, const char* pathToFile, unsigned int flags) {
  return cuda::DriverLog::Get().DumpToFile(iterator, pathToFile, flags);
}

CUresult cuLogsDumpToMemory(CUlogIterator* iterator, char* buffer, std::size_t* size,
                            unsigned int flags) {
  return cuda::DriverLog::Get().DumpToMemory(iterator, buffer, size, flags);
}

}  // namespace custom
}  // namespace farwarp::client
