// cuModule*: one round trip per load; what is inside a module is then known.
#include <memory>
#include <string>
#include <utility>

#include "client/custom.h"
#include "client/driver/module/code.h"
#include "client/driver/module/image_load.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

// `load` does the loading, as MintLoaded wants it.
template <typename LoadFunction>
CUresult LoadModule(CUmodule* out, LoadFunction load) {
  FARWARP_ENTER_CONTEXT(caller);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto record = std::make_unique<Module>();
  record->context_handle = caller.context_handle;
  record->context = caller.context;
  Handle handle;
  const CUresult result =
      MintLoaded(caller, caller.process->modules, std::move(record), load, &handle);
  if (result == CUDA_SUCCESS) *out = wire::ToPointer<CUmodule>(handle);
  return result;
}

CUresult LoadData(CUmodule* module, const void* image, const JitOptions& options) {
  return LoadModule(module, [&](Session& session, Handle handle, Module& record) {
    return LoadImage(session, InternalCommand::kLoadModule, handle, image, options, &record.table);
  });
}

}  // namespace

CUresult cuModuleLoad(CUmodule* module, const char* fname) {
  return LoadModule(module, [&](Session& session, Handle handle, Module& record) {
    return LoadImageFile(session, InternalCommand::kLoadModule, handle, fname, {}, &record.table);
  });
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return LoadData(module, image, {});
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int numOptions,
                            CUjit_option* options, void** optionValues) {
  return LoadData(module, image, {numOptions, options, optionValues});
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* fatCubin) {
  return LoadData(module, fatCubin, {});
}

CUresult cuModuleUnload(CUmodule hmod) {
  FARWARP_ENTER(caller);
  const Module* module = caller.process->modules.Find(hmod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (module->library.bits() != 0) return CUDA_ERROR_INVALID_HANDLE;  // It is the library's.
  Ending ending;
  DropModule(*caller.process, wire::FromPointer(hmod), ending);
  return PostEnd(caller.session(), InternalCommand::kUnloadModule, wire::FromPointer(hmod),
                 module->context_handle);
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  FARWARP_ENTER(caller);
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* hfunc, CUmodule hmod, const char* name) {
  FARWARP_ENTER(caller);
  return NameKernel(caller, caller.process->modules.Find(hmod), name, FunctionAt, hfunc);
}

CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule mod) {
  FARWARP_ENTER(caller);
  return CountKernels(caller.process->modules.Find(mod), count);
}

CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned int numFunctions,
                                    CUmodule mod) {
  FARWARP_ENTER(caller);
  return ListKernels(caller, caller.process->modules.Find(mod), numFunctions, FunctionAt,
                     functions);
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
  FARWARP_ENTER(caller);
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  Module* module = caller.process->modules.Find(hmod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return FindVariable(caller, *module, InternalCommand::kModuleGlobal, module->context_handle, name,
                      std::string(name), dptr, bytes);
}

}  // namespace farwarp::client::custom
