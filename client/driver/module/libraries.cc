// cuLibrary* and cuKernel*: code that belongs to no context. A library is loaded with one round
// trip; its kernels are then known.
#include <memory>
#include <string>
#include <utility>

#include "client/custom.h"
#include "client/driver/memory/managed.h"
#include "client/driver/module/code.h"
#include "client/driver/module/image_load.h"
#include "client/driver/module/kernel_attributes.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/base/log.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client::custom {
namespace {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

template <typename LoadFunction>
CUresult LoadLibrary(CUlibrary* out, LoadFunction load) {
  FARWARP_ENTER(caller);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Handle handle;
  const CUresult result =
      MintLoaded(caller, caller.process->libraries, std::make_unique<Library>(), load, &handle);
  if (result == CUDA_SUCCESS) *out = wire::ToPointer<CUlibrary>(handle);
  return result;
}

}  // namespace

// The library options only say whether the caller's bytes stay valid; ours never need to.
CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jitOptions,
                           void** jitOptionsValues, unsigned int numJitOptions,
                           CUlibraryOption* /*libraryOptions*/, void** /*libraryOptionValues*/,
                           unsigned int /*numLibraryOptions*/) {
  return LoadLibrary(library, [&](Session& session, Handle handle, Library& record) {
    return LoadImage(session, InternalCommand::kLoadLibrary, handle, code,
                     {numJitOptions, jitOptions, jitOptionsValues}, &record.table);
  });
}
CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                               void** jitOptionsValues, unsigned int numJitOptions,
                               CUlibraryOption* /*libraryOptions*/, void** /*libraryOptionValues*/,
                               unsigned int /*numLibraryOptions*/) {
  return LoadLibrary(library, [&](Session& session, Handle handle, Library& record) {
    return LoadImageFile(session, InternalCommand::kLoadLibrary, handle, fileName,
                         {numJitOptions, jitOptions, jitOptionsValues}, &record.table);
  });
}

CUresult cuLibraryUnload(CUlibrary library) {
  FARWARP_ENTER(caller);
  const Handle handle = wire::FromPointer(library);
  if (caller.process->libraries.Find(handle) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Ending ending;
  DropLibrary(*caller.process, handle, ending);
  Command command(caller.session(), IdOf(InternalCommand::kUnloadLibrary));
  command.DespiteContextError();  // It belongs to none.
  command.body().Put(handle.bits());
  return command.Post();
}

CUresult cuLibraryGetKernel(CUkernel* pKernel, CUlibrary library, const char* name) {
  FARWARP_ENTER(caller);
  return NameKernel(caller, caller.process->libraries.Find(library), name, KernelAt, pKernel);
}

CUresult cuLibraryGetKernelCount(unsigned int* count, CUlibrary lib) {
  FARWARP_ENTER(caller);
  return CountKernels(caller.process->libraries.Find(lib), count);
}

CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned int numKernels, CUlibrary lib) {
  FARWARP_ENTER(caller);
  return ListKernels(caller, caller.process->libraries.Find(lib), numKernels, KernelAt, kernels);
}

CUresult cuLibraryGetModule(CUmodule* pMod, CUlibrary library) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pMod == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Library* record = caller.process->libraries.Find(library);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const MutexLock lock(record->mutex);
  const auto found = record->modules.find(caller.context_handle.bits());
  if (found != record->modules.end()) {
    *pMod = wire::ToPointer<CUmodule>(found->second);
    return CUDA_SUCCESS;
  }
  auto module = std::make_unique<Module>();
  module->context_handle = caller.context_handle;
  module->context = caller.context;
  module->library = record->handle;
  Handle handle;
  const auto ask = [library_handle = record->handle](Session& session, Handle minted, Module& of) {
    Reply reply;
    Command command(session, IdOf(InternalCommand::kLibraryModule));
    command.body().Put(minted.bits());
    command.body().Put(library_handle.bits());
    const CUresult asked = command.Call(reply);
    if (asked != CUDA_SUCCESS) return asked;
    of.table = std::make_shared<FunctionTable>(FunctionTable::Decode(reply.body()));
    return reply.Finish();
  };
  const CUresult result =
      MintLoaded(caller, caller.process->modules, std::move(module), ask, &handle);
  if (result != CUDA_SUCCESS) return result;
  record->modules[caller.context_handle.bits()] = handle;
  *pMod = wire::ToPointer<CUmodule>(handle);
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
  FARWARP_ENTER_CONTEXT(caller);
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  Library* record = caller.process->libraries.Find(library);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const std::pair<std::uint64_t, std::string> key(caller.context_handle.bits(), name);
  return FindVariable(caller, *record, InternalCommand::kLibraryGlobal, caller.context_handle, name,
                      key, dptr, bytes);
}

CUresult cuLibraryGetManaged(CUdeviceptr* dptr, size_t* bytes, CUlibrary library,
                             const char* name) {
  FARWARP_ENTER_CONTEXT(caller);
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  Library* record = caller.process->libraries.Find(library);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  // Apart from the others: the same name may be asked for as a plain variable before.
  const std::pair<std::uint64_t, std::string> key(caller.context_handle.bits(),
                                                  std::string("managed ") + name);
  CUdeviceptr address = 0;
  std::size_t length = 0;
  CUresult result = FindVariable(caller, *record, InternalCommand::kLibraryManaged,
                                 caller.context_handle, name, key, &address, &length);
  if (result != CUDA_SUCCESS) return result;
  result = caller.process->managed().Adopt(caller, record->handle.bits(), address, length);
  if (result != CUDA_SUCCESS) return result;
  if (dptr != nullptr) *dptr = address;
  if (bytes != nullptr) *bytes = length;
  return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction* pFunc, CUkernel kernel) {
  FARWARP_ENTER_CONTEXT(caller);
  if (pFunc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Kernel* record = caller.process->kernels.Find(kernel);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Handle handle;
  const CUresult result = FunctionOf(caller, wire::FromPointer(kernel), *record, &handle);
  if (result == CUDA_SUCCESS) *pFunc = wire::ToPointer<CUfunction>(handle);
  return result;
}

CUresult cuKernelGetLibrary(CUlibrary* pLib, CUkernel kernel) {
  FARWARP_ENTER(caller);
  if (pLib == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Kernel* record = caller.process->kernels.Find(kernel);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *pLib = wire::ToPointer<CUlibrary>(record->library);
  return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char** name, CUkernel hfunc) {
  FARWARP_ENTER(caller);
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Kernel* record = caller.process->kernels.Find(hfunc);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *name = record->info->name.c_str();
  return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t* paramOffset,
                              size_t* paramSize) {
  FARWARP_ENTER(caller);
  const Kernel* record = caller.process->kernels.Find(kernel);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return ParameterInfo(*record->info, paramIndex, paramOffset, paramSize);
}

CUresult cuKernelGetAttribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
  FARWARP_ENTER(caller);
  const Kernel* record = caller.process->kernels.Find(kernel);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (caller.process->FindDevice(dev) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return GetKernelAttribute(*record, attrib, pi);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
  FARWARP_ENTER(caller);
  Kernel* record = caller.process->kernels.Find(kernel);
  if (record == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (const CUresult result = SetKernelAttribute(*record, device->limits, attrib, val);
      result != CUDA_SUCCESS) {
    return result;
  }
  {
    // Functions of this kernel are the same code.
    const MutexLock lock(record->mutex);
    for (const auto& [context, handle] : record->functions) {
      Function* function = caller.process->functions.Find(handle);
      if (function != nullptr) SetKernelAttribute(*function, device->limits, attrib, val);
    }
  }
  Command command(caller.session(), IdOf(InternalCommand::kKernelAttribute));
  command.DespiteContextError();
  command.body().PutPointer(kernel);
  command.body().Put(static_cast<std::int32_t>(attrib));
  command.body().Put(static_cast<std::int32_t>(val));
  command.body().Put(device->vgpu);
  return command.Post();
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
  FARWARP_ENTER(caller);
  if (caller.process->kernels.Find(kernel) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const Device* device = caller.process->FindDevice(dev);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Command command(caller.session(), IdOf(InternalCommand::kKernelCacheConfig));
  command.DespiteContextError();
  command.body().PutPointer(kernel);
  command.body().Put(static_cast<std::int32_t>(config));
  command.body().Put(device->vgpu);
  return command.Post();
}

}  // namespace farwarp::client::custom
