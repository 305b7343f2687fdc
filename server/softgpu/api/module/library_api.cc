// Libraries and kernels: device code that belongs to no context.
#include "server/softgpu/api/module/file.h"
#include "server/softgpu/api/module/jit_options.h"
#include "server/softgpu/api/module/module.h"

using namespace farwarp::softgpu;

namespace {

// All devices have the same compute capability.
int Capability(Driver& driver) {
  return driver.devices.front()->compute_capability();
}

CUresult Load(Driver& driver, LoadedImage image, JitOptions& options, CUlibrary* result) {
  Code index;
  JitLog log;
  const CUresult loaded = LoadCode(driver, image, {0, false, Capability(driver)},
                                   {true, options.verbose()}, &log, &index);
  options.Finish(log);
  if (loaded != CUDA_SUCCESS) return loaded;
  *result = driver.libraries.Add(std::make_shared<Library>(std::move(image), std::move(index)));
  return CUDA_SUCCESS;
}

CUresult CheckOptions(CUlibraryOption* options, unsigned count) {
  if (count != 0 && options == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (options[i] >= CU_LIBRARY_NUM_OPTIONS) return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

template <typename Body>
CUresult CallLibrary(CUlibrary handle, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    const std::shared_ptr<Library> library = driver.libraries.Find(handle);
    return library == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(driver, library);
  });
}

template <typename Body>
CUresult CallKernel(CUkernel handle, Body&& body) noexcept {
  return CallDriver([&](Driver& driver) -> CUresult {
    const std::shared_ptr<LibraryKernel> kernel = driver.kernels.Find(handle);
    return kernel == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(driver, *kernel);
  });
}

// The library's module in the calling thread's context.
CUresult ModuleHere(Driver& driver, Library& library, std::shared_ptr<LoadedModule>* module) {
  std::shared_ptr<Context> context;
  const CUresult result = CurrentContext(driver, &context);
  if (result != CUDA_SUCCESS) return result;
  if (const CUresult error = context->error(); error != CUDA_SUCCESS) return error;
  return library.ModuleIn(driver, context, module);
}

CUresult Variable(CUdeviceptr* dptr, size_t* bytes, CUlibrary handle, const char* name,
                  bool managed) noexcept {
  return CallLibrary(handle, [&](Driver& driver, const std::shared_ptr<Library>& library) {
    if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::shared_ptr<LoadedModule> module;
    const CUresult result = ModuleHere(driver, *library, &module);
    if (result != CUDA_SUCCESS) return result;
    const Global* global = module->code().FindGlobal(name);
    if (global == nullptr || (managed && !global->is_managed)) return CUDA_ERROR_NOT_FOUND;
    if (dptr != nullptr) *dptr = global->address;
    if (bytes != nullptr) *bytes = global->bytes;
    return CUDA_SUCCESS;
  });
}

CUkernel KernelHandle(Driver& driver, const std::shared_ptr<Library>& library, CUlibrary handle,
                      const Kernel* kernel) {
  const CUkernel result = Library::KernelOf(driver, library, kernel);
  if (const auto object = driver.kernels.Find(result)) object->library_handle = handle;
  return result;
}

}  // namespace

extern "C" {

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jitOptions,
                           void** jitOptionsValues, unsigned int numJitOptions,
                           CUlibraryOption* libraryOptions, void**,
                           unsigned int numLibraryOptions) {
  return CallDriver([&](Driver& driver) {
    if (library == nullptr || code == nullptr) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit(numJitOptions, jitOptions, jitOptionsValues);
    CUresult valid = jit.Read();
    if (valid == CUDA_SUCCESS) valid = CheckOptions(libraryOptions, numLibraryOptions);
    if (valid != CUDA_SUCCESS) return valid;
    return Load(driver, LoadImage(code, Capability(driver)), jit, library);
  });
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                               void** jitOptionsValues, unsigned int numJitOptions,
                               CUlibraryOption* libraryOptions, void**,
                               unsigned int numLibraryOptions) {
  return CallDriver([&](Driver& driver) {
    if (library == nullptr || fileName == nullptr) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit(numJitOptions, jitOptions, jitOptionsValues);
    CUresult valid = jit.Read();
    if (valid == CUDA_SUCCESS) valid = CheckOptions(libraryOptions, numLibraryOptions);
    if (valid != CUDA_SUCCESS) return valid;
    std::vector<std::byte> contents;
    valid = ReadImageFile(fileName, &contents);
    if (valid != CUDA_SUCCESS) return valid;
    return Load(driver, LoadImageBytes(contents, Capability(driver)), jit, library);
  });
}

CUresult cuLibraryUnload(CUlibrary library) {
  return CallDriver([&](Driver& driver) {
    const std::shared_ptr<Library> removed = driver.libraries.Remove(library);
    if (removed == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    removed->Unload(driver);
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetKernel(CUkernel* pKernel, CUlibrary library, const char* name) {
  return CallLibrary(library, [&](Driver& driver, const std::shared_ptr<Library>& found) {
    if (pKernel == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Kernel* kernel = found->index().FindKernel(name);
    if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
    *pKernel = KernelHandle(driver, found, library, kernel);
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetKernelCount(unsigned int* count, CUlibrary lib) {
  return CallLibrary(lib, [&](Driver&, const std::shared_ptr<Library>& found) {
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<unsigned>(found->index().Kernels().size());
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned int numKernels, CUlibrary lib) {
  return CallLibrary(lib, [&](Driver& driver, const std::shared_ptr<Library>& found) {
    if (kernels == nullptr || numKernels == 0) return CUDA_ERROR_INVALID_VALUE;
    unsigned i = 0;
    for (const Kernel* kernel : found->index().Kernels()) {
      if (i == numKernels) break;
      kernels[i++] = KernelHandle(driver, found, lib, kernel);
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetModule(CUmodule* pMod, CUlibrary library) {
  return CallLibrary(library, [&](Driver& driver, const std::shared_ptr<Library>& found) {
    if (pMod == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::shared_ptr<LoadedModule> module;
    const CUresult result = ModuleHere(driver, *found, &module);
    if (result == CUDA_SUCCESS) *pMod = module->handle();
    return result;
  });
}

CUresult cuLibraryGetGlobal(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
  return Variable(dptr, bytes, library, name, false);
}
CUresult cuLibraryGetManaged(CUdeviceptr* dptr, size_t* bytes, CUlibrary library,
                             const char* name) {
  return Variable(dptr, bytes, library, name, true);
}

CUresult cuKernelGetFunction(CUfunction* pFunc, CUkernel kernel) {
  return CallContext([&](Driver& driver, Context& context) {
    if (pFunc == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const auto found = driver.kernels.Find(kernel);
    if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    std::shared_ptr<LoadedModule> module;
    const CUresult result = found->library()->ModuleIn(driver, context.shared_from_this(), &module);
    if (result != CUDA_SUCCESS) return result;
    const std::string& name = found->kernel().info().name;
    const Kernel* here = module->code().FindKernel(name);
    if (here == nullptr) return CUDA_ERROR_NOT_FOUND;
    *pFunc = LoadedModule::FunctionOf(driver, module, here, found->library()->SettingsOf(name));
    return CUDA_SUCCESS;
  });
}

CUresult cuKernelGetLibrary(CUlibrary* pLib, CUkernel kernel) {
  return CallKernel(kernel, [&](Driver&, LibraryKernel& found) {
    if (pLib == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *pLib = found.library_handle;
    return CUDA_SUCCESS;
  });
}

CUresult cuKernelGetAttribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
  return CallKernel(kernel, [&](Driver& driver, LibraryKernel& found) {
    const Device* device = driver.FindDevice(dev);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (pi == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return KernelAttribute(found.kernel(), found.settings(), *device, attrib, pi);
  });
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
  return CallKernel(kernel, [&](Driver& driver, LibraryKernel& found) {
    if (driver.FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    return SetKernelAttribute(found.kernel(), found.settings(), attrib, val);
  });
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
  return CallKernel(kernel, [&](Driver& driver, LibraryKernel&) {
    if (driver.FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    return config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  });
}

CUresult cuKernelGetName(const char** name, CUkernel hfunc) {
  return CallKernel(hfunc, [&](Driver&, LibraryKernel& found) {
    if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *name = found.kernel().info().name.c_str();
    return CUDA_SUCCESS;
  });
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t* paramOffset,
                              size_t* paramSize) {
  return CallKernel(kernel, [&](Driver&, LibraryKernel& found) {
    const auto& params = found.kernel().info().params;
    if (paramOffset == nullptr || paramIndex >= params.size()) return CUDA_ERROR_INVALID_VALUE;
    *paramOffset = params[paramIndex].offset;
    if (paramSize != nullptr) *paramSize = params[paramIndex].bytes;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
