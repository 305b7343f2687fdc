#include "client/runtime/symbol.h"

#include "client/runtime/registry.h"

namespace farwarp::runtime {
namespace {

cudaError_t Part(const Driver& d, const void* symbol, size_t count, size_t offset, void** part) {
  SymbolRange range;
  if (const cudaError_t error = FindSymbol(d, symbol, &range); error != cudaSuccess) return error;
  if (offset > range.bytes || count > range.bytes - offset) return cudaErrorInvalidValue;
  *part = Pointer(range.address + offset);
  return cudaSuccess;
}

}  // namespace

cudaError_t FindSymbol(const Driver& d, const void* symbol, SymbolRange* range) {
  const Variable* variable = Registry::Get().FindVariable(symbol);
  if (variable == nullptr) return cudaErrorInvalidSymbol;
  CUlibrary library = nullptr;
  if (const cudaError_t error = variable->image->Load(d, &library); error != cudaSuccess) {
    return error;
  }
  const char* name = variable->name.c_str();
  const CUresult result = variable->managed_pointer != nullptr
                              ? d.LibraryGetManaged(&range->address, &range->bytes, library, name)
                              : d.LibraryGetGlobal(&range->address, &range->bytes, library, name);
  return result == CUDA_ERROR_NOT_FOUND ? cudaErrorInvalidSymbol : ToRuntimeError(result);
}

cudaError_t SymbolTarget(const Driver& d, const void* symbol, size_t count, size_t offset,
                         cudaMemcpyKind kind, void** target) {
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice &&
      kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  return Part(d, symbol, count, offset, target);
}

cudaError_t SymbolSource(const Driver& d, const void* symbol, size_t count, size_t offset,
                         cudaMemcpyKind kind, void** source) {
  if (kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice &&
      kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  return Part(d, symbol, count, offset, source);
}

}  // namespace farwarp::runtime
