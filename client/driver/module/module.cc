#include "client/driver/module/module.h"

#include "client/driver/memory/managed.h"
#include "client/driver/process.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"

namespace farwarp::client {

using wire::Handle;
using wire::IdOf;
using wire::InternalCommand;

Launchable* FindLaunchable(const Caller& caller, CUfunction function) noexcept {
  const Handle handle = wire::FromPointer(function);
  if (handle.kind() == wire::HandleKind::kKernel) return caller.process->kernels.Find(handle);
  return caller.process->functions.Find(handle);
}

void InitLaunchable(Launchable& launchable, std::shared_ptr<const FunctionTable> table,
                    std::uint32_t index) {
  launchable.table = std::move(table);
  launchable.info = &launchable.table->kernels()[index];
  launchable.max_dynamic_shared_bytes.store(
      launchable.info->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES]);
  launchable.preferred_carveout.store(
      launchable.info->attributes[CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT]);
}

namespace {

// Announces a handle that has just been minted in `objects`, and keeps it under `key` in `cache`;
// what the server is not told of is nowhere.
template <typename Objects, typename Cache, typename Key>
CUresult Announce(Command& command, Objects& objects, Handle handle, Cache& cache, const Key& key) {
  const CUresult result = command.Post();
  if (result == CUDA_SUCCESS) {
    cache[key] = handle;
  } else {
    static_cast<void>(objects.Remove(handle));
  }
  return result;
}

}  // namespace

CUresult FunctionAt(const Caller& caller, Module& module, std::uint32_t index, Handle* handle) {
  const MutexLock lock(module.mutex);
  if (const auto found = module.functions.find(index); found != module.functions.end()) {
    *handle = found->second;
    return CUDA_SUCCESS;
  }
  auto function = std::make_unique<Function>();
  InitLaunchable(*function, module.table, index);
  function->module = module.handle;
  function->context_handle = module.context_handle;
  *handle = caller.process->functions.Mint(std::move(function));
  if (handle->bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  const TravelIn travel(module.context_handle);
  Command command(caller.session(), IdOf(InternalCommand::kBindFunction));
  command.body().Put(handle->bits());
  command.body().Put(module.handle.bits());
  command.body().Put(index);
  return Announce(command, caller.process->functions, *handle, module.functions, index);
}

CUresult KernelAt(const Caller& caller, Library& library, std::uint32_t index, Handle* handle) {
  const MutexLock lock(library.mutex);
  if (const auto found = library.kernels.find(index); found != library.kernels.end()) {
    *handle = found->second;
    return CUDA_SUCCESS;
  }
  auto kernel = std::make_unique<Kernel>();
  InitLaunchable(*kernel, library.table, index);
  kernel->library = library.handle;
  *handle = caller.process->kernels.Mint(std::move(kernel));
  if (handle->bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  Command command(caller.session(), IdOf(InternalCommand::kBindKernel));
  command.DespiteContextError();  // A kernel belongs to none.
  command.body().Put(handle->bits());
  command.body().Put(library.handle.bits());
  command.body().Put(index);
  return Announce(command, caller.process->kernels, *handle, library.kernels, index);
}

CUresult FunctionOf(const Caller& caller, Handle kernel_handle, Kernel& kernel, Handle* handle) {
  const MutexLock lock(kernel.mutex);
  const auto found = kernel.functions.find(caller.context_handle.bits());
  if (found != kernel.functions.end()) {
    *handle = found->second;
    return CUDA_SUCCESS;
  }
  auto function = std::make_unique<Function>();
  function->table = kernel.table;
  function->info = kernel.info;
  function->max_dynamic_shared_bytes.store(kernel.max_dynamic_shared_bytes.load());
  function->preferred_carveout.store(kernel.preferred_carveout.load());
  function->kernel = kernel_handle;
  function->context_handle = caller.context_handle;
  *handle = caller.process->functions.Mint(std::move(function));
  if (handle->bits() == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  Command command(caller.session(), IdOf(InternalCommand::kKernelFunction));
  command.body().Put(handle->bits());
  command.body().Put(kernel_handle.bits());
  return Announce(command, caller.process->functions, *handle, kernel.functions,
                  caller.context_handle.bits());
}

void DropModule(Process& process, Handle handle, Ending& ending) {
  auto removed = process.modules.Remove(handle);
  if (removed == nullptr) return;
  Module& module = *ending.modules.emplace_back(std::move(removed)).get();
  process.globals.DropModule(handle.bits());
  const MutexLock lock(module.mutex);
  for (const auto& [index, function] : module.functions) {
    ending.functions.push_back(process.functions.Remove(function));
  }
}

void DropLibrary(Process& process, Handle handle, Ending& ending) {
  auto removed = process.libraries.Remove(handle);
  if (removed == nullptr) return;
  Library& library = *ending.libraries.emplace_back(std::move(removed)).get();
  process.managed().DropVariablesOf(handle.bits());
  process.globals.DropModule(handle.bits());
  const MutexLock lock(library.mutex);
  for (const auto& [index, kernel_handle] : library.kernels) {
    auto removed_kernel = process.kernels.Remove(kernel_handle);
    if (removed_kernel == nullptr) continue;
    Kernel& kernel = *ending.kernels.emplace_back(std::move(removed_kernel)).get();
    const MutexLock kernel_lock(kernel.mutex);
    for (const auto& [context, function] : kernel.functions) {
      ending.functions.push_back(process.functions.Remove(function));
    }
  }
  for (const auto& [context, module] : library.modules) DropModule(process, module, ending);
}

}  // namespace farwarp::client
