// Copies in the runtime's terms turned into the driver's: directions, pitched memory, arrays.
//
// Pure functions apart from the driver calls they make; thread-safe.
#pragma once

#include "client/runtime/api.h"

namespace farwarp::runtime {

// One side of a copy: plain memory with a pitch, or an array with a position in it.
struct CopySide {
  void* pointer = nullptr;
  size_t pitch = 0;
  size_t rows = 0;  // Rows per slice, for copies in three dimensions.
  cudaArray_const_t array = nullptr;
  size_t x = 0;  // Bytes.
  size_t y = 0;
  size_t z = 0;
};

// The driver's array behind the runtime's handle; they are the same object.
inline CUarray DriverArray(cudaArray_const_t array) noexcept {
  return (CUarray)array;
}
inline CUmipmappedArray DriverMipmappedArray(cudaMipmappedArray_const_t array) noexcept {
  return (CUmipmappedArray)array;
}

// The kinds of memory that a direction names; arrays count as device memory, which must agree.
// False for a direction that does not exist.
bool Directions(cudaMemcpyKind kind, CUmemorytype* source, CUmemorytype* target) noexcept;

Outcome Copy(const Driver& d, void* target, const void* source, size_t bytes, cudaMemcpyKind kind);
Outcome CopyAsync(const Driver& d, void* target, const void* source, size_t bytes,
                  cudaMemcpyKind kind, cudaStream_t stream);

// Two dimensions: `width` bytes of `height` rows.
struct Copy2D {
  CopySide target;
  CopySide source;
  size_t width;
  size_t height;
  cudaMemcpyKind kind;
};
Outcome Copy(const Driver& d, const Copy2D& copy);
Outcome CopyAsync(const Driver& d, const Copy2D& copy, cudaStream_t stream);

// Three dimensions. Fills what the driver takes; cudaSuccess and *empty for a copy of nothing.
cudaError_t Describe(const Driver& d, const cudaMemcpy3DParms& parms, CUDA_MEMCPY3D* copy,
                     bool* empty);
cudaError_t Describe(const Driver& d, const cudaMemcpy3DPeerParms& parms, CUDA_MEMCPY3D_PEER* copy,
                     bool* empty);

// Bytes of one element of an array.
cudaError_t ElementBytes(const Driver& d, cudaArray_const_t array, size_t* bytes);

}  // namespace farwarp::runtime
