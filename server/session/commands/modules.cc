// Modules and libraries: loaded as sent, described once.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/base/log.h"
#include "farwarp/wire/limits.h"
#include "server/session/call.h"
#include "server/session/commands/commands.h"
#include "server/session/commands/jit.h"
#include "server/session/commands/resolve.h"
#include "server/session/commands/state.h"
#include "server/session/handle_table.h"
#include "server/session/session.h"

namespace farwarp::server {

using wire::Handle;
using wire::HandleKind;

namespace {

constexpr std::int32_t kFunctionAttributes = 16;
// A reply holds the table and two logs.
constexpr std::size_t kMaxTableBytes = wire::kMaxCommandBytes - 2 * wire::kMaxLogBytes - 64;

// What an entry for a module costs beside its functions.
constexpr std::uint64_t kEntryBytes = 512;

// What a load command says, and what the driver says to it.
struct Load {
  JitRequest jit;
  const char* image = nullptr;  // Terminated: PTX is text. Where it came, or in `copy`.
  std::string copy;
  ImageHold hold;
};

bool ReadLoad(Call& call, Load* load) {
  load->jit.Read(call);
  const bool bulk = ComesAsBulk(call);
  const auto image = ReadBulk(call, wire::kMaxImageBytes);
  if (!IsContained(image)) call.MarkBad();
  if (!Readable(call)) return false;
  auto hold = StateOf(call).host_budget.Take(HostBudget::Kind::kImages, image.size());
  if (!hold) {
    call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
    return false;
  }
  load->hold = std::make_shared<HostBudget::Hold>(std::move(hold));
  // A large image is not copied: behind bulk there is a zero.
  load->image = reinterpret_cast<const char*>(image.data());
  if (!bulk || image.empty()) load->image = load->copy.assign(load->image, image.size()).c_str();
  load->jit.Open();
  return true;
}

// A client does not read such a reply, and may lose its session by it.
CUresult TooLong(const char* what) {
  FARWARP_LOG(kWarn, "a module is refused: %s is too long to be sent", what);
  return CUDA_ERROR_NOT_SUPPORTED;
}

// Name, attributes and parameters of one kernel. The two kinds of object have the same questions
// under different names.
template <typename GetName, typename GetAttribute, typename GetParameter>
CUresult PutKernel(wire::Encoder& table, GetName get_name, GetAttribute get_attribute,
                   GetParameter get_parameter) {
  const char* name = nullptr;
  if (const CUresult result = get_name(&name); result != CUDA_SUCCESS) return result;
  if (std::strlen(name) > wire::kMaxStringBytes) return TooLong("the name of a kernel");
  table.PutString(name);
  table.Put(static_cast<std::uint64_t>(kFunctionAttributes));
  for (std::int32_t i = 0; i < kFunctionAttributes; ++i) {
    int value = 0;
    // A driver that is older than an attribute refuses it.
    if (get_attribute(&value, static_cast<CUfunction_attribute>(i)) != CUDA_SUCCESS) value = 0;
    table.Put(static_cast<std::int32_t>(value));
  }
  std::vector<std::pair<std::uint32_t, std::uint32_t>> parameters;
  std::size_t offset = 0, bytes = 0;
  while (parameters.size() < wire::kMaxKernelParameterBytes &&
         get_parameter(parameters.size(), &offset, &bytes) == CUDA_SUCCESS) {
    parameters.emplace_back(static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(bytes));
  }
  table.Put(static_cast<std::uint64_t>(parameters.size()));
  for (const auto& [at, size] : parameters) {
    table.Put(at);
    table.Put(size);
  }
  return table.bytes() <= kMaxTableBytes ? CUDA_SUCCESS : TooLong("the description of the kernels");
}

CUresult PutModuleTable(Call& call, wire::Encoder& table, CUmodule module,
                        std::vector<CUfunction>* functions) {
  const driver::Table& driver = call.driver();
  unsigned count = 0;
  CUresult result = driver.cuModuleGetFunctionCount(&count, module);
  if (result != CUDA_SUCCESS) return result;
  if (count > wire::kMaxModuleEntries) return CUDA_ERROR_NOT_SUPPORTED;
  functions->resize(count);
  if (count != 0) result = driver.cuModuleEnumerateFunctions(functions->data(), count, module);
  if (result != CUDA_SUCCESS) return result;
  table.Put(static_cast<std::uint64_t>(count));
  for (const CUfunction function : *functions) {
    result = PutKernel(
        table, [&](const char** name) { return driver.cuFuncGetName(name, function); },
        [&](int* value, CUfunction_attribute a) {
          return driver.cuFuncGetAttribute(value, a, function);
        },
        [&](std::size_t index, std::size_t* offset, std::size_t* bytes) {
          return driver.cuFuncGetParamInfo(function, index, offset, bytes);
        });
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult PutLibraryTable(Call& call, wire::Encoder& table, CUlibrary library,
                         std::vector<CUkernel>* kernels) {
  const driver::Table& driver = call.driver();
  const CUdevice device = StateOf(call).FindVgpu(0)->device;
  unsigned count = 0;
  CUresult result = driver.cuLibraryGetKernelCount(&count, library);
  if (result != CUDA_SUCCESS) return result;
  if (count > wire::kMaxModuleEntries) return CUDA_ERROR_NOT_SUPPORTED;
  kernels->resize(count);
  if (count != 0) result = driver.cuLibraryEnumerateKernels(kernels->data(), count, library);
  if (result != CUDA_SUCCESS) return result;
  table.Put(static_cast<std::uint64_t>(count));
  for (const CUkernel kernel : *kernels) {
    result = PutKernel(
        table, [&](const char** name) { return driver.cuKernelGetName(name, kernel); },
        [&](int* value, CUfunction_attribute a) {
          return driver.cuKernelGetAttribute(value, a, kernel, device);
        },
        [&](std::size_t index, std::size_t* offset, std::size_t* bytes) {
          return driver.cuKernelGetParamInfo(kernel, index, offset, bytes);
        });
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

// The question for a variable of a module or library; `ask` is the driver's function for it.
template <typename Owner, typename Ask>
void FindVariable(Call& call, HandleKind kind, Ask ask) {
  const Handle handle = PeekHandle(call);
  auto* owner = call.Resolve<Owner>(kind);
  const std::string name(call.args().GetString());
  if (!Readable(call)) return;
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  const CUresult result = ask(&address, &bytes, owner, name.c_str());
  if (result == CUDA_SUCCESS) {
    StateOf(call).AddVariable(handle, call.session().current_context(), address, bytes);
    call.results().Put(static_cast<std::uint64_t>(address));
    call.results().Put(static_cast<std::uint64_t>(bytes));
  }
  call.Finish(result);
}

}  // namespace

void HandleLoadModule(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kModule);
  Load load;
  if (!ReadLoad(call, &load)) return;
  CUmodule module = nullptr;
  CUresult result = call.driver().cuModuleLoadDataEx(&module, load.image, load.jit.count(),
                                                     load.jit.options(), load.jit.values());
  load.jit.Answer(call);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  LoadedModule loaded;
  wire::Buffer table;
  wire::Encoder encoder(table);
  result = PutModuleTable(call, encoder, module, &loaded.functions);
  if (result != CUDA_SUCCESS) {
    call.driver().cuModuleUnload(module);
    return call.Finish(result);
  }
  call.results().PutRaw(table.data(), table.size());
  call.Bind(handle, module);
  loaded.image = load.hold;
  StateOf(call).modules[handle.bits()] = std::move(loaded);
  call.Finish(CUDA_SUCCESS);
}

void HandleUnloadModule(Call& call) {
  const Handle handle = PeekHandle(call);
  const Handle owner = call.handles().OwnerOf(handle);
  auto* module = call.Resolve<CUmodule>(HandleKind::kModule);
  if (!Readable(call)) return;
  Unbind(call, handle);
  CommandState& state = StateOf(call);
  LoadedModule& loaded = state.modules[handle.bits()];
  for (const Handle function : loaded.bound) Unbind(call, function);
  const ImageHold image = loaded.image;
  state.modules.erase(handle.bits());
  state.DropVariables(handle);
  auto* context = static_cast<CUcontext>(call.handles().Find(owner));
  // Waits for kernels that still run.
  state.finisher.Run(call, [&driver = call.driver(), context, module, image]() -> Finisher::Answer {
    if (const CUresult result = driver.cuCtxSetCurrent(context); result != CUDA_SUCCESS) {
      return {result, {}};
    }
    const CUresult result = driver.cuModuleUnload(module);
    static_cast<void>(driver.cuCtxSetCurrent(nullptr));
    return {result, {}};
  });
}

void HandleModuleGlobal(Call& call) {
  FindVariable<CUmodule>(call, HandleKind::kModule, call.driver().cuModuleGetGlobal_v2);
}

void HandleBindFunction(Call& call) {
  const Handle function = call.ReadNew(HandleKind::kFunction);
  const Handle handle = PeekHandle(call);
  call.Resolve<CUmodule>(HandleKind::kModule);
  const auto index = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  LoadedModule& module = StateOf(call).modules[handle.bits()];
  if (index >= module.functions.size()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  // Of the module's context, whichever is current.
  call.handles().Bind(function, module.functions[index], call.handles().OwnerOf(handle));
  module.bound.push_back(function);
  call.Finish(CUDA_SUCCESS);
}

void HandleLoadLibrary(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kLibrary);
  Load load;
  if (!ReadLoad(call, &load)) return;
  CUlibrary library = nullptr;
  CUresult result =
      call.driver().cuLibraryLoadData(&library, load.image, load.jit.options(), load.jit.values(),
                                      load.jit.count(), nullptr, nullptr, 0);
  load.jit.Answer(call);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  LoadedLibrary loaded;
  wire::Buffer table;
  wire::Encoder encoder(table);
  result = PutLibraryTable(call, encoder, library, &loaded.kernels);
  if (result != CUDA_SUCCESS) {
    call.driver().cuLibraryUnload(library);
    return call.Finish(result);
  }
  call.results().PutRaw(table.data(), table.size());
  call.Bind(handle, library);
  loaded.image = load.hold;
  StateOf(call).libraries[handle.bits()] = std::move(loaded);
  call.Finish(CUDA_SUCCESS);
}

void HandleUnloadLibrary(Call& call) {
  const Handle handle = PeekHandle(call);
  auto* library = call.Resolve<CUlibrary>(HandleKind::kLibrary);
  if (!Readable(call)) return;
  Unbind(call, handle);
  CommandState& state = StateOf(call);
  LoadedLibrary& loaded = state.libraries[handle.bits()];
  for (const Handle kernel : loaded.bound) Unbind(call, kernel);
  for (const Handle module : loaded.modules) {
    for (const Handle function : state.modules[module.bits()].bound) Unbind(call, function);
    state.modules.erase(module.bits());
    state.DropVariables(module);
    Unbind(call, module);
  }
  const ImageHold image = loaded.image;
  state.libraries.erase(handle.bits());
  state.DropVariables(handle);
  state.finisher.Run(call, [&driver = call.driver(), library, image]() -> Finisher::Answer {
    return {driver.cuLibraryUnload(library), {}};
  });
}

void HandleLibraryGlobal(Call& call) {
  FindVariable<CUlibrary>(call, HandleKind::kLibrary, call.driver().cuLibraryGetGlobal);
}

void HandleLibraryManaged(Call& call) {
  FindVariable<CUlibrary>(call, HandleKind::kLibrary, call.driver().cuLibraryGetManaged);
}

void HandleBindKernel(Call& call) {
  const Handle kernel = call.ReadNew(HandleKind::kKernel);
  const Handle handle = PeekHandle(call);
  call.Resolve<CUlibrary>(HandleKind::kLibrary);
  const auto index = call.args().Get<std::uint32_t>();
  if (!Readable(call)) return;
  LoadedLibrary& library = StateOf(call).libraries[handle.bits()];
  if (index >= library.kernels.size()) return call.Finish(CUDA_ERROR_INVALID_VALUE);
  call.Bind(kernel, library.kernels[index]);
  library.bound.push_back(kernel);
  call.Finish(CUDA_SUCCESS);
}

void HandleKernelFunction(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kFunction);
  const Handle kernel_handle = PeekHandle(call);
  auto* kernel = call.Resolve<CUkernel>(HandleKind::kKernel);
  if (!Readable(call)) return;
  CUfunction function = nullptr;
  const CUresult result = call.driver().cuKernelGetFunction(&function, kernel);
  if (result == CUDA_SUCCESS) {
    call.Bind(handle, function);
    // It ends with the kernel's library.
    for (auto& [bits, library] : StateOf(call).libraries) {
      if (std::none_of(library.bound.begin(), library.bound.end(),
                       [&](const Handle bound) { return bound.bits() == kernel_handle.bits(); })) {
        continue;
      }
      library.bound.push_back(handle);
      break;
    }
  }
  call.Finish(result);
}

void HandleLibraryModule(Call& call) {
  const Handle handle = call.ReadNew(HandleKind::kModule);
  const Handle owner = PeekHandle(call);
  auto* library = call.Resolve<CUlibrary>(HandleKind::kLibrary);
  if (!Readable(call)) return;
  CUmodule module = nullptr;
  CUresult result = call.driver().cuLibraryGetModule(&module, library);
  if (result != CUDA_SUCCESS) return call.Finish(result);
  LoadedModule loaded;
  wire::Buffer table;
  wire::Encoder encoder(table);
  result = PutModuleTable(call, encoder, module, &loaded.functions);
  if (result == CUDA_SUCCESS) {
    // A client may ask for as many as it has handles. The image itself is the library's.
    const std::uint64_t bytes = kEntryBytes + loaded.functions.size() * sizeof(CUfunction);
    auto hold = StateOf(call).host_budget.Take(HostBudget::Kind::kImages, bytes);
    if (!hold) return call.Finish(CUDA_ERROR_OUT_OF_MEMORY);
    loaded.image = std::make_shared<HostBudget::Hold>(std::move(hold));
    call.results().PutRaw(table.data(), table.size());
    call.Bind(handle, module);
    StateOf(call).modules[handle.bits()] = std::move(loaded);
    StateOf(call).libraries[owner.bits()].modules.push_back(handle);
  }
  call.Finish(result);
}

void HandleFunctionAttribute(Call& call) {
  auto* function = ResolveFunction(call);
  const auto attribute = static_cast<CUfunction_attribute>(call.args().Get<std::int32_t>());
  const auto value = call.args().Get<std::int32_t>();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuFuncSetAttribute(function, attribute, value));
}

void HandleKernelAttribute(Call& call) {
  auto* kernel = call.Resolve<CUkernel>(HandleKind::kKernel);
  const auto attribute = static_cast<CUfunction_attribute>(call.args().Get<std::int32_t>());
  const auto value = call.args().Get<std::int32_t>();
  const VgpuMemory* vgpu = StateOf(call).FindVgpu(call.args().Get<std::uint32_t>());
  if (vgpu == nullptr) call.MarkBad();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuKernelSetAttribute(attribute, value, kernel, vgpu->device));
}

void HandleFunctionCacheConfig(Call& call) {
  auto* function = ResolveFunction(call);
  const auto config = static_cast<CUfunc_cache>(call.args().Get<std::int32_t>());
  if (!Readable(call)) return;
  call.Finish(call.driver().cuFuncSetCacheConfig(function, config));
}

void HandleKernelCacheConfig(Call& call) {
  auto* kernel = call.Resolve<CUkernel>(HandleKind::kKernel);
  const auto config = static_cast<CUfunc_cache>(call.args().Get<std::int32_t>());
  const VgpuMemory* vgpu = StateOf(call).FindVgpu(call.args().Get<std::uint32_t>());
  if (vgpu == nullptr) call.MarkBad();
  if (!Readable(call)) return;
  call.Finish(call.driver().cuKernelSetCacheConfig(kernel, config, vgpu->device));
}

}  // namespace farwarp::server
