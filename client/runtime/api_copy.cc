// Copies and fills of memory, of arrays, between devices, to and from symbols.
#include <limits>

#include "client/runtime/copy.h"
#include "client/runtime/registry.h"
#include "client/runtime/symbol.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

CopySide Memory(const void* pointer, size_t pitch) {
  CopySide side;
  side.pointer = const_cast<void*>(pointer);
  side.pitch = pitch;
  return side;
}

CopySide Array(cudaArray_const_t array, size_t x, size_t y) {
  CopySide side;
  side.array = array;
  side.x = x;
  side.y = y;
  return side;
}

// Fills `height` rows of `width` bytes; one long run where rows touch.
Outcome Fill(const Driver& d, void* pointer, size_t pitch, int value, size_t width, size_t height) {
  if (width == 0 || height == 0) return cudaSuccess;
  const auto byte = static_cast<unsigned char>(value);
  size_t bytes = 0;
  if (height > 1 && pitch < width) return cudaErrorInvalidPitchValue;
  if (height == 1) return d.MemsetD8(Address(pointer), byte, width);
  if (pitch == width && !__builtin_mul_overflow(width, height, &bytes)) {
    return d.MemsetD8(Address(pointer), byte, bytes);
  }
  return d.MemsetD2D8(Address(pointer), pitch, byte, width, height);
}

Outcome FillAsync(const Driver& d, void* pointer, size_t pitch, int value, size_t width,
                  size_t height, cudaStream_t stream) {
  if (width == 0 || height == 0) return cudaSuccess;
  const auto byte = static_cast<unsigned char>(value);
  size_t bytes = 0;
  if (height > 1 && pitch < width) return cudaErrorInvalidPitchValue;
  if (height == 1) return d.MemsetD8Async(Address(pointer), byte, width, stream);
  if (pitch == width && !__builtin_mul_overflow(width, height, &bytes)) {
    return d.MemsetD8Async(Address(pointer), byte, bytes, stream);
  }
  return d.MemsetD2D8Async(Address(pointer), pitch, byte, width, height, stream);
}

// Fills a box slice by slice, or at once where slices follow each other without a gap.
template <typename FillRows>
Outcome FillBox(const cudaPitchedPtr& box, const cudaExtent& extent, FillRows&& fill_rows) {
  size_t rows = 0;
  if (extent.height > box.ysize && extent.depth > 1) return cudaErrorInvalidValue;
  if (extent.height == box.ysize && !__builtin_mul_overflow(extent.height, extent.depth, &rows)) {
    return fill_rows(box.ptr, rows);
  }
  const size_t slice_bytes = box.pitch * box.ysize;
  for (size_t z = 0; z < extent.depth; ++z) {
    const Outcome filled = fill_rows(static_cast<char*>(box.ptr) + z * slice_bytes, extent.height);
    if (!filled.ok()) return filled;
  }
  return cudaSuccess;
}

// An array without rows of a pitch: the bytes run on from the position, row after row.
struct Run {
  size_t x;
  size_t y;
  size_t bytes;
};

cudaError_t RowBytes(const Driver& d, cudaArray_const_t array, size_t* row_bytes) {
  CUDA_ARRAY3D_DESCRIPTOR descriptor = {};
  const Outcome asked = d.Array3DGetDescriptor(&descriptor, DriverArray(array));
  if (!asked.ok()) return asked.error;
  size_t element = 0;
  const cudaError_t error = ElementBytes(d, array, &element);
  *row_bytes = descriptor.Width * element;
  return error != cudaSuccess ? error : *row_bytes > 0 ? cudaSuccess : cudaErrorInvalidValue;
}

// Copies a run of bytes between memory and an array, as at most a head, a block of whole rows, and
// a tail.
template <typename CopyRows>
Outcome CopyRun(const Driver& d, cudaArray_const_t array, Run run, CopyRows&& copy_rows) {
  size_t row_bytes = 0;
  if (const cudaError_t error = RowBytes(d, array, &row_bytes); error != cudaSuccess) return error;
  if (run.x > row_bytes) return cudaErrorInvalidValue;
  size_t done = 0;
  while (done < run.bytes) {
    const size_t left = run.bytes - done;
    const size_t width = std::min(left, row_bytes - run.x);
    // Whole rows go together.
    const size_t rows = run.x == 0 && left >= row_bytes ? left / row_bytes : 1;
    const Outcome copied = copy_rows(Run{run.x, run.y, width}, done, rows);
    if (!copied.ok()) return copied;
    done += width * rows;
    run.x = run.x + width == row_bytes || rows > 1 ? 0 : run.x + width;
    run.y += rows;
  }
  return cudaSuccess;
}

}  // namespace

RT_API_PTDS(cudaMemcpy, (void* dst, const void* src, size_t count, cudaMemcpyKind kind),
            { return Copy(d, dst, src, count, kind); })
RT_API_PTSZ(cudaMemcpyAsync,
            (void* dst, const void* src, size_t count, cudaMemcpyKind kind, cudaStream_t stream),
            { return CopyAsync(d, dst, src, count, kind, stream); })

RT_API_PTDS(cudaMemcpy2D,
            (void* dst, size_t dpitch, const void* src, size_t spitch, size_t width, size_t height,
             cudaMemcpyKind kind),
            { return Copy(d, {Memory(dst, dpitch), Memory(src, spitch), width, height, kind}); })
RT_API_PTSZ(cudaMemcpy2DAsync,
            (void* dst, size_t dpitch, const void* src, size_t spitch, size_t width, size_t height,
             cudaMemcpyKind kind, cudaStream_t stream),
            {
              return CopyAsync(d, {Memory(dst, dpitch), Memory(src, spitch), width, height, kind},
                               stream);
            })
RT_API_PTDS(cudaMemcpy2DToArray,
            (cudaArray_t dst, size_t wOffset, size_t hOffset, const void* src, size_t spitch,
             size_t width, size_t height, cudaMemcpyKind kind),
            {
              return Copy(d,
                          {Array(dst, wOffset, hOffset), Memory(src, spitch), width, height, kind});
            })
RT_API_PTSZ(cudaMemcpy2DToArrayAsync,
            (cudaArray_t dst, size_t wOffset, size_t hOffset, const void* src, size_t spitch,
             size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream),
            {
              return CopyAsync(
                  d, {Array(dst, wOffset, hOffset), Memory(src, spitch), width, height, kind},
                  stream);
            })
RT_API_PTDS(cudaMemcpy2DFromArray,
            (void* dst, size_t dpitch, cudaArray_const_t src, size_t wOffset, size_t hOffset,
             size_t width, size_t height, cudaMemcpyKind kind),
            {
              return Copy(d,
                          {Memory(dst, dpitch), Array(src, wOffset, hOffset), width, height, kind});
            })
RT_API_PTSZ(cudaMemcpy2DFromArrayAsync,
            (void* dst, size_t dpitch, cudaArray_const_t src, size_t wOffset, size_t hOffset,
             size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream),
            {
              return CopyAsync(
                  d, {Memory(dst, dpitch), Array(src, wOffset, hOffset), width, height, kind},
                  stream);
            })
RT_API_PTDS(cudaMemcpy2DArrayToArray,
            (cudaArray_t dst, size_t wOffsetDst, size_t hOffsetDst, cudaArray_const_t src,
             size_t wOffsetSrc, size_t hOffsetSrc, size_t width, size_t height,
             cudaMemcpyKind kind),
            {
              return Copy(d, {Array(dst, wOffsetDst, hOffsetDst),
                              Array(src, wOffsetSrc, hOffsetSrc), width, height, kind});
            })

RT_API_PTDS(cudaMemcpyToArray,
            (cudaArray_t dst, size_t wOffset, size_t hOffset, const void* src, size_t count,
             cudaMemcpyKind kind),
            {
              const auto* bytes = static_cast<const char*>(src);
              return CopyRun(d, dst, {wOffset, hOffset, count},
                             [&](const Run& run, size_t offset, size_t rows) {
                               return Copy(
                                   d, {Array(dst, run.x, run.y), Memory(bytes + offset, run.bytes),
                                       run.bytes, rows, kind});
                             });
            })
RT_API_PTSZ(cudaMemcpyToArrayAsync,
            (cudaArray_t dst, size_t wOffset, size_t hOffset, const void* src, size_t count,
             cudaMemcpyKind kind, cudaStream_t stream),
            {
              const auto* bytes = static_cast<const char*>(src);
              return CopyRun(d, dst, {wOffset, hOffset, count},
                             [&](const Run& run, size_t offset, size_t rows) {
                               return CopyAsync(
                                   d,
                                   {Array(dst, run.x, run.y), Memory(bytes + offset, run.bytes),
                                    run.bytes, rows, kind},
                                   stream);
                             });
            })
RT_API_PTDS(cudaMemcpyFromArray,
            (void* dst, cudaArray_const_t src, size_t wOffset, size_t hOffset, size_t count,
             cudaMemcpyKind kind),
            {
              auto* bytes = static_cast<char*>(dst);
              return CopyRun(d, src, {wOffset, hOffset, count},
                             [&](const Run& run, size_t offset, size_t rows) {
                               return Copy(d, {Memory(bytes + offset, run.bytes),
                                               Array(src, run.x, run.y), run.bytes, rows, kind});
                             });
            })
RT_API_PTSZ(cudaMemcpyFromArrayAsync,
            (void* dst, cudaArray_const_t src, size_t wOffset, size_t hOffset, size_t count,
             cudaMemcpyKind kind, cudaStream_t stream),
            {
              auto* bytes = static_cast<char*>(dst);
              return CopyRun(d, src, {wOffset, hOffset, count},
                             [&](const Run& run, size_t offset, size_t rows) {
                               return CopyAsync(d,
                                                {Memory(bytes + offset, run.bytes),
                                                 Array(src, run.x, run.y), run.bytes, rows, kind},
                                                stream);
                             });
            })
// Supported while both runs lie in whole rows of equal length, which is all that the deprecated
// call was used for.
RT_API_PTDS(cudaMemcpyArrayToArray,
            (cudaArray_t dst, size_t wOffsetDst, size_t hOffsetDst, cudaArray_const_t src,
             size_t wOffsetSrc, size_t hOffsetSrc, size_t count, cudaMemcpyKind kind),
            {
              size_t source_row = 0, target_row = 0;
              cudaError_t error = RowBytes(d, src, &source_row);
              if (error == cudaSuccess) error = RowBytes(d, dst, &target_row);
              if (error != cudaSuccess) return error;
              if (source_row != target_row || wOffsetSrc != wOffsetDst) {
                return cudaErrorNotSupported;
              }
              return CopyRun(d, src, {wOffsetSrc, hOffsetSrc, count},
                             [&](const Run& run, size_t, size_t rows) {
                               const size_t y = hOffsetDst + (run.y - hOffsetSrc);
                               return Copy(d, {Array(dst, run.x, y), Array(src, run.x, run.y),
                                               run.bytes, rows, kind});
                             });
            })

RT_API_PTDS(cudaMemcpy3D, (const cudaMemcpy3DParms* p), {
  CUDA_MEMCPY3D copy;
  bool empty = false;
  if (p == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Describe(d, *p, &copy, &empty);
  return error != cudaSuccess || empty ? Outcome(error) : Outcome(d.Memcpy3D(&copy));
})
RT_API_PTSZ(cudaMemcpy3DAsync, (const cudaMemcpy3DParms* p, cudaStream_t stream), {
  CUDA_MEMCPY3D copy;
  bool empty = false;
  if (p == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Describe(d, *p, &copy, &empty);
  return error != cudaSuccess || empty ? Outcome(error) : Outcome(d.Memcpy3DAsync(&copy, stream));
})
RT_API_PTDS(cudaMemcpy3DPeer, (const cudaMemcpy3DPeerParms* p), {
  CUDA_MEMCPY3D_PEER copy;
  bool empty = false;
  if (p == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Describe(d, *p, &copy, &empty);
  return error != cudaSuccess || empty ? Outcome(error) : Outcome(d.Memcpy3DPeer(&copy));
})
RT_API_PTSZ(cudaMemcpy3DPeerAsync, (const cudaMemcpy3DPeerParms* p, cudaStream_t stream), {
  CUDA_MEMCPY3D_PEER copy;
  bool empty = false;
  if (p == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = Describe(d, *p, &copy, &empty);
  return error != cudaSuccess || empty ? Outcome(error)
                                       : Outcome(d.Memcpy3DPeerAsync(&copy, stream));
})

RT_API(cudaMemcpyPeer, (void* dst, int dstDevice, const void* src, int srcDevice, size_t count), {
  CUcontext source = nullptr, target = nullptr;
  cudaError_t error = Process::Get().RetainPrimary(srcDevice, &source);
  if (error == cudaSuccess) error = Process::Get().RetainPrimary(dstDevice, &target);
  if (error != cudaSuccess || count == 0) return error;
  return d.MemcpyPeer(Address(dst), target, Address(src), source, count);
})
RT_API(cudaMemcpyPeerAsync,
       (void* dst, int dstDevice, const void* src, int srcDevice, size_t count,
        cudaStream_t stream),
       {
         CUcontext source = nullptr, target = nullptr;
         cudaError_t error = Process::Get().RetainPrimary(srcDevice, &source);
         if (error == cudaSuccess) error = Process::Get().RetainPrimary(dstDevice, &target);
         if (error != cudaSuccess || count == 0) return error;
         return d.MemcpyPeerAsync(Address(dst), target, Address(src), source, count, stream);
       })
RT_API_PTSZ(cudaMemcpyBatchAsync,
            (void* const* dsts, const void* const* srcs, const size_t* sizes, size_t count,
             cudaMemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, cudaStream_t stream),
            {
              return Pass(d.MemcpyBatchAsync, dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs,
                          stream);
            })
RT_API_PTSZ(cudaMemcpy3DBatchAsync,
            (size_t numOps, cudaMemcpy3DBatchOp* opList, unsigned long long flags,
             cudaStream_t stream),
            { return Pass(d.Memcpy3DBatchAsync, numOps, opList, flags, stream); })

RT_API_PTDS(cudaMemset, (void* devPtr, int value, size_t count),
            { return Fill(d, devPtr, count, value, count, 1); })
RT_API_PTSZ(cudaMemsetAsync, (void* devPtr, int value, size_t count, cudaStream_t stream),
            { return FillAsync(d, devPtr, count, value, count, 1, stream); })
RT_API_PTDS(cudaMemset2D, (void* devPtr, size_t pitch, int value, size_t width, size_t height),
            { return Fill(d, devPtr, pitch, value, width, height); })
RT_API_PTSZ(cudaMemset2DAsync,
            (void* devPtr, size_t pitch, int value, size_t width, size_t height,
             cudaStream_t stream),
            { return FillAsync(d, devPtr, pitch, value, width, height, stream); })
RT_API_PTDS(cudaMemset3D, (cudaPitchedPtr pitchedDevPtr, int value, cudaExtent extent), {
  return FillBox(pitchedDevPtr, extent, [&](void* pointer, size_t rows) {
    return Fill(d, pointer, pitchedDevPtr.pitch, value, extent.width, rows);
  });
})
RT_API_PTSZ(cudaMemset3DAsync,
            (cudaPitchedPtr pitchedDevPtr, int value, cudaExtent extent, cudaStream_t stream), {
              return FillBox(pitchedDevPtr, extent, [&](void* pointer, size_t rows) {
                return FillAsync(d, pointer, pitchedDevPtr.pitch, value, extent.width, rows,
                                 stream);
              });
            })

RT_API(cudaGetSymbolAddress, (void** devPtr, const void* symbol), {
  SymbolRange range;
  if (devPtr == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = FindSymbol(d, symbol, &range);
  if (error == cudaSuccess) *devPtr = Pointer(range.address);
  return error;
})
RT_API(cudaGetSymbolSize, (size_t* size, const void* symbol), {
  SymbolRange range;
  if (size == nullptr) return cudaErrorInvalidValue;
  const cudaError_t error = FindSymbol(d, symbol, &range);
  if (error == cudaSuccess) *size = range.bytes;
  return error;
})
RT_API_PTDS(cudaMemcpyToSymbol,
            (const void* symbol, const void* src, size_t count, size_t offset, cudaMemcpyKind kind),
            {
              void* target = nullptr;
              const cudaError_t error = SymbolTarget(d, symbol, count, offset, kind, &target);
              return error != cudaSuccess ? error : Copy(d, target, src, count, kind);
            })
RT_API_PTSZ(cudaMemcpyToSymbolAsync,
            (const void* symbol, const void* src, size_t count, size_t offset, cudaMemcpyKind kind,
             cudaStream_t stream),
            {
              void* target = nullptr;
              const cudaError_t error = SymbolTarget(d, symbol, count, offset, kind, &target);
              return error != cudaSuccess ? error : CopyAsync(d, target, src, count, kind, stream);
            })
RT_API_PTDS(cudaMemcpyFromSymbol,
            (void* dst, const void* symbol, size_t count, size_t offset, cudaMemcpyKind kind), {
              void* source = nullptr;
              const cudaError_t error = SymbolSource(d, symbol, count, offset, kind, &source);
              return error != cudaSuccess ? error : Copy(d, dst, source, count, kind);
            })
RT_API_PTSZ(cudaMemcpyFromSymbolAsync,
            (void* dst, const void* symbol, size_t count, size_t offset, cudaMemcpyKind kind,
             cudaStream_t stream),
            {
              void* source = nullptr;
              const cudaError_t error = SymbolSource(d, symbol, count, offset, kind, &source);
              return error != cudaSuccess ? error : CopyAsync(d, dst, source, count, kind, stream);
            })
