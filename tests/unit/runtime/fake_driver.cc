#include "tests/unit/runtime/fake_driver.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct State {
  std::mutex mutex;
  std::map<std::string, int> calls;
  std::map<std::string, CUresult> failures;
  std::map<std::string, FakeKernel> kernels;
  std::map<std::string, std::vector<char>> globals;
  std::map<uintptr_t, size_t> device_memory;
  std::map<uintptr_t, size_t> host_memory;
  std::set<CUstream> streams;
  std::set<std::string*> kernel_handles;
  std::set<int*> libraries;
  FakeLaunch last_launch = {};
  const void* last_image = nullptr;
  CUDA_MEMCPY3D last_copy_3d = {};
  CUDA_MEMCPY2D last_copy_2d = {};
  bool record_copies_2d_only = false;
  CUDA_KERNEL_NODE_PARAMS last_kernel_node = {};
  FakeTexture last_texture = {};
  bool initialised = false;
  int retained[4] = {};
};

State& S() {
  static State* state = new State;
  return *state;
}

thread_local CUcontext current_context = nullptr;

int Number(const char* variable, int otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::atoi(value) : otherwise;
}

// Counts the call; the result that the test wants, or success.
CUresult Enter(const char* symbol, bool needs_init = true) {
  std::lock_guard lock(S().mutex);
  ++S().calls[symbol];
  const auto failure = S().failures.find(symbol);
  if (failure != S().failures.end()) return failure->second;
  return needs_init && !S().initialised ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
}

CUresult EnterContext(const char* symbol) {
  const CUresult result = Enter(symbol);
  return result == CUDA_SUCCESS && current_context == nullptr ? CUDA_ERROR_INVALID_CONTEXT : result;
}

CUcontext ContextOf(int device) {
  static char contexts[4];
  return reinterpret_cast<CUcontext>(&contexts[device]);
}
int DeviceOf(CUcontext context) {
  for (int i = 0; i < 4; ++i) {
    if (ContextOf(i) == context) return i;
  }
  return 0;
}
int DeviceCount() {
  return Number("FAKE_CUDA_DEVICES", 2);
}

void* Host(CUdeviceptr address) {
  return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
}

struct Entry {
  const char* name;
  int version;
  bool per_thread;
  void* function;
};
std::vector<Entry>& Entries() {
  static auto* entries = new std::vector<Entry>;
  return *entries;
}
struct Register {
  Register(const char* name, int version, bool per_thread, void* function) {
    Entries().push_back({name, version, per_thread, function});
  }
};

}  // namespace

// FAKE(symbol, name, version, params, body): one entry point, found under `name` from `version` on.
#define FAKE_(symbol, name, version, per_thread, enter, params, ...)                      \
  FAKE_EXPORT CUresult symbol params {                                                    \
    [[maybe_unused]] const char* self = #symbol;                                          \
    if (const CUresult entered = enter(#symbol); entered != CUDA_SUCCESS) return entered; \
    __VA_ARGS__                                                                           \
    return CUDA_SUCCESS;                                                                  \
  }                                                                                       \
  static const Register register_##symbol(name, version, per_thread,                      \
                                          reinterpret_cast<void*>(&symbol));
#define FAKE(symbol, name, version, params, ...) \
  FAKE_(symbol, name, version, false, EnterContext, params, __VA_ARGS__)
#define FAKE_INIT(symbol, name, version, params, ...) \
  FAKE_(symbol, name, version, false, Enter, params, __VA_ARGS__)
// With the twin for per-thread default streams, which came with CUDA 7.0 at the earliest.
#define FAKE_TWIN(symbol, suffix, name, version, params, ...)                              \
  FAKE_(symbol, name, version, false, EnterContext, params, __VA_ARGS__)                   \
  FAKE_(symbol##suffix, name, version < 7000 ? 7000 : version, true, EnterContext, params, \
        __VA_ARGS__)

FAKE_EXPORT CUresult cuInit(unsigned) {
  Enter("cuInit", false);
  const int wanted = Number("FAKE_CUDA_INIT", 0);
  if (wanted != 0) return static_cast<CUresult>(wanted);
  std::lock_guard lock(S().mutex);
  S().initialised = true;
  return CUDA_SUCCESS;
}
FAKE_EXPORT CUresult cuDriverGetVersion(int* version) {
  Enter("cuDriverGetVersion", false);
  *version = Number("FAKE_CUDA_VERSION", 13000);
  return CUDA_SUCCESS;
}
static const Register register_init("cuInit", 2000, false, reinterpret_cast<void*>(&cuInit));
static const Register register_version("cuDriverGetVersion", 2020, false,
                                       reinterpret_cast<void*>(&cuDriverGetVersion));

FAKE_INIT(cuDeviceGetCount, "cuDeviceGetCount", 2000, (int* count), { *count = DeviceCount(); })
FAKE_INIT(cuDeviceGet, "cuDeviceGet", 2000, (CUdevice * device, int ordinal), {
  if (ordinal < 0 || ordinal >= DeviceCount()) return CUDA_ERROR_INVALID_DEVICE;
  *device = 10 + ordinal;  // Not the ordinal, so that mixing them up shows.
})
FAKE_INIT(cuDeviceGetName, "cuDeviceGetName", 2000, (char* name, int length, CUdevice),
          { std::strncpy(name, "Fake GPU", static_cast<size_t>(length)); })
FAKE_INIT(cuDeviceTotalMem_v2, "cuDeviceTotalMem", 3020, (size_t* bytes, CUdevice),
          { *bytes = 77u << 20; })
FAKE_INIT(cuDeviceGetUuid_v2, "cuDeviceGetUuid", 11040, (CUuuid * uuid, CUdevice device),
          { std::memset(uuid, device, sizeof(*uuid)); })
FAKE_INIT(cuDeviceGetAttribute, "cuDeviceGetAttribute", 2000,
          (int* value, CUdevice_attribute attribute, CUdevice device), {
            if (attribute <= 0 || attribute > 150) return CUDA_ERROR_INVALID_VALUE;
            *value = 1000 * (device - 9) + static_cast<int>(attribute);
          })
FAKE_INIT(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 7000,
          (CUcontext * context, CUdevice device), {
            if (device < 10 || device >= 10 + DeviceCount()) return CUDA_ERROR_INVALID_DEVICE;
            ++S().retained[device - 10];
            *context = ContextOf(device - 10);
          })
FAKE_INIT(cuDevicePrimaryCtxRelease_v2, "cuDevicePrimaryCtxRelease", 11000, (CUdevice device),
          { --S().retained[device - 10]; })
FAKE_INIT(cuDevicePrimaryCtxReset_v2, "cuDevicePrimaryCtxReset", 11000, (CUdevice), {})
FAKE_INIT(cuCtxGetCurrent, "cuCtxGetCurrent", 4000, (CUcontext * context),
          { *context = current_context; })
FAKE_INIT(cuCtxSetCurrent, "cuCtxSetCurrent", 4000, (CUcontext context),
          { current_context = context; })
FAKE(cuCtxGetDevice, "cuCtxGetDevice", 2000, (CUdevice * device),
     { *device = 10 + DeviceOf(current_context); })
FAKE(cuCtxSynchronize, "cuCtxSynchronize", 2000, (), {})

FAKE(cuMemGetInfo_v2, "cuMemGetInfo", 3020, (size_t* free, size_t* total), {
  *free = 70u << 20;
  *total = 77u << 20;
})
FAKE(cuMemAlloc_v2, "cuMemAlloc", 3020, (CUdeviceptr * address, size_t bytes), {
  if (bytes > (1u << 30)) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto pointer = reinterpret_cast<uintptr_t>(std::calloc(1, bytes));
  std::lock_guard lock(S().mutex);
  S().device_memory[pointer] = bytes;
  *address = pointer;
})
FAKE(cuMemFree_v2, "cuMemFree", 3020, (CUdeviceptr address), {
  std::lock_guard lock(S().mutex);
  if (S().device_memory.erase(static_cast<uintptr_t>(address)) == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::free(Host(address));
})
FAKE(cuMemHostAlloc, "cuMemHostAlloc", 2020, (void** pointer, size_t bytes, unsigned), {
  *pointer = std::calloc(1, bytes);
  std::lock_guard lock(S().mutex);
  S().host_memory[reinterpret_cast<uintptr_t>(*pointer)] = bytes;
})
FAKE(cuMemFreeHost, "cuMemFreeHost", 2000, (void* pointer), {
  std::lock_guard lock(S().mutex);
  if (S().host_memory.erase(reinterpret_cast<uintptr_t>(pointer)) == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::free(pointer);
})
FAKE(cuPointerGetAttributes, "cuPointerGetAttributes", 7000,
     (unsigned count, CUpointer_attribute* attributes, void** values, CUdeviceptr address), {
       std::lock_guard lock(S().mutex);
       const auto pointer = static_cast<uintptr_t>(address);
       const bool device = S().device_memory.contains(pointer);
       const bool host = S().host_memory.contains(pointer);
       for (unsigned i = 0; i < count; ++i) {
         switch (attributes[i]) {
           case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
             *static_cast<unsigned*>(values[i]) = device ? CU_MEMORYTYPE_DEVICE
                                                  : host ? CU_MEMORYTYPE_HOST
                                                         : 0;
             break;
           case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
             *static_cast<CUdeviceptr*>(values[i]) = address;
             break;
           case CU_POINTER_ATTRIBUTE_HOST_POINTER:
             *static_cast<void**>(values[i]) = host ? Host(address) : nullptr;
             break;
           default:
             *static_cast<unsigned*>(values[i]) = 0;
         }
       }
     })

#define FAKE_COPY(symbol, twin, name, version, params, to, from, bytes) \
  FAKE_TWIN(symbol, twin, name, version, params, { std::memcpy(to, from, bytes); })
FAKE_COPY(cuMemcpyHtoD_v2, _ptds, "cuMemcpyHtoD", 3020,
          (CUdeviceptr to, const void* from, size_t bytes), Host(to), from, bytes)
FAKE_COPY(cuMemcpyDtoH_v2, _ptds, "cuMemcpyDtoH", 3020, (void* to, CUdeviceptr from, size_t bytes),
          to, Host(from), bytes)
FAKE_COPY(cuMemcpyDtoD_v2, _ptds, "cuMemcpyDtoD", 3020,
          (CUdeviceptr to, CUdeviceptr from, size_t bytes), Host(to), Host(from), bytes)
FAKE_COPY(cuMemcpy, _ptds, "cuMemcpy", 4000, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
          Host(to), Host(from), bytes)
FAKE_COPY(cuMemcpyHtoDAsync_v2, _ptsz, "cuMemcpyHtoDAsync", 3020,
          (CUdeviceptr to, const void* from, size_t bytes, CUstream), Host(to), from, bytes)
FAKE_COPY(cuMemcpyDtoHAsync_v2, _ptsz, "cuMemcpyDtoHAsync", 3020,
          (void* to, CUdeviceptr from, size_t bytes, CUstream), to, Host(from), bytes)
FAKE_TWIN(cuMemcpy3D_v2, _ptds, "cuMemcpy3D", 3020, (const CUDA_MEMCPY3D* copy), {
  std::lock_guard lock(S().mutex);
  S().last_copy_3d = *copy;
})
FAKE(cuArray3DGetDescriptor_v2, "cuArray3DGetDescriptor", 3020,
     (CUDA_ARRAY3D_DESCRIPTOR * descriptor, CUarray), {
       *descriptor = {};
       descriptor->Width = 64;
       descriptor->Height = 8;
       descriptor->Format = CU_AD_FORMAT_FLOAT;
       descriptor->NumChannels = 4;
     })
FAKE_TWIN(cuMemcpy2DUnaligned_v2, _ptds, "cuMemcpy2DUnaligned", 3020, (const CUDA_MEMCPY2D* c), {
  {
    std::lock_guard lock(S().mutex);
    S().last_copy_2d = *c;
    if (S().record_copies_2d_only) return CUDA_SUCCESS;
  }
  const auto* from = static_cast<const char*>(
      c->srcMemoryType == CU_MEMORYTYPE_HOST ? c->srcHost : Host(c->srcDevice));
  auto* to =
      static_cast<char*>(c->dstMemoryType == CU_MEMORYTYPE_HOST ? c->dstHost : Host(c->dstDevice));
  for (size_t row = 0; row < c->Height; ++row) {
    std::memcpy(to + row * c->dstPitch, from + row * c->srcPitch, c->WidthInBytes);
  }
})
FAKE_TWIN(cuMemsetD8_v2, _ptds, "cuMemsetD8", 3020,
          (CUdeviceptr address, unsigned char value, size_t count),
          { std::memset(Host(address), value, count); })
FAKE_TWIN(cuMemsetD2D8_v2, _ptds, "cuMemsetD2D8", 3020,
          (CUdeviceptr address, size_t pitch, unsigned char value, size_t width, size_t height), {
            for (size_t row = 0; row < height; ++row) {
              std::memset(static_cast<char*>(Host(address)) + row * pitch, value, width);
            }
          })

FAKE(cuLibraryLoadData, "cuLibraryLoadData", 12000,
     (CUlibrary * library, const void* code, CUjit_option*, void**, unsigned, CUlibraryOption*,
      void**, unsigned),
     {
       uint64_t bytes = 0;
       std::memcpy(&bytes, static_cast<const char*>(code) + 8, sizeof(bytes));
       // A container without entries holds code for no device.
       if (bytes == 0) return CUDA_ERROR_NO_BINARY_FOR_GPU;
       std::lock_guard lock(S().mutex);
       int* handle = new int(0);
       S().libraries.insert(handle);
       S().last_image = code;
       *library = reinterpret_cast<CUlibrary>(handle);
     })
FAKE(cuLibraryUnload, "cuLibraryUnload", 12000, (CUlibrary library), {
  std::lock_guard lock(S().mutex);
  int* handle = reinterpret_cast<int*>(library);
  if (S().libraries.erase(handle) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete handle;
})
FAKE(cuLibraryGetKernel, "cuLibraryGetKernel", 12000,
     (CUkernel * kernel, CUlibrary, const char* name), {
       std::lock_guard lock(S().mutex);
       if (!S().kernels.contains(name)) return CUDA_ERROR_NOT_FOUND;
       auto* handle = new std::string(name);
       S().kernel_handles.insert(handle);
       *kernel = reinterpret_cast<CUkernel>(handle);
     })
FAKE(cuLibraryGetGlobal, "cuLibraryGetGlobal", 12000,
     (CUdeviceptr * address, size_t* bytes, CUlibrary, const char* name), {
       std::lock_guard lock(S().mutex);
       auto& storage = S().globals[name];
       storage.resize(64);
       *address = reinterpret_cast<uintptr_t>(storage.data());
       *bytes = storage.size();
     })
FAKE(cuLibraryGetManaged, "cuLibraryGetManaged", 12000,
     (CUdeviceptr * address, size_t* bytes, CUlibrary, const char* name), {
       std::lock_guard lock(S().mutex);
       auto& storage = S().globals[name];
       storage.resize(64);
       *address = reinterpret_cast<uintptr_t>(storage.data());
       *bytes = storage.size();
     })
FAKE(cuKernelGetName, "cuKernelGetName", 12030, (const char** name, CUkernel kernel),
     { *name = reinterpret_cast<std::string*>(kernel)->c_str(); })
FAKE(cuKernelGetAttribute, "cuKernelGetAttribute", 12000,
     (int* value, CUfunction_attribute attribute, CUkernel, CUdevice device), {
       if (device < 10) return CUDA_ERROR_INVALID_DEVICE;
       *value = 500 + static_cast<int>(attribute);
     })
FAKE(cuKernelGetFunction, "cuKernelGetFunction", 12000, (CUfunction * function, CUkernel kernel),
     { *function = reinterpret_cast<CUfunction>(reinterpret_cast<char*>(kernel) + 1); })
FAKE(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
     "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", 7000,
     (int* blocks, CUfunction, int threads, size_t, unsigned), { *blocks = 2048 / threads; })

FAKE(cuLinkCreate_v2, "cuLinkCreate", 6050, (unsigned, CUjit_option*, void**, CUlinkState* state),
     { *state = reinterpret_cast<CUlinkState>(new std::vector<char>); })
FAKE(cuLinkAddData_v2, "cuLinkAddData", 6050,
     (CUlinkState state, CUjitInputType type, void* data, size_t bytes, const char*, unsigned,
      CUjit_option*, void**),
     {
       if (type != CU_JIT_INPUT_FATBINARY || bytes <= 16) return CUDA_ERROR_INVALID_VALUE;
       auto* linked = reinterpret_cast<std::vector<char>*>(state);
       linked->insert(linked->end(), static_cast<char*>(data), static_cast<char*>(data) + bytes);
     })
FAKE(cuLinkComplete, "cuLinkComplete", 5050, (CUlinkState state, void** image, size_t* bytes), {
  auto* linked = reinterpret_cast<std::vector<char>*>(state);
  *image = linked->data();
  *bytes = linked->size();
})
FAKE(cuLinkDestroy, "cuLinkDestroy", 5050, (CUlinkState state),
     { delete reinterpret_cast<std::vector<char>*>(state); })

#define FAKE_LAUNCH                                                        \
  const auto* name = reinterpret_cast<std::string*>(function);             \
  FakeKernel body = nullptr;                                               \
  FakeLaunch launch = {};                                                  \
  {                                                                        \
    std::lock_guard lock(S().mutex);                                       \
    body = S().kernels[*name];                                             \
    std::strncpy(launch.symbol, self, sizeof(launch.symbol) - 1);          \
    std::strncpy(launch.kernel, name->c_str(), sizeof(launch.kernel) - 1); \
    launch.grid[0] = gx, launch.grid[1] = gy, launch.grid[2] = gz;         \
    launch.block[0] = bx, launch.block[1] = by, launch.block[2] = bz;      \
    launch.shared_bytes = shared;                                          \
    launch.stream = stream;                                                \
    S().last_launch = launch;                                              \
  }                                                                        \
  if (body != nullptr) body(launch, arguments);

FAKE_TWIN(cuLaunchKernel, _ptsz, "cuLaunchKernel", 4000,
          (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
           unsigned bz, unsigned shared, CUstream stream, void** arguments, void**),
          {FAKE_LAUNCH})
FAKE_TWIN(cuLaunchCooperativeKernel, _ptsz, "cuLaunchCooperativeKernel", 9000,
          (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
           unsigned bz, unsigned shared, CUstream stream, void** arguments),
          {FAKE_LAUNCH})
FAKE_TWIN(cuLaunchKernelEx, _ptsz, "cuLaunchKernelEx", 11060,
          (const CUlaunchConfig* config, CUfunction function, void** arguments, void**), {
            const unsigned gx = config->gridDimX, gy = config->gridDimY, gz = config->gridDimZ;
            const unsigned bx = config->blockDimX, by = config->blockDimY, bz = config->blockDimZ;
            const unsigned shared = config->sharedMemBytes;
            const CUstream stream = config->hStream;
            FAKE_LAUNCH
          })

FAKE(cuStreamCreate, "cuStreamCreate", 2000, (CUstream * stream, unsigned),
     { *stream = reinterpret_cast<CUstream>(new int(0)); })
FAKE(cuStreamDestroy_v2, "cuStreamDestroy", 4000, (CUstream stream),
     { delete reinterpret_cast<int*>(stream); })
FAKE_TWIN(cuStreamSynchronize, _ptsz, "cuStreamSynchronize", 2000, (CUstream), {})
FAKE_TWIN(cuStreamQuery, _ptsz, "cuStreamQuery", 2000, (CUstream), {})
FAKE_TWIN(cuStreamAddCallback, _ptsz, "cuStreamAddCallback", 5000,
          (CUstream stream, CUstreamCallback callback, void* data, unsigned),
          { callback(stream, CUDA_ERROR_ILLEGAL_ADDRESS, data); })

FAKE(cuGraphAddKernelNode_v2, "cuGraphAddKernelNode", 12000,
     (CUgraphNode * node, CUgraph, const CUgraphNode*, size_t,
      const CUDA_KERNEL_NODE_PARAMS* params),
     {
       std::lock_guard lock(S().mutex);
       S().last_kernel_node = *params;
       *node = nullptr;
     })
FAKE(cuGraphKernelNodeGetParams_v2, "cuGraphKernelNodeGetParams", 12000,
     (CUgraphNode, CUDA_KERNEL_NODE_PARAMS* params), {
       std::lock_guard lock(S().mutex);
       *params = S().last_kernel_node;
     })
FAKE(cuGraphAddMemcpyNode, "cuGraphAddMemcpyNode", 10000,
     (CUgraphNode * node, CUgraph, const CUgraphNode*, size_t, const CUDA_MEMCPY3D* copy,
      CUcontext context),
     {
       if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
       std::lock_guard lock(S().mutex);
       S().last_copy_3d = *copy;
       *node = nullptr;
     })
FAKE(cuTexObjectCreate, "cuTexObjectCreate", 5000,
     (CUtexObject * object, const CUDA_RESOURCE_DESC* resource, const CUDA_TEXTURE_DESC* texture,
      const CUDA_RESOURCE_VIEW_DESC*),
     {
       std::lock_guard lock(S().mutex);
       S().last_texture = {*resource, *texture};
       *object = 1;
     })

FAKE_EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version,
                                         cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  Enter("cuGetProcAddress_v2", false);
  const Entry* best = nullptr;
  for (const Entry& entry : Entries()) {
    if (std::strcmp(entry.name, symbol) != 0 || entry.version > version) continue;
    if (entry.per_thread && flags != CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) continue;
    const bool better = best == nullptr || entry.version > best->version ||
                        (entry.version == best->version && entry.per_thread);
    if (better) best = &entry;
  }
  *function = best != nullptr ? best->function : nullptr;
  if (status != nullptr) {
    *status = best != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  return CUDA_SUCCESS;
}
static const Register register_proc("cuGetProcAddress", 12000, false,
                                    reinterpret_cast<void*>(&cuGetProcAddress_v2));

FAKE_EXPORT const FakeDriver* fake_driver_control() {
  static const FakeDriver control = {
      [](const char* symbol) {
        std::lock_guard lock(S().mutex);
        int total = 0;
        for (const auto& [name, count] : S().calls) {
          if (symbol == nullptr || name == symbol) total += count;
        }
        return total;
      },
      [] {
        std::lock_guard lock(S().mutex);
        S().calls.clear();
      },
      [](const char* symbol, CUresult result) {
        std::lock_guard lock(S().mutex);
        if (result == CUDA_SUCCESS) {
          S().failures.erase(symbol);
        } else {
          S().failures[symbol] = result;
        }
      },
      [](const char* name, FakeKernel function) {
        std::lock_guard lock(S().mutex);
        S().kernels[name] = function;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_launch;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_image;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return static_cast<int>(S().libraries.size());
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_copy_3d;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_copy_2d;
      },
      [](bool only) {
        std::lock_guard lock(S().mutex);
        S().record_copies_2d_only = only;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_kernel_node;
      },
      [] {
        std::lock_guard lock(S().mutex);
        return S().last_texture;
      },
  };
  return &control;
}
