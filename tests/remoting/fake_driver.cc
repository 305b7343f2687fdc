#include "tests/remoting/fake_driver.h"

#include <sys/mman.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace farwarp::tests {
namespace {

struct FakeContext {
  CUdevice device = 0;
  CUresult failed = CUDA_SUCCESS;
};
struct FakeStream {
  FakeContext* context;
  std::uint64_t last = 0;
};
struct FakeEvent {
  std::uint64_t at = 0;
};

struct World {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  std::uint64_t given = 0, done = 0;
  bool stopping = false;
  bool gate_open = false;
  std::thread worker;

  int devices = 1;
  std::vector<FakeContext*> primary;
  std::vector<int> retained;
  // What exists, the context it ends with (null: none), and how it is freed.
  struct Object {
    FakeContext* context;
    void (*free)(void*);
  };
  std::map<void*, Object> objects;
  std::set<void*> host;  // Page-locked memory; goes with the driver at the latest.
  std::map<CUmemGenericAllocationHandle, std::uint64_t> physical;
  std::uint64_t next_physical = 1, physical_bytes = 0, peak_bytes = 0;
  std::uint64_t launches = 0;
  std::map<FakeContext*, std::uint64_t> legacy;

  void Run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stopping || !work.empty(); });
      if (work.empty()) return;
      auto next = std::move(work.front());
      work.pop_front();
      lock.unlock();
      next();
      lock.lock();
      ++done;
      changed.notify_all();
    }
  }
};
World* world = nullptr;
thread_local std::vector<FakeContext*> stack;

FakeContext* Current() {
  return stack.empty() ? nullptr : stack.back();
}

template <typename T>
T* New(T value, FakeContext* context) {
  auto* object = new T(value);
  const std::lock_guard lock(world->mutex);
  world->objects[object] = {context, [](void* old) { delete static_cast<T*>(old); }};
  return object;
}
CUresult Delete(void* object) {
  const std::lock_guard lock(world->mutex);
  const auto found = world->objects.find(object);
  if (found == world->objects.end()) return CUDA_ERROR_INVALID_HANDLE;
  found->second.free(object);
  world->objects.erase(found);
  return CUDA_SUCCESS;
}
// A context takes along what lives in it.
CUresult DeleteContext(FakeContext* context) {
  {
    const std::lock_guard lock(world->mutex);
    for (auto it = world->objects.begin(); it != world->objects.end();) {
      if (it->second.context != context) {
        ++it;
        continue;
      }
      it->second.free(it->first);
      it = world->objects.erase(it);
    }
  }
  return Delete(context);
}
bool Alive(void* object) {
  const std::lock_guard lock(world->mutex);
  return world->objects.contains(object);
}

FakeContext* ContextOf(CUstream stream) {
  return reinterpret_cast<std::uintptr_t>(stream) <= 2
             ? Current()
             : reinterpret_cast<FakeStream*>(stream)->context;
}

// Everything is one queue: more order than CUDA promises, never less.
CUresult Give(CUstream stream, std::function<void(FakeContext&)> work) {
  FakeContext* context = ContextOf(stream);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  const std::lock_guard lock(world->mutex);
  if (context->failed != CUDA_SUCCESS) return context->failed;
  world->work.push_back([context, work = std::move(work)] {
    if (context->failed == CUDA_SUCCESS) work(*context);
  });
  ++world->given;
  if (reinterpret_cast<std::uintptr_t>(stream) > 2) {
    reinterpret_cast<FakeStream*>(stream)->last = world->given;
  }
  world->legacy[context] = world->given;
  world->changed.notify_all();
  return CUDA_SUCCESS;
}

constexpr std::uint64_t kAllGiven = ~std::uint64_t{0};

CUresult WaitUntil(std::uint64_t at) {
  std::unique_lock lock(world->mutex);
  if (at == kAllGiven) at = world->given;
  world->changed.wait(lock, [at] { return world->done >= at; });
  return Current() != nullptr ? Current()->failed : CUDA_SUCCESS;
}

std::uint64_t LastOf(CUstream stream) {
  if (reinterpret_cast<std::uintptr_t>(stream) > 2) {
    return reinterpret_cast<FakeStream*>(stream)->last;
  }
  return world->legacy[Current()];
}

void* At(std::uint64_t address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

// ------------------------------------------------------------------------------------- kernels

struct FakeKernel {
  const char* name;
  std::vector<std::pair<std::size_t, std::size_t>> parameters;
};
const FakeKernel kKernels[] = {{"add", {{0, 8}, {8, 8}, {16, 8}, {24, 4}}},
                               {"fill", {{0, 8}, {8, 4}, {12, 4}}},
                               {"wait", {}},
                               {"fault", {}}};
constexpr unsigned kKernelCount = 4;

template <typename Handle>
const FakeKernel* Kernel(Handle handle) {
  const auto* kernel = reinterpret_cast<const FakeKernel*>(handle);
  return kernel >= kKernels && kernel < kKernels + kKernelCount ? kernel : nullptr;
}

void RunKernel(const FakeKernel& kernel, const std::vector<std::byte>& bytes,
               FakeContext& context) {
  const auto read = [&](std::size_t offset, auto* value) {
    std::memcpy(value, bytes.data() + offset, sizeof *value);
  };
  const std::string_view name(kernel.name);
  if (name == "add") {
    int* out;
    const int *a, *b;
    int n;
    read(0, &out), read(8, &a), read(16, &b), read(24, &n);
    for (int i = 0; i < n; ++i) out[i] = a[i] + b[i];
  } else if (name == "fill") {
    int *out, value, n;
    read(0, &out), read(8, &value), read(12, &n);
    for (int i = 0; i < n; ++i) out[i] = value;
  } else if (name == "wait") {
    std::unique_lock lock(world->mutex);
    world->changed.wait(lock, [] { return world->gate_open || world->stopping; });
  } else {
    const std::lock_guard lock(world->mutex);
    context.failed = CUDA_ERROR_ILLEGAL_ADDRESS;
  }
}

CUresult Launch(CUfunction function, CUstream stream, void** extra) {
  const FakeKernel* kernel = Kernel(function);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  std::vector<std::byte> bytes;
  if (extra != nullptr) {
    std::size_t size = 0;
    std::memcpy(&size, extra[3], sizeof size);
    bytes.resize(size);
    std::memcpy(bytes.data(), extra[1], size);
  }
  {
    const std::lock_guard lock(world->mutex);
    ++world->launches;
  }
  return Give(stream,
              [kernel, bytes](FakeContext& context) { RunKernel(*kernel, bytes, context); });
}

CUresult Load(const void* image, unsigned count, CUjit_option* options, void** values, void** out,
              FakeContext* context) {
  const std::string_view text(static_cast<const char*>(image));
  if (text.find("broken") != std::string_view::npos) {
    for (unsigned i = 0; i < count; ++i) {
      if (options[i] == CU_JIT_ERROR_LOG_BUFFER) {
        std::snprintf(static_cast<char*>(values[i]), 64, "ptx:1:1: broken");
      }
    }
    return CUDA_ERROR_INVALID_PTX;
  }
  *out = New(std::vector<int>(256), context);
  return CUDA_SUCCESS;
}

template <typename T>
CUresult Enumerate(T* out, unsigned count) {
  for (unsigned i = 0; i < count && i < kKernelCount; ++i) {
    out[i] = reinterpret_cast<T>(const_cast<FakeKernel*>(&kKernels[i]));
  }
  return CUDA_SUCCESS;
}
template <typename T>
CUresult Parameter(T function, std::size_t index, std::size_t* offset, std::size_t* bytes) {
  const FakeKernel* kernel = Kernel(function);
  if (kernel == nullptr || index >= kernel->parameters.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = kernel->parameters[index].first;
  *bytes = kernel->parameters[index].second;
  return CUDA_SUCCESS;
}
CUresult KernelAttribute(int* value, CUfunction_attribute attribute) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK           ? 1024
           : attribute == CU_FUNC_ATTRIBUTE_NUM_REGS                      ? 16
           : attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? 49152
                                                                          : 0;
  return CUDA_SUCCESS;
}
CUresult VariableOf(void* module, const char* name, CUdeviceptr* address, std::size_t* bytes) {
  if (std::strcmp(name, "table") != 0) return CUDA_ERROR_NOT_FOUND;
  auto* memory = static_cast<std::vector<int>*>(module);
  *address = reinterpret_cast<CUdeviceptr>(memory->data());
  *bytes = memory->size() * sizeof(int);
  return CUDA_SUCCESS;
}

int DeviceAttribute(CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 49152;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return 101376;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
      return 1;
    default:
      return 7;
  }
}

CUresult CopyBox(const CUDA_MEMCPY3D* copy, CUstream stream) {
  const CUDA_MEMCPY3D c = *copy;
  const auto base = [](CUmemorytype type, const void* host, CUdeviceptr device) {
    return static_cast<std::byte*>(type == CU_MEMORYTYPE_HOST ? const_cast<void*>(host)
                                                              : At(device));
  };
  std::byte* to = base(c.dstMemoryType, c.dstHost, c.dstDevice);
  std::byte* from = base(c.srcMemoryType, c.srcHost, c.srcDevice);
  return Give(stream, [c, to, from](FakeContext&) {
    for (std::size_t z = 0; z < c.Depth; ++z) {
      for (std::size_t y = 0; y < c.Height; ++y) {
        std::memmove(to + (z * c.dstHeight + y) * c.dstPitch,
                     from + (z * c.srcHeight + y) * c.srcPitch, c.WidthInBytes);
      }
    }
  });
}

template <typename T>
CUresult Fill(CUdeviceptr address, std::size_t pitch, T value, std::size_t width,
              std::size_t height, CUstream stream) {
  return Give(stream, [=](FakeContext&) {
    for (std::size_t y = 0; y < height; ++y) {
      auto* row = reinterpret_cast<T*>(address + y * pitch);
      for (std::size_t x = 0; x < width; ++x) row[x] = value;
    }
  });
}

void FillContexts(server::driver::Table& t) {
  t.cuInit = [](unsigned) { return CUDA_SUCCESS; };
  t.cuDriverGetVersion = [](int* version) { return *version = 13000, CUDA_SUCCESS; };
  t.cuDeviceGetCount = [](int* count) { return *count = world->devices, CUDA_SUCCESS; };
  t.cuDeviceGet = [](CUdevice* device, int ordinal) {
    if (ordinal < 0 || ordinal >= world->devices) return CUDA_ERROR_INVALID_DEVICE;
    return *device = ordinal, CUDA_SUCCESS;
  };
  t.cuDeviceGetName = [](char* name, int, CUdevice) {
    return std::snprintf(name, 9, "Fake GPU"), CUDA_SUCCESS;
  };
  t.cuDeviceTotalMem_v2 = [](std::size_t* bytes, CUdevice) {
    return *bytes = std::size_t{1} << 30, CUDA_SUCCESS;
  };
  t.cuDeviceGetUuid_v2 = [](CUuuid* uuid, CUdevice device) {
    std::memset(uuid, 16 + device, sizeof *uuid);
    return CUDA_SUCCESS;
  };
  t.cuDeviceGetPCIBusId = [](char* id, int, CUdevice device) {
    std::snprintf(id, 13, "0000:%02x:00.0", static_cast<unsigned>(device + 1) & 0xff);
    return CUDA_SUCCESS;
  };
  t.cuDeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
    return *value = DeviceAttribute(attribute), CUDA_SUCCESS;
  };
  t.cuDevicePrimaryCtxSetFlags_v2 = [](CUdevice, unsigned) { return CUDA_SUCCESS; };
  t.cuDevicePrimaryCtxGetState = [](CUdevice device, unsigned* flags, int* active) {
    *flags = 0;
    *active = world->retained[static_cast<std::size_t>(device)] > 0;
    return CUDA_SUCCESS;
  };
  t.cuDevicePrimaryCtxRetain = [](CUcontext* context, CUdevice device) {
    const auto i = static_cast<std::size_t>(device);
    if (world->retained[i]++ == 0) world->primary[i] = New(FakeContext{device}, nullptr);
    *context = reinterpret_cast<CUcontext>(world->primary[i]);
    return CUDA_SUCCESS;
  };
  t.cuDevicePrimaryCtxRelease_v2 = [](CUdevice device) {
    const auto i = static_cast<std::size_t>(device);
    if (world->retained[i] == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--world->retained[i] > 0) return CUDA_SUCCESS;
    WaitUntil(kAllGiven);
    return DeleteContext(world->primary[i]);
  };
  t.cuCtxCreate_v2 = [](CUcontext* context, unsigned, CUdevice device) {
    auto* made = New(FakeContext{device}, nullptr);
    stack.push_back(made);
    *context = reinterpret_cast<CUcontext>(made);
    return CUDA_SUCCESS;
  };
  t.cuCtxDestroy_v2 = [](CUcontext context) {
    auto* fake = reinterpret_cast<FakeContext*>(context);
    for (FakeContext* primary : world->primary) {
      if (primary == fake) return CUDA_ERROR_INVALID_CONTEXT;
    }
    WaitUntil(kAllGiven);
    std::erase(stack, fake);
    return DeleteContext(fake);
  };
  t.cuCtxSetCurrent = [](CUcontext context) {
    if (!stack.empty()) stack.pop_back();
    auto* fake = reinterpret_cast<FakeContext*>(context);
    if (fake != nullptr && !Alive(fake)) return CUDA_ERROR_INVALID_CONTEXT;
    if (fake != nullptr) stack.push_back(fake);
    return CUDA_SUCCESS;
  };
  t.cuCtxGetCurrent = [](CUcontext* context) {
    return *context = reinterpret_cast<CUcontext>(Current()), CUDA_SUCCESS;
  };
  t.cuCtxPushCurrent_v2 = [](CUcontext context) {
    stack.push_back(reinterpret_cast<FakeContext*>(context));
    return CUDA_SUCCESS;
  };
  t.cuCtxPopCurrent_v2 = [](CUcontext* context) {
    *context = reinterpret_cast<CUcontext>(Current());
    stack.pop_back();
    return CUDA_SUCCESS;
  };
  t.cuCtxSynchronize = [] { return WaitUntil(kAllGiven); };
  t.cuCtxGetLimit = [](std::size_t* value, CUlimit) { return *value = 1024, CUDA_SUCCESS; };
  t.cuCtxSetLimit = [](CUlimit, std::size_t) { return CUDA_SUCCESS; };
}

void FillMemory(server::driver::Table& t) {
  t.cuMemAddressReserve = [](CUdeviceptr* out, std::size_t bytes, std::size_t, CUdeviceptr wanted,
                             unsigned long long) {
    // Address 0 is no wish; root would get it.
    void* got = ::mmap(
        At(wanted), bytes, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (wanted != 0 ? MAP_FIXED_NOREPLACE : 0), -1,
        0);
    if (got == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    *out = reinterpret_cast<CUdeviceptr>(got);
    return CUDA_SUCCESS;
  };
  t.cuMemAddressFree = [](CUdeviceptr address, std::size_t bytes) {
    return ::munmap(At(address), bytes) == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  t.cuMemCreate = [](CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp*, unsigned long long) {
    const std::lock_guard lock(world->mutex);
    *handle = world->next_physical++;
    world->physical[*handle] = bytes;
    world->physical_bytes += bytes;
    world->peak_bytes = std::max(world->peak_bytes, world->physical_bytes);
    return CUDA_SUCCESS;
  };
  t.cuMemRelease = [](CUmemGenericAllocationHandle handle) {
    const std::lock_guard lock(world->mutex);
    world->physical_bytes -= world->physical[handle];
    return world->physical.erase(handle) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  t.cuMemMap = [](CUdeviceptr address, std::size_t bytes, std::size_t, CUmemGenericAllocationHandle,
                  unsigned long long) {
    if (::mprotect(At(address), bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_MAP_FAILED;
    // What some other lease has left behind.
    for (std::uint64_t page = 0; page < bytes; page += 4096) {
      *static_cast<unsigned char*>(At(address + page)) = 0xdd;
    }
    return CUDA_SUCCESS;
  };
  t.cuMemSetAccess = [](CUdeviceptr, std::size_t, const CUmemAccessDesc*, std::size_t) {
    return CUDA_SUCCESS;
  };
  t.cuMemUnmap = [](CUdeviceptr address, std::size_t bytes) {
    void* got = ::mmap(At(address), bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return got != MAP_FAILED ? CUDA_SUCCESS : CUDA_ERROR_UNMAP_FAILED;
  };
  t.cuMemHostAlloc = [](void** out, std::size_t bytes, unsigned) {
    const std::lock_guard lock(world->mutex);
    world->host.insert(*out = std::malloc(bytes));
    return CUDA_SUCCESS;
  };
  t.cuMemFreeHost = [](void* memory) {
    const std::lock_guard lock(world->mutex);
    if (world->host.erase(memory) == 0) return CUDA_ERROR_INVALID_VALUE;
    return std::free(memory), CUDA_SUCCESS;
  };
  t.cuMemcpyHtoDAsync_v2 = [](CUdeviceptr to, const void* from, std::size_t bytes,
                              CUstream stream) {
    // Small pageable sources are taken at once, as CUDA promises.
    if (bytes <= 65536) {
      const auto* data = static_cast<const std::byte*>(from);
      return Give(stream, [to, copy = std::vector<std::byte>(data, data + bytes)](FakeContext&) {
        std::memcpy(At(to), copy.data(), copy.size());
      });
    }
    return Give(stream, [=](FakeContext&) { std::memcpy(At(to), from, bytes); });
  };
  t.cuMemcpyDtoHAsync_v2 = [](void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return Give(stream, [=](FakeContext&) { std::memcpy(to, At(from), bytes); });
  };
  t.cuMemcpyDtoDAsync_v2 = [](CUdeviceptr to, CUdeviceptr from, std::size_t bytes,
                              CUstream stream) {
    return Give(stream, [=](FakeContext&) { std::memmove(At(to), At(from), bytes); });
  };
  t.cuMemcpyPeerAsync = [](CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext,
                           std::size_t bytes, CUstream stream) {
    return Give(stream, [=](FakeContext&) { std::memmove(At(to), At(from), bytes); });
  };
  t.cuMemcpy3DAsync_v2 = CopyBox;
  t.cuMemsetD8Async = [](CUdeviceptr a, unsigned char v, std::size_t n, CUstream s) {
    return Fill(a, 0, v, n, 1, s);
  };
  t.cuMemsetD32Async = [](CUdeviceptr a, unsigned v, std::size_t n, CUstream s) {
    return Fill(a, 0, v, n, 1, s);
  };
  t.cuMemsetD2D32Async = [](CUdeviceptr a, std::size_t pitch, unsigned v, std::size_t w,
                            std::size_t h, CUstream s) { return Fill(a, pitch, v, w, h, s); };
}

void FillStreams(server::driver::Table& t) {
  t.cuStreamCreate = [](CUstream* stream, unsigned) {
    return *stream = reinterpret_cast<CUstream>(New(FakeStream{Current()}, Current())),
           CUDA_SUCCESS;
  };
  t.cuStreamCreateWithPriority = [](CUstream* stream, unsigned, int) {
    return *stream = reinterpret_cast<CUstream>(New(FakeStream{Current()}, Current())),
           CUDA_SUCCESS;
  };
  t.cuStreamDestroy_v2 = [](CUstream stream) { return Delete(stream); };
  t.cuStreamGetCtx = [](CUstream stream, CUcontext* context) {
    return *context = reinterpret_cast<CUcontext>(ContextOf(stream)), CUDA_SUCCESS;
  };
  t.cuStreamQuery = [](CUstream stream) {
    FakeContext* context = ContextOf(stream);
    if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    const std::lock_guard lock(world->mutex);
    if (context->failed != CUDA_SUCCESS) return context->failed;
    return world->done >= LastOf(stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  };
  t.cuStreamSynchronize = [](CUstream) { return WaitUntil(kAllGiven); };
  t.cuStreamWaitEvent = [](CUstream stream, CUevent, unsigned) {
    // One queue: what the event covers is in front already.
    return Give(stream, [](FakeContext&) {});
  };
  t.cuLaunchHostFunc = [](CUstream stream, CUhostFn function, void* data) {
    return Give(stream, [=](FakeContext&) { function(data); });
  };
  t.cuEventCreate = [](CUevent* event, unsigned) {
    return *event = reinterpret_cast<CUevent>(New(FakeEvent{}, Current())), CUDA_SUCCESS;
  };
  t.cuEventDestroy_v2 = [](CUevent event) { return Delete(event); };
  t.cuEventRecord = [](CUevent event, CUstream stream) {
    const CUresult result = Give(stream, [](FakeContext&) {});
    const std::lock_guard lock(world->mutex);
    reinterpret_cast<FakeEvent*>(event)->at = world->given;
    return result;
  };
  t.cuCtxRecordEvent = [](CUcontext context, CUevent event) {
    const std::lock_guard lock(world->mutex);
    auto* fake = reinterpret_cast<FakeContext*>(context);
    reinterpret_cast<FakeEvent*>(event)->at = world->legacy[fake];
    return CUDA_SUCCESS;
  };
  t.cuCtxWaitEvent = [](CUcontext, CUevent) { return CUDA_SUCCESS; };  // One queue.
  t.cuEventQuery = [](CUevent event) {
    const std::lock_guard lock(world->mutex);
    if (Current() != nullptr && Current()->failed != CUDA_SUCCESS) return Current()->failed;
    return world->done >= reinterpret_cast<FakeEvent*>(event)->at ? CUDA_SUCCESS
                                                                  : CUDA_ERROR_NOT_READY;
  };
  t.cuEventSynchronize = [](CUevent event) {
    std::uint64_t at = 0;
    {
      const std::lock_guard lock(world->mutex);
      at = reinterpret_cast<FakeEvent*>(event)->at;
    }
    return WaitUntil(at);
  };
  t.cuEventElapsedTime = [](float* milliseconds, CUevent, CUevent) {
    return *milliseconds = 1.5f, CUDA_SUCCESS;
  };
}

void FillModules(server::driver::Table& t) {
  t.cuModuleLoadDataEx = [](CUmodule* module, const void* image, unsigned count,
                            CUjit_option* options, void** values) {
    return Load(image, count, options, values, reinterpret_cast<void**>(module), Current());
  };
  t.cuModuleUnload = [](CUmodule module) { return Delete(module); };
  t.cuModuleGetFunctionCount = [](unsigned* count, CUmodule) {
    return *count = kKernelCount, CUDA_SUCCESS;
  };
  t.cuModuleEnumerateFunctions = [](CUfunction* out, unsigned count, CUmodule) {
    return Enumerate(out, count);
  };
  t.cuModuleGetGlobal_v2 = [](CUdeviceptr* address, std::size_t* bytes, CUmodule module,
                              const char* name) {
    return VariableOf(module, name, address, bytes);
  };
  t.cuFuncGetName = [](const char** name, CUfunction function) {
    return *name = Kernel(function)->name, CUDA_SUCCESS;
  };
  t.cuFuncGetAttribute = [](int* value, CUfunction_attribute attribute, CUfunction) {
    return KernelAttribute(value, attribute);
  };
  t.cuFuncSetAttribute = [](CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; };
  t.cuFuncGetParamInfo = [](CUfunction function, std::size_t index, std::size_t* offset,
                            std::size_t* bytes) {
    return Parameter(function, index, offset, bytes);
  };
  t.cuLibraryLoadData = [](CUlibrary* library, const void* image, CUjit_option* options,
                           void** values, unsigned count, CUlibraryOption*, void**, unsigned) {
    return Load(image, count, options, values, reinterpret_cast<void**>(library), nullptr);
  };
  t.cuLibraryUnload = [](CUlibrary library) { return Delete(library); };
  t.cuLibraryGetKernelCount = [](unsigned* count, CUlibrary) {
    return *count = kKernelCount, CUDA_SUCCESS;
  };
  t.cuLibraryEnumerateKernels = [](CUkernel* out, unsigned count, CUlibrary) {
    return Enumerate(out, count);
  };
  t.cuLibraryGetGlobal = [](CUdeviceptr* address, std::size_t* bytes, CUlibrary library,
                            const char* name) { return VariableOf(library, name, address, bytes); };
  t.cuLibraryGetManaged = [](CUdeviceptr*, std::size_t*, CUlibrary, const char*) {
    return CUDA_ERROR_NOT_FOUND;
  };
  t.cuKernelGetName = [](const char** name, CUkernel kernel) {
    return *name = Kernel(kernel)->name, CUDA_SUCCESS;
  };
  t.cuKernelGetAttribute = [](int* value, CUfunction_attribute attribute, CUkernel, CUdevice) {
    return KernelAttribute(value, attribute);
  };
  t.cuKernelGetParamInfo = [](CUkernel kernel, std::size_t index, std::size_t* offset,
                              std::size_t* bytes) {
    return Parameter(kernel, index, offset, bytes);
  };
  t.cuKernelGetFunction = [](CUfunction* function, CUkernel kernel) {
    return *function = reinterpret_cast<CUfunction>(kernel), CUDA_SUCCESS;
  };
  t.cuLaunchKernel = [](CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned,
                        unsigned, unsigned, CUstream stream, void**,
                        void** extra) { return Launch(function, stream, extra); };
  t.cuLaunchKernelEx = [](const CUlaunchConfig* config, CUfunction function, void**, void** extra) {
    return Launch(function, config->hStream, extra);
  };
}

}  // namespace

FakeDriver::FakeDriver(int devices) {
  world = new World;
  world->devices = devices;
  world->primary.resize(static_cast<std::size_t>(devices));
  world->retained.resize(static_cast<std::size_t>(devices));
  world->worker = std::thread([] { world->Run(); });
  server::driver::FillTable(table_, [](void*, const char*) -> void* { return nullptr; }, nullptr);
  FillContexts(table_);
  FillMemory(table_);
  FillStreams(table_);
  FillModules(table_);
}

FakeDriver::~FakeDriver() {
  {
    const std::lock_guard lock(world->mutex);
    world->stopping = true;
    world->changed.notify_all();
  }
  world->worker.join();
  for (void* memory : world->host) std::free(memory);
  // A process that ends leaves what it did not free to the driver.
  for (auto& [object, entry] : world->objects) entry.free(object);
  delete world;
  world = nullptr;
}

std::uint64_t FakeDriver::physical_bytes() const {
  const std::lock_guard lock(world->mutex);
  return world->physical_bytes;
}
std::uint64_t FakeDriver::peak_bytes() const {
  const std::lock_guard lock(world->mutex);
  return world->peak_bytes;
}
std::size_t FakeDriver::objects() const {
  const std::lock_guard lock(world->mutex);
  return world->objects.size();
}
void FakeDriver::OpenGate() {
  const std::lock_guard lock(world->mutex);
  world->gate_open = true;
  world->changed.notify_all();
}
std::uint64_t FakeDriver::launches() const {
  const std::lock_guard lock(world->mutex);
  return world->launches;
}

}  // namespace farwarp::tests
