// Where the variables of device code lie in the current context.
//
// Thread-safe.
#pragma once

#include "client/runtime/api.h"

namespace farwarp::runtime {

struct SymbolRange {
  CUdeviceptr address = 0;
  size_t bytes = 0;
};

// Finds the variable by its host address, loading its code if needed.
cudaError_t FindSymbol(const Driver& d, const void* symbol, SymbolRange* range);
// The part of a symbol that a copy writes or reads; checks bounds and direction.
cudaError_t SymbolTarget(const Driver& d, const void* symbol, size_t count, size_t offset,
                         cudaMemcpyKind kind, void** target);
cudaError_t SymbolSource(const Driver& d, const void* symbol, size_t count, size_t offset,
                         cudaMemcpyKind kind, void** source);

}  // namespace farwarp::runtime
