#include "client/runtime/error.h"

namespace farwarp::runtime {

const char* ErrorName(cudaError_t error) noexcept {
  switch (error) {
#define X(name, text) \
  case name:          \
    return #name;
#include "client/runtime/errors.inc"
#undef X
    default:
      return nullptr;
  }
}

const char* ErrorText(cudaError_t error) noexcept {
  switch (error) {
#define X(name, text) \
  case name:          \
    return text;
#include "client/runtime/errors.inc"
#undef X
    default:
      return nullptr;
  }
}

cudaError_t ToRuntimeError(CUresult result) noexcept {
  if (result == CUDA_SUCCESS) return cudaSuccess;
  const auto error = static_cast<cudaError_t>(result);
  return ErrorName(error) != nullptr ? error : cudaErrorUnknown;
}

bool IsSticky(cudaError_t error) noexcept {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

}  // namespace farwarp::runtime
