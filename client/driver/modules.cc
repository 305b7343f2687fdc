// cuModule*: one round trip per load; what is inside a module is then known.
#include <cstring>
#include <memory>

#include "client/custom.h"
#include "client/driver/image_load.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

// `load(handle, table)` does the loading.
template <typename LoadFunction>
CUresult LoadModule(CUmodule* out, LoadFunction load) {
  FARWARP_ENTER_CONTEXT(caller);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto record = std::make_unique<Module>();
  record->context_handle = caller.context_handle;
  record->context = caller.context;
  Module* module = record.get();
  const Handle handle = caller.process->modules.Mint(std::move(record));
  if (handle.bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  module->handle = handle;
  const CUresult result = load(caller.session(), handle, &module->table);
  if (result != CUDA_SUCCESS) {
    caller.process->modules.Remove(handle);
    return result;
  }
  *out = wire::ToPointer<CUmodule>(handle);
  return CUDA_SUCCESS;
}

CUresult LoadData(CUmodule* module, const void* image, const JitOptions& options) {
  return LoadModule(module, [&](Session& session, Handle handle, auto* table) {
    return LoadImage(session, InternalCommand::kLoadModule, handle, image, options, table);
  });
}

}  // namespace

CUresult cuModuleLoad(CUmodule* module, const char* fname) {
  return LoadModule(module, [&](Session& session, Handle handle, auto* table) {
    return LoadImageFile(session, InternalCommand::kLoadModule, handle, fname, {}, table);
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
  DropModule(*caller.process, wire::FromPointer(hmod));
  Command command(caller.session(), IdOf(InternalCommand::kUnloadModule));
  command.body().PutPointer(hmod);
  return command.Post();
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  FARWARP_ENTER(caller);
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* hfunc, CUmodule hmod, const char* name) {
  FARWARP_ENTER(caller);
  if (hfunc == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Module* module = caller.process->modules.Find(hmod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const auto index = module->table->Find(name);
  if (!index.has_value()) return CUDA_ERROR_NOT_FOUND;
  Handle handle;
  const CUresult result = FunctionAt(caller, *module, *index, &handle);
  if (result == CUDA_SUCCESS) *hfunc = wire::ToPointer<CUfunction>(handle);
  return result;
}

CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule mod) {
  FARWARP_ENTER(caller);
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Module* module = caller.process->modules.Find(mod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *count = static_cast<unsigned>(module->table->kernels().size());
  return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned int numFunctions,
                                    CUmodule mod) {
  FARWARP_ENTER(caller);
  if (functions == nullptr && numFunctions > 0) return CUDA_ERROR_INVALID_VALUE;
  Module* module = caller.process->modules.Find(mod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  for (std::uint32_t i = 0; i < numFunctions && i < module->table->kernels().size(); ++i) {
    Handle handle;
    const CUresult result = FunctionAt(caller, *module, i, &handle);
    if (result != CUDA_SUCCESS) return result;
    functions[i] = wire::ToPointer<CUfunction>(handle);
  }
  return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
  FARWARP_ENTER(caller);
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  Module* module = caller.process->modules.Find(hmod);
  if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Variable variable;
  bool known = false;
  {
    const MutexLock lock(module->mutex);
    const auto found = module->globals.find(std::string_view(name));
    known = found != module->globals.end();
    if (known) variable = found->second;
  }
  if (!known) {
    const CUresult result = AskVariable(caller.session(), InternalCommand::kModuleGlobal,
                                        module->handle, name, &variable.address, &variable.bytes);
    if (result != CUDA_SUCCESS) return result;
    caller.process->globals.Add(
        {variable.address, variable.bytes, module->handle.bits(), module->context_handle.bits()});
    const MutexLock lock(module->mutex);
    module->globals.emplace(name, variable);
  }
  if (dptr != nullptr) *dptr = variable.address;
  if (bytes != nullptr) *bytes = variable.bytes;
  return CUDA_SUCCESS;
}

}  // namespace farwarp::client::custom
