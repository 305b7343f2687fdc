// Virtual memory management: a vector on the device that grows without copying, because more
// physical memory is mapped behind what it has; the same memory at a second address; what is refused.
#include <cuda.h>

#include <vector>

#include "common.h"

// The driver's functions through the runtime, so that nothing but the runtime is linked.
template <typename Function>
static Function Entry(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
  return reinterpret_cast<Function>(function);
}
#define ENTRY(name) static const auto p##name = Entry<decltype(&name)>(#name)
#define DRIVER(call)                                                   \
  do {                                                                 \
    const CUresult driver_error = (call);                              \
    if (driver_error != CUDA_SUCCESS) {                                \
      std::fprintf(stderr, "%d: %s: %d\n", __LINE__, #call, driver_error); \
      std::exit(2);                                                    \
    }                                                                  \
  } while (false)

__global__ void append(int* data, size_t from, size_t to) {
  for (size_t i = from + blockIdx.x * blockDim.x + threadIdx.x; i < to; i += gridDim.x * blockDim.x)
    data[i] = static_cast<int>(i * 7 + 1);
}

int main() {
  CHECK(cudaFree(nullptr));
  ENTRY(cuMemGetAllocationGranularity);
  ENTRY(cuMemAddressReserve);
  ENTRY(cuMemAddressFree);
  ENTRY(cuMemCreate);
  ENTRY(cuMemRelease);
  ENTRY(cuMemMap);
  ENTRY(cuMemUnmap);
  ENTRY(cuMemSetAccess);
  ENTRY(cuMemGetAccess);
  ENTRY(cuMemRetainAllocationHandle);
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = 0;
  size_t unit = 0;
  DRIVER(pcuMemGetAllocationGranularity(&unit, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  printf("granularity %zu\n", unit);
  const int pieces = 4;
  CUdeviceptr base = 0;
  DRIVER(pcuMemAddressReserve(&base, pieces * unit, 0, 0, 0));
  CUmemAccessDesc access = {};
  access.location = prop.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  const size_t per_piece = unit / sizeof(int);
  for (int i = 0; i < pieces; ++i) {
    CUmemGenericAllocationHandle memory;
    DRIVER(pcuMemCreate(&memory, unit, &prop, 0));
    DRIVER(pcuMemMap(base + i * unit, unit, 0, memory, 0));
    DRIVER(pcuMemSetAccess(base + i * unit, unit, &access, 1));
    DRIVER(pcuMemRelease(memory));  // The mapping keeps it.
    append<<<16, 128>>>(reinterpret_cast<int*>(base), i * per_piece, (i + 1) * per_piece);
    CHECK(cudaDeviceSynchronize());
  }
  // One copy over all pieces.
  std::vector<int> host(pieces * per_piece);
  CHECK(cudaMemcpy(host.data(), reinterpret_cast<void*>(base), pieces * unit,
                   cudaMemcpyDeviceToHost));
  bool ok = true;
  for (size_t i = 0; i < host.size(); ++i) ok = ok && host[i] == static_cast<int>(i * 7 + 1);
  printf("checksum %016llx\n", static_cast<unsigned long long>(Checksum(host.data(), pieces * unit)));
  unsigned long long flags = 0;
  DRIVER(pcuMemGetAccess(&flags, &prop.location, base + unit));
  printf("access %llu\n", flags);

  // The last piece moves to another address and keeps its contents.
  CUmemGenericAllocationHandle last;
  DRIVER(pcuMemRetainAllocationHandle(&last, reinterpret_cast<void*>(base + 3 * unit)));
  DRIVER(pcuMemUnmap(base + 3 * unit, unit));
  CUdeviceptr other = 0;
  DRIVER(pcuMemAddressReserve(&other, unit, 0, 0, 0));
  DRIVER(pcuMemMap(other, unit, 0, last, 0));
  DRIVER(pcuMemSetAccess(other, unit, &access, 1));
  int value = 0;
  CHECK(cudaMemcpy(&value, reinterpret_cast<void*>(other), sizeof value, cudaMemcpyDeviceToHost));
  printf("moved: %d\n", value);
  ok = ok && value == static_cast<int>(3 * per_piece * 7 + 1);

  printf("map over another: %d\n", pcuMemMap(base, unit, 0, last, 0));
  printf("map outside: %d\n", pcuMemMap(other + unit, unit, 0, last, 0));
  printf("free while mapped: %d\n", pcuMemAddressFree(other, unit));
  const cudaError_t gone = cudaMemcpy(&value, reinterpret_cast<void*>(base + 3 * unit), 4,
                                      cudaMemcpyDeviceToHost);
  printf("read what is not mapped: %s\n", cudaGetErrorName(gone));
  cudaGetLastError();
  DRIVER(pcuMemRelease(last));
  printf("released twice: %d\n", pcuMemRelease(last));
  DRIVER(pcuMemUnmap(other, unit));
  DRIVER(pcuMemUnmap(base, 3 * unit));
  DRIVER(pcuMemAddressFree(other, unit));
  DRIVER(pcuMemAddressFree(base, pieces * unit));
  return Finish("vmmVector", ok);
}
