// Modules: loading into the current context, functions and variables by name.
#include "farwarp/base/log.h"
#include "server/softgpu/api/module/file.h"
#include "server/softgpu/api/module/jit_options.h"
#include "server/softgpu/api/module/module.h"

using namespace farwarp::softgpu;

namespace {

// Code compiled for a newer device could not be loaded on this one.
CUresult TargetTooNew(JitOptions& options, int capability) {
  JitLog log;
  log.error = "the option CU_JIT_TARGET asks for sm_" + std::to_string(options.target()) +
              ", the device is sm_" + std::to_string(capability);
  FARWARP_LOG(kError, "softgpu: %s", log.error.c_str());
  options.Finish(log);
  return CUDA_ERROR_NO_BINARY_FOR_GPU;
}

int WantedTarget(const Context& context, const JitOptions& options) {
  return options.target() != 0 ? options.target() : context.device().compute_capability();
}

CUresult Load(Driver& driver, Context& context, const LoadedImage& image, JitOptions& options,
              CUmodule* result) {
  Code code;
  JitLog log;
  const int capability = context.device().compute_capability();
  if (options.target() > capability) return TargetTooNew(options, capability);
  const CUresult loaded = LoadCode(driver, image, {context.device().ordinal(), true, capability},
                                   {true, options.verbose()}, &log, &code);
  options.Finish(log);
  context.print().Flush();
  if (loaded != CUDA_SUCCESS) return loaded;
  auto module = std::make_shared<LoadedModule>(context.shared_from_this(), std::move(code), false);
  const CUmodule handle = driver.modules.Add(module);
  module->set_handle(handle);
  *result = handle;
  return CUDA_SUCCESS;
}

template <typename Body>
CUresult CallModule(CUmodule handle, Body&& body) noexcept {
  return CallContext([&](Driver& driver, Context&) -> CUresult {
    const std::shared_ptr<LoadedModule> module = driver.modules.Find(handle);
    return module == nullptr ? CUDA_ERROR_INVALID_HANDLE : body(driver, module);
  });
}

}  // namespace

extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int numOptions,
                            CUjit_option* options, void** optionValues) {
  return CallContext([&](Driver& driver, Context& context) {
    if (module == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit(numOptions, options, optionValues);
    if (const CUresult valid = jit.Read(); valid != CUDA_SUCCESS) return valid;
    return Load(driver, context, LoadImage(image, WantedTarget(context, jit)), jit, module);
  });
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* fatCubin) {
  return cuModuleLoadDataEx(module, fatCubin, 0, nullptr, nullptr);
}

CUresult cuModuleLoad(CUmodule* module, const char* fname) {
  return CallContext([&](Driver& driver, Context& context) {
    if (module == nullptr || fname == nullptr) return CUDA_ERROR_INVALID_VALUE;
    std::vector<std::byte> contents;
    const CUresult read = ReadImageFile(fname, &contents);
    if (read != CUDA_SUCCESS) return read;
    JitOptions none(0, nullptr, nullptr);
    return Load(driver, context, LoadImageBytes(contents, context.device().compute_capability()),
                none, module);
  });
}

CUresult cuModuleUnload(CUmodule hmod) {
  return CallModule(hmod, [&](Driver& driver, const std::shared_ptr<LoadedModule>& module) {
    if (module->from_library()) return CUDA_ERROR_NOT_PERMITTED;
    if (driver.modules.Remove(hmod) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    driver.functions.RemoveIf([&](const Function& f) { return f.module() == module; });
    // Kernels in flight may use its variables; they keep the module alive, but the memory must not
    // be counted as free too early either.
    return module->context()->Synchronize(nullptr);
  });
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  return CallDriver([&](Driver&) {
    if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *mode = CU_MODULE_LAZY_LOADING;
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetFunction(CUfunction* hfunc, CUmodule hmod, const char* name) {
  return CallModule(hmod, [&](Driver& driver, const std::shared_ptr<LoadedModule>& module) {
    if (hfunc == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Kernel* kernel = module->code().FindKernel(name);
    if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
    *hfunc = LoadedModule::FunctionOf(driver, module, kernel, nullptr);
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule mod) {
  return CallModule(mod, [&](Driver&, const std::shared_ptr<LoadedModule>& module) {
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<unsigned>(module->code().Kernels().size());
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned int numFunctions,
                                    CUmodule mod) {
  return CallModule(mod, [&](Driver& driver, const std::shared_ptr<LoadedModule>& module) {
    if (functions == nullptr || numFunctions == 0) return CUDA_ERROR_INVALID_VALUE;
    unsigned i = 0;
    for (const Kernel* kernel : module->code().Kernels()) {
      if (i == numFunctions) break;
      functions[i++] = LoadedModule::FunctionOf(driver, module, kernel, nullptr);
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
  return CallModule(hmod, [&](Driver&, const std::shared_ptr<LoadedModule>& module) {
    if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Global* global = module->code().FindGlobal(name);
    if (global == nullptr) return CUDA_ERROR_NOT_FOUND;
    if (dptr != nullptr) *dptr = global->address;
    if (bytes != nullptr) *bytes = global->bytes;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
