#include "client/runtime/copy.h"

#include "client/runtime/array_format.h"

namespace farwarp::runtime {
namespace {

// Fills one side of a driver's copy descriptor; the fields of both sides differ only in their
// names.
#define FARWARP_FILL_SIDE(copy, side, prefix, memory)    \
  do {                                                   \
    (copy).prefix##XInBytes = (side).x;                  \
    (copy).prefix##Y = (side).y;                         \
    if ((side).array != nullptr) {                       \
      (copy).prefix##MemoryType = CU_MEMORYTYPE_ARRAY;   \
      (copy).prefix##Array = DriverArray((side).array);  \
    } else {                                             \
      (copy).prefix##MemoryType = (memory);              \
      if ((memory) == CU_MEMORYTYPE_HOST) {              \
        (copy).prefix##Host = (side).pointer;            \
      } else {                                           \
        (copy).prefix##Device = Address((side).pointer); \
      }                                                  \
      (copy).prefix##Pitch = (side).pitch;               \
    }                                                    \
  } while (false)

cudaError_t Describe(const Copy2D& request, CUDA_MEMCPY2D* copy) {
  CUmemorytype source = CU_MEMORYTYPE_UNIFIED, target = CU_MEMORYTYPE_UNIFIED;
  if (!Directions(request.kind, &source, &target)) return cudaErrorInvalidMemcpyDirection;
  for (const CopySide* side : {&request.source, &request.target}) {
    if (side->array == nullptr && side->pitch < request.width) return cudaErrorInvalidPitchValue;
  }
  *copy = {};
  FARWARP_FILL_SIDE(*copy, request.source, src, source);
  FARWARP_FILL_SIDE(*copy, request.target, dst, target);
  copy->WidthInBytes = request.width;
  copy->Height = request.height;
  return cudaSuccess;
}

// Turns one side of a copy in three dimensions into bytes.
cudaError_t Side(const Driver& d, cudaArray_const_t array, const cudaPos& position,
                 const cudaPitchedPtr& memory, CopySide* side, size_t* element_bytes) {
  size_t bytes = 1;
  if (array != nullptr) {
    if (memory.ptr != nullptr) return cudaErrorInvalidValue;
    const cudaError_t error = ElementBytes(d, array, &bytes);
    if (error != cudaSuccess) return error;
    *element_bytes = bytes;
  } else if (memory.ptr == nullptr) {
    return cudaErrorInvalidValue;
  }
  side->array = array;
  side->pointer = memory.ptr;
  side->pitch = memory.pitch;
  side->rows = memory.ysize;
  side->x = position.x * bytes;
  side->y = position.y;
  side->z = position.z;
  return cudaSuccess;
}

// What both kinds of copies in three dimensions have in common.
template <typename Parms, typename DriverCopy>
cudaError_t Describe3D(const Driver& d, const Parms& parms, CUmemorytype source_memory,
                       CUmemorytype target_memory, DriverCopy* copy, bool* empty) {
  CopySide source, target;
  size_t element_bytes = 1;
  cudaError_t error = Side(d, parms.srcArray, parms.srcPos, parms.srcPtr, &source, &element_bytes);
  if (error != cudaSuccess) return error;
  error = Side(d, parms.dstArray, parms.dstPos, parms.dstPtr, &target, &element_bytes);
  if (error != cudaSuccess) return error;
  // With an array on either side the extent counts its elements, otherwise bytes.
  const size_t width = parms.extent.width * element_bytes;
  *empty = width == 0 || parms.extent.height == 0 || parms.extent.depth == 0;
  if (*empty) return cudaSuccess;
  for (const CopySide* side : {&source, &target}) {
    if (side->array == nullptr && side->pitch < width) return cudaErrorInvalidPitchValue;
  }
  *copy = {};
  FARWARP_FILL_SIDE(*copy, source, src, source_memory);
  FARWARP_FILL_SIDE(*copy, target, dst, target_memory);
  copy->srcZ = source.z;
  copy->srcHeight = source.rows;
  copy->dstZ = target.z;
  copy->dstHeight = target.rows;
  copy->WidthInBytes = width;
  copy->Height = parms.extent.height;
  copy->Depth = parms.extent.depth;
  return cudaSuccess;
}

}  // namespace

bool Directions(cudaMemcpyKind kind, CUmemorytype* source, CUmemorytype* target) noexcept {
  switch (kind) {
    case cudaMemcpyHostToHost:
      *source = *target = CU_MEMORYTYPE_HOST;
      return true;
    case cudaMemcpyHostToDevice:
      *source = CU_MEMORYTYPE_HOST;
      *target = CU_MEMORYTYPE_DEVICE;
      return true;
    case cudaMemcpyDeviceToHost:
      *source = CU_MEMORYTYPE_DEVICE;
      *target = CU_MEMORYTYPE_HOST;
      return true;
    case cudaMemcpyDeviceToDevice:
      *source = *target = CU_MEMORYTYPE_DEVICE;
      return true;
    case cudaMemcpyDefault:
      *source = *target = CU_MEMORYTYPE_UNIFIED;
      return true;
    default:
      return false;
  }
}

cudaError_t ElementBytes(const Driver& d, cudaArray_const_t array, size_t* bytes) {
  CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
  const Outcome asked = d.Array3DGetDescriptor(&descriptor, DriverArray(array));
  if (!asked.ok()) return asked.error;
  *bytes = FormatBytes(descriptor.Format) * descriptor.NumChannels;
  return *bytes > 0 ? cudaSuccess : cudaErrorInvalidValue;
}

Outcome Copy(const Driver& d, void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  CUmemorytype from, to;
  if (!Directions(kind, &from, &to)) return cudaErrorInvalidMemcpyDirection;
  if (bytes == 0) return cudaSuccess;
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return d.MemcpyHtoD(Address(target), source, bytes);
    case cudaMemcpyDeviceToHost:
      return d.MemcpyDtoH(target, Address(source), bytes);
    case cudaMemcpyDeviceToDevice:
      return d.MemcpyDtoD(Address(target), Address(source), bytes);
    default:
      return d.Memcpy(Address(target), Address(source), bytes);
  }
}

Outcome CopyAsync(const Driver& d, void* target, const void* source, size_t bytes,
                  cudaMemcpyKind kind, cudaStream_t stream) {
  CUmemorytype from, to;
  if (!Directions(kind, &from, &to)) return cudaErrorInvalidMemcpyDirection;
  if (bytes == 0) return cudaSuccess;
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return d.MemcpyHtoDAsync(Address(target), source, bytes, stream);
    case cudaMemcpyDeviceToHost:
      return d.MemcpyDtoHAsync(target, Address(source), bytes, stream);
    case cudaMemcpyDeviceToDevice:
      return d.MemcpyDtoDAsync(Address(target), Address(source), bytes, stream);
    default:
      return d.MemcpyAsync(Address(target), Address(source), bytes, stream);
  }
}

Outcome Copy(const Driver& d, const Copy2D& request) {
  CUDA_MEMCPY2D copy;
  if (const cudaError_t error = Describe(request, &copy); error != cudaSuccess) return error;
  if (request.width == 0 || request.height == 0) return cudaSuccess;
  // The variant that accepts any pitch, as the runtime does.
  return d.Memcpy2DUnaligned(&copy);
}

Outcome CopyAsync(const Driver& d, const Copy2D& request, cudaStream_t stream) {
  CUDA_MEMCPY2D copy;
  if (const cudaError_t error = Describe(request, &copy); error != cudaSuccess) return error;
  if (request.width == 0 || request.height == 0) return cudaSuccess;
  return d.Memcpy2DAsync(&copy, stream);
}

cudaError_t Describe(const Driver& d, const cudaMemcpy3DParms& parms, CUDA_MEMCPY3D* copy,
                     bool* empty) {
  CUmemorytype source, target;
  if (!Directions(parms.kind, &source, &target)) return cudaErrorInvalidMemcpyDirection;
  return Describe3D(d, parms, source, target, copy, empty);
}

cudaError_t Describe(const Driver& d, const cudaMemcpy3DPeerParms& parms, CUDA_MEMCPY3D_PEER* copy,
                     bool* empty) {
  CUcontext source = nullptr, target = nullptr;
  cudaError_t error = Process::Get().RetainPrimary(parms.srcDevice, &source);
  if (error == cudaSuccess) error = Process::Get().RetainPrimary(parms.dstDevice, &target);
  if (error == cudaSuccess) {
    error = Describe3D(d, parms, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_DEVICE, copy, empty);
  }
  if (error == cudaSuccess && !*empty) {
    copy->srcContext = source;
    copy->dstContext = target;
  }
  return error;
}

}  // namespace farwarp::runtime
