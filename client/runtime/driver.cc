#include "client/runtime/driver.h"

#include <dlfcn.h>

#include <string>

namespace farwarp::runtime {
namespace {

using GetProcAddress = decltype(&::cuGetProcAddress_v2);

// Stands in for a function that the driver does not have.
template <typename Function>
struct Missing;
template <typename... Arguments>
struct Missing<CUresult (*)(Arguments...)> {
  static CUresult Call(Arguments...) { return CUDA_ERROR_NOT_SUPPORTED; }
};

template <typename Function>
void Resolve(GetProcAddress resolve, const char* name, int version, cuuint64_t flags,
             Function* slot) {
  void* found = nullptr;
  CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
  const CUresult result = resolve(name, &found, version, flags, &status);
  *slot = result == CUDA_SUCCESS && found != nullptr ? reinterpret_cast<Function>(found)
                                                     : &Missing<Function>::Call;
}

void FillLegacy(GetProcAddress resolve, Driver* driver) {
#define X(name, version, twin_version, symbol) \
  Resolve(resolve, "cu" #name, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, &driver->name);
#include "client/runtime/driver_functions.inc"
#undef X
}

void FillPerThread(GetProcAddress resolve, Driver* driver) {
#define X(name, version, twin_version, symbol)                                              \
  Resolve(resolve, "cu" #name, twin_version, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, \
          &driver->name);
#include "client/runtime/driver_functions.inc"
#undef X
}

}  // namespace

Status LoadDriver(DriverTables* tables, int* version) {
  *version = 0;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return Status::Unavailable(std::string("no CUDA driver: ") +
                               (reason != nullptr ? reason : "libcuda.so.1 cannot be loaded"));
  }
  const auto get_version =
      reinterpret_cast<decltype(&::cuDriverGetVersion)>(dlsym(library, "cuDriverGetVersion"));
  if (get_version == nullptr || get_version(version) != CUDA_SUCCESS) {
    *version = 0;
    return Status::Unavailable("libcuda.so.1 does not tell its version");
  }
  const auto resolve = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
  if (*version < kOldestDriver || resolve == nullptr) {
    return Status::Unavailable("the CUDA driver is of version " + std::to_string(*version) +
                               ", this runtime needs " + std::to_string(kOldestDriver));
  }
  FillLegacy(resolve, &tables->legacy);
  FillPerThread(resolve, &tables->per_thread);
  return Status::Ok();
}

}  // namespace farwarp::runtime
