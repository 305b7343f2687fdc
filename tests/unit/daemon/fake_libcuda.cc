// A libcuda.so.1 of the few functions that a session without kernels needs, for tests of the daemon
// and the worker: memory is host memory, work is done at once.
//
// FARWARP_FAKE_DRIVER chooses misbehaviour: "old", "no-device", "init-fails", "init-crashes",
// "dirty" (fresh physical memory holds another tenant's bytes). Some sizes given to cuMemCreate
// mean something too, see below.
#include "tests/unit/daemon/fake_libcuda.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "cuda/driver_api.h"

namespace {

using namespace farwarp::testing;

bool Is(std::string_view mode) {
  const char* value = std::getenv("FARWARP_FAKE_DRIVER");
  return value != nullptr && mode == value;
}

char context_object;
CUcontext const kContext = reinterpret_cast<CUcontext>(&context_object);
thread_local CUcontext current_context = nullptr;
std::atomic<std::uintptr_t> next_object{0x1000};
std::mutex mutex;
std::map<CUmemGenericAllocationHandle, std::size_t> physical;
std::vector<std::unique_ptr<std::byte[]>> hogged;

template <typename T>
T NewObject() {
  return reinterpret_cast<T>(next_object.fetch_add(16));
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned) {
  if (Is("init-crashes")) ::raise(SIGSEGV);
  return Is("init-fails") ? CUDA_ERROR_SYSTEM_NOT_READY : CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
  *version = Is("old") ? 11040 : 13000;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
  *count = Is("no-device") ? 0 : kFakeDevices;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= kFakeDevices) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int bytes, CUdevice device) {
  std::snprintf(name, static_cast<std::size_t>(bytes), "Fake GPU %d", device);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice) {
  *bytes = kFakeDeviceBytes;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  std::memset(uuid, 0x10 + device, sizeof *uuid);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char* id, int bytes, CUdevice device) {
  std::snprintf(id, static_cast<std::size_t>(bytes), "0000:%02x:00.0", device + 1);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = 12;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = 1;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 16;
      return CUDA_SUCCESS;
    default:
      *value = 1;
      return CUDA_SUCCESS;
  }
}
CUresult cuGetErrorName(CUresult, const char** name) {
  *name = "CUDA_ERROR_OF_THE_FAKE";
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = kContext;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice, unsigned) {
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  *flags = 0;
  *active = 0;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  current_context = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = current_context;
  return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext context) {
  current_context = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  *context = current_context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return current_context != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxSynchronize() {
  return CUDA_SUCCESS;
}
CUresult cuCtxDestroy_v2(CUcontext) {
  return CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuMemAddressReserve(CUdeviceptr* pointer, std::size_t bytes, std::size_t, CUdeviceptr at,
                             unsigned long long) {
  void* memory = ::mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = reinterpret_cast<CUdeviceptr>(memory);
  return CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr pointer, std::size_t bytes) {
  ::munmap(reinterpret_cast<void*>(pointer), bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp*, unsigned long long) {
  if (bytes == kHangBytes) {
    for (;;) ::pause();
  }
  if (bytes == kCrashBytes) ::raise(SIGSEGV);
  if (bytes == kHogBytes) {
    for (;;) hogged.push_back(std::make_unique<std::byte[]>(std::size_t{16} << 20));
  }
  if (bytes == kPrintBytes) std::printf("hello from a kernel\n");
  const std::scoped_lock lock(mutex);
  *handle = next_object.fetch_add(16);
  physical[*handle] = bytes;
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  const std::scoped_lock lock(mutex);
  return physical.erase(handle) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemMap(CUdeviceptr pointer, std::size_t bytes, std::size_t, CUmemGenericAllocationHandle,
                  unsigned long long) {
  auto* memory = reinterpret_cast<void*>(pointer);
  if (::mprotect(memory, bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  if (Is("dirty")) std::memset(memory, 0xAB, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr, std::size_t, const CUmemAccessDesc*, std::size_t) {
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr pointer, std::size_t bytes) {
  void* memory = ::mmap(reinterpret_cast<void*>(pointer), bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return memory != MAP_FAILED ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  return *pointer != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFreeHost(void* pointer) {
  std::free(pointer);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, std::size_t bytes, CUstream) {
  std::memset(reinterpret_cast<void*>(pointer), value, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream) {
  std::memcpy(to, reinterpret_cast<void*>(from), bytes);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  *stream = NewObject<CUstream>();
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy_v2(CUstream) {
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream) {
  return CUDA_SUCCESS;
}
CUresult cuStreamQuery(CUstream) {
  return CUDA_SUCCESS;
}
CUresult cuStreamGetCtx(CUstream, CUcontext* context) {
  *context = kContext;
  return CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent* event, unsigned) {
  *event = NewObject<CUevent>();
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent) {
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent, CUstream) {
  return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent) {
  return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent) {
  return CUDA_SUCCESS;
}
}
