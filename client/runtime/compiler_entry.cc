// The entry points that compiled host code calls: registration and the halves of a <<<>>> launch.
//
// Registration runs in constructors, before main or inside dlopen; it stores and nothing else. The
// stubs drop what the launch calls return, so that every failure must be remembered as the thread's
// last error.
#include <exception>

#include "client/runtime/api.h"
#include "client/runtime/launch.h"
#include "client/runtime/registry.h"
#include "farwarp/base/log.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

namespace {

struct Configuration {
  LaunchShape shape;
  cudaStream_t stream;
};

// Launch configurations between their push and their pop. They nest only as deep as a program
// launches kernels inside the arguments of a launch.
constexpr int kMaxNesting = 32;
struct ConfigurationStack {
  // Raw bytes: the element type has a constructor, and a thread-local array of it would need one.
  alignas(Configuration) unsigned char storage[kMaxNesting * sizeof(Configuration)];
  int depth;
  Configuration* at(int i) { return reinterpret_cast<Configuration*>(storage) + i; }
};
constinit thread_local ConfigurationStack configurations{};

Image* ToImage(void** handle) {
  return reinterpret_cast<Image*>(handle);
}

// Runs `body`; what cannot be stored for want of memory is logged and shows as an unknown symbol.
template <typename Body>
void Store(const char* what, Body&& body) noexcept {
  try {
    body();
  } catch (const std::exception& failure) {
    FARWARP_LOG(kError, "cuda runtime: cannot register %s: %s", what, failure.what());
  }
}

}  // namespace

extern "C" {

FARWARP_EXPORT void** __cudaRegisterFatBinary(void* wrapper) {
  void** handle = nullptr;
  Store("device code", [&] {
    Process::Get();  // Its fork handlers guard the registry from here on.
    handle = reinterpret_cast<void**>(Registry::Get().AddImage(wrapper));
  });
  return handle;
}

FARWARP_EXPORT void __cudaRegisterFatBinaryEnd(void** /*handle*/) {}

FARWARP_EXPORT void __cudaUnregisterFatBinary(void** handle) {
  if (handle == nullptr) return;
  Process& process = Process::Get();
  // At the end of the process the driver unloads everything by itself, or already did.
  const bool unload = process.started() && !process.exiting();
  Store("the end of device code",
        [&] { Registry::Get().Remove(ToImage(handle), unload ? &process.driver() : nullptr); });
}

FARWARP_EXPORT void __cudaRegisterFunction(void** handle, const char* host, char* /*device*/,
                                           const char* name, int /*thread_limit*/, void* /*tid*/,
                                           void* /*bid*/, void* /*block*/, void* /*grid*/,
                                           int* /*warp_size*/) {
  if (handle == nullptr || name == nullptr) return;
  Store(name, [&] { Registry::Get().AddFunction(ToImage(handle), host, name); });
}

FARWARP_EXPORT void __cudaRegisterVar(void** handle, char* host, char* /*device*/, const char* name,
                                      int /*ext*/, size_t bytes, int /*constant*/, int /*global*/) {
  if (handle == nullptr || name == nullptr) return;
  Store(name, [&] { Registry::Get().AddVariable(ToImage(handle), host, name, bytes); });
}

FARWARP_EXPORT void __cudaRegisterManagedVar(void** handle, void** host_pointer, char* /*device*/,
                                             const char* name, int /*ext*/, size_t bytes,
                                             int /*constant*/, int /*global*/) {
  if (handle == nullptr || name == nullptr || host_pointer == nullptr) return;
  Store(name, [&] { Registry::Get().AddManaged(ToImage(handle), host_pointer, name, bytes); });
}

// Host code is about to touch a managed variable: load the image, which fills the pointer.
FARWARP_EXPORT char __cudaInitModule(void** handle) {
  if (handle == nullptr) return 0;
  const cudaError_t error = WithContext(StreamMode::kLegacy, [&](const Driver& d) -> Outcome {
    CUlibrary library = nullptr;
    return ToImage(handle)->Load(d, &library);
  });
  if (error != cudaSuccess) {
    Store("a place for managed variables", [&] { ToImage(handle)->FillPlaceholders(); });
  }
  return error == cudaSuccess;
}

FARWARP_EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                                    cudaStream_t stream) {
  if (configurations.depth >= kMaxNesting) {
    Process::Get().Record(cudaErrorInvalidConfiguration);
    return 1;
  }
  *configurations.at(configurations.depth++) = {{grid, block, shared_bytes}, stream};
  return 0;
}

FARWARP_EXPORT cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes,
                                                      void* stream) {
  if (configurations.depth == 0) return Process::Get().Record(cudaErrorMissingConfiguration);
  const Configuration& top = *configurations.at(--configurations.depth);
  *grid = top.shape.grid;
  *block = top.shape.block;
  *shared_bytes = top.shape.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = top.stream;
  return cudaSuccess;
}

// The stub keeps the handle for the life of the process, so it must need no driver yet.
FARWARP_EXPORT cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  Function* function = Registry::Get().FindFunction(host);
  *kernel = reinterpret_cast<cudaKernel_t>(function);
  return function != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

FARWARP_EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block,
                                              void** arguments, size_t shared_bytes,
                                              cudaStream_t stream) {
  return WithContext(StreamMode::kLegacy, [&](const Driver& d) {
    return Launch(d, reinterpret_cast<Function*>(kernel), {grid, block, shared_bytes}, arguments,
                  stream);
  });
}

FARWARP_EXPORT cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block,
                                                   void** arguments, size_t shared_bytes,
                                                   cudaStream_t stream) {
  return WithContext(StreamMode::kPerThread, [&](const Driver& d) {
    return Launch(d, reinterpret_cast<Function*>(kernel), {grid, block, shared_bytes}, arguments,
                  stream);
  });
}

}  // extern "C"
