#include "server/softgpu/api/module/module.h"

#include <algorithm>
#include <utility>

#include "farwarp/base/log.h"
#include "server/softgpu/api/memory/device_memory.h"

namespace farwarp::softgpu {
namespace {

CUresult CodeError(const Status& status, JitLog* log) {
  if (log->error.empty()) log->error = status.message();
  FARWARP_LOG(kError, "softgpu: %s", status.message().c_str());
  return status.code() == StatusCode::kLimit ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_PTX;
}

// The assembler of a device refuses code for newer ones.
Status CheckTarget(const Kernel& kernel, int sm) {
  const KernelInfo& info = kernel.info();
  if (info.target <= sm) return Status::Ok();
  return Status::Invalid("kernel " + info.name + " is for sm_" + std::to_string(info.target) +
                         ", newer than the sm_" + std::to_string(sm) + " it is compiled for");
}

CUresult Measured(const Kernel& kernel) {
  const Status measured = kernel.Measure();
  if (measured.ok()) return CUDA_SUCCESS;
  FARWARP_LOG(kError, "softgpu: %s", measured.message().c_str());
  return CUDA_ERROR_INVALID_PTX;
}

std::string Describe(const KernelInfo& info) {
  return "kernel " + info.name + ": " + std::to_string(info.registers) + " registers, " +
         std::to_string(info.static_shared_bytes) + " bytes of shared memory, " +
         std::to_string(info.local_bytes) + " bytes of local memory per thread, " +
         std::to_string(info.param_bytes) + " bytes of parameters\n";
}

}  // namespace

VariableMemory::~VariableMemory() {
  for (const std::uint64_t address : addresses_) {
    if (const auto allocation = driver_.allocations.Remove(address)) {
      FreeMemory(driver_, *allocation);
    }
  }
}

Result<uint64_t> VariableMemory::Place(uint64_t bytes, uint64_t align, bool) {
  if (align > AddressSpace::kPage) return Status::Invalid("a variable's alignment is too large");
  Allocation wanted;
  wanted.kind = charged_ ? MemoryKind::kVariable : MemoryKind::kPinned;
  wanted.device = device_;
  std::uint64_t address = 0;
  if (AllocateMemory(driver_, wanted, std::max<std::uint64_t>(bytes, 1), &address) !=
      CUDA_SUCCESS) {
    return Status::Limit("not enough device memory for a variable of " + std::to_string(bytes) +
                         " bytes");
  }
  addresses_.push_back(address);
  return address;
}

const Kernel* Code::FindKernel(std::string_view name) const {
  for (const auto& module : modules) {
    if (const Kernel* kernel = module->FindKernel(name)) return kernel;
  }
  return nullptr;
}

const Global* Code::FindGlobal(std::string_view name) const {
  for (const auto& module : modules) {
    if (const Global* global = module->FindGlobal(name)) return global;
  }
  return nullptr;
}

std::vector<const Kernel*> Code::Kernels() const {
  std::vector<const Kernel*> all;
  for (const auto& module : modules) {
    all.insert(all.end(), module->kernels().begin(), module->kernels().end());
  }
  return all;
}

CUresult ImageError(const LoadedImage& image) {
  switch (image.problem) {
    case ImageProblem::kNone:
      return CUDA_SUCCESS;
    case ImageProblem::kNoBinary:
      return CUDA_ERROR_NO_BINARY_FOR_GPU;
    case ImageProblem::kInvalid:
      return CUDA_ERROR_INVALID_IMAGE;
  }
  return CUDA_ERROR_INVALID_IMAGE;
}

CUresult LoadCode(Driver& driver, const LoadedImage& image, const LoadTarget& target,
                  const LoadChecks& checks, JitLog* log, Code* code) {
  if (image.problem != ImageProblem::kNone) {
    log->error = image.message;
    FARWARP_LOG(kError, "softgpu: %s", image.message.c_str());
    return ImageError(image);
  }
  code->variables = std::make_unique<VariableMemory>(driver, target.device, target.charged);
  const auto add = [&](Result<std::unique_ptr<Module>> module, std::size_t bytes) {
    if (!module.ok()) return CodeError(module.status(), log);
    for (const Kernel* kernel : (*module)->kernels()) {
      if (const Status fits = CheckTarget(*kernel, target.sm); !fits.ok()) {
        return CodeError(fits, log);
      }
      if (!checks.bodies || bytes > kCheckedTextBytes) continue;
      if (const Status ready = kernel->Prepare(); !ready.ok()) return CodeError(ready, log);
      if (checks.verbose) log->info += Describe(kernel->info());
    }
    code->modules.push_back(*std::move(module));
    return CUDA_SUCCESS;
  };
  if (image.linked) {
    std::vector<LinkInput> inputs;
    std::size_t bytes = 0;
    for (const PtxText& text : image.ptx) {
      inputs.push_back({text.name, text.text});
      bytes += text.text.size();
    }
    return add(Module::Link(inputs, *code->variables, log), bytes);
  }
  for (const PtxText& text : image.ptx) {
    const CUresult result = add(Module::Load(text.text, *code->variables, log),
                                image.from_text ? text.text.size() : kCheckedTextBytes + 1);
    if (result != CUDA_SUCCESS) return result;
    // Functions that no kernel calls are part of the text, too.
    if (!checks.bodies || !image.from_text || text.text.size() > kCheckedTextBytes) continue;
    if (const Status read = code->modules.back()->ReadBodies(); !read.ok())
      return CodeError(read, log);
  }
  return CUDA_SUCCESS;
}

CUfunction LoadedModule::FunctionOf(Driver& driver, const std::shared_ptr<LoadedModule>& self,
                                    const Kernel* kernel,
                                    std::shared_ptr<FunctionSettings> settings) {
  const MutexLock lock(self->mutex_);
  CUfunction& handle = self->functions_[kernel];
  if (handle == nullptr) {
    if (settings == nullptr) settings = std::make_shared<FunctionSettings>();
    handle = driver.functions.Add(std::make_shared<Function>(self, kernel, std::move(settings)));
  }
  return handle;
}

CUresult Library::ModuleIn(Driver& driver, const std::shared_ptr<Context>& context,
                           std::shared_ptr<LoadedModule>* module) {
  const MutexLock lock(mutex_);
  std::shared_ptr<LoadedModule>& here = modules_[context->id()];
  if (here == nullptr) {
    Code code;
    JitLog log;
    const CUresult result = LoadCode(
        driver, image_, {context->device().ordinal(), true, context->device().compute_capability()},
        {}, &log, &code);
    if (result != CUDA_SUCCESS) {
      modules_.erase(context->id());
      return result;
    }
    here = std::make_shared<LoadedModule>(context, std::move(code), true);
    here->set_handle(driver.modules.Add(here));
  }
  *module = here;
  return CUDA_SUCCESS;
}

std::shared_ptr<FunctionSettings> Library::SettingsOf(const std::string& kernel) {
  const MutexLock lock(mutex_);
  std::shared_ptr<FunctionSettings>& settings = settings_[kernel];
  if (settings == nullptr) settings = std::make_shared<FunctionSettings>();
  return settings;
}

CUkernel Library::KernelOf(Driver& driver, const std::shared_ptr<Library>& self,
                           const Kernel* kernel) {
  std::shared_ptr<FunctionSettings> settings = self->SettingsOf(kernel->info().name);
  const MutexLock lock(self->mutex_);
  CUkernel& handle = self->kernels_[kernel];
  if (handle == nullptr) {
    handle = driver.kernels.Add(std::make_shared<LibraryKernel>(self, kernel, settings));
  }
  return handle;
}

void Library::Forget(std::uint64_t context) {
  std::shared_ptr<LoadedModule> gone;  // Destroyed after the lock is released.
  const MutexLock lock(mutex_);
  const auto found = modules_.find(context);
  if (found == modules_.end()) return;
  gone = std::move(found->second);
  modules_.erase(found);
}

void Library::Unload(Driver& driver) {
  std::map<std::uint64_t, std::shared_ptr<LoadedModule>> modules;
  std::map<const Kernel*, CUkernel> kernels;
  {
    const MutexLock lock(mutex_);
    modules.swap(modules_);
    kernels.swap(kernels_);
  }
  for (const auto& [kernel, handle] : kernels) driver.kernels.Remove(handle);
  for (const auto& [context, module] : modules) {
    driver.functions.RemoveIf([&](const Function& f) { return f.module() == module; });
    driver.modules.Remove(module->handle());
  }
}

CUresult FindFunction(Driver& driver, CUfunction handle, const std::shared_ptr<Context>& context,
                      std::shared_ptr<Function>* function) {
  if (!IsHandleKind(HandleBits(handle), HandleKind::kKernel)) {
    *function = driver.functions.Find(handle);
    return *function == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
  }
  const std::shared_ptr<LibraryKernel> kernel =
      driver.kernels.Find(reinterpret_cast<CUkernel>(handle));
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  std::shared_ptr<LoadedModule> module;
  const CUresult result = kernel->library()->ModuleIn(driver, context, &module);
  if (result != CUDA_SUCCESS) return result;
  const std::string& name = kernel->kernel().info().name;
  const Kernel* here = module->code().FindKernel(name);
  if (here == nullptr) return CUDA_ERROR_NOT_FOUND;
  *function = driver.functions.Find(
      LoadedModule::FunctionOf(driver, module, here, kernel->library()->SettingsOf(name)));
  return *function == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

int MaxDynamicShared(const KernelInfo& info, const FunctionSettings& settings) {
  const int set = settings.max_dynamic_shared.load();
  if (set >= 0) return set;
  return std::max(0, kSharedPerBlock - static_cast<int>(info.static_shared_bytes));
}

CUresult KernelAttribute(const Kernel& kernel, const FunctionSettings& settings,
                         const Device& device, CUfunction_attribute attribute, int* value) {
  if (const CUresult measured = Measured(kernel); measured != CUDA_SUCCESS) return measured;
  const KernelInfo& info = kernel.info();
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = static_cast<int>(std::min<uint32_t>(info.max_threads, kMaxThreadsPerBlock));
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = static_cast<int>(info.static_shared_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      *value = static_cast<int>(info.const_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = static_cast<int>(info.local_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = static_cast<int>(std::clamp<uint32_t>(info.registers, 1, 255));
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      *value = info.target;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = device.compute_capability();
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = MaxDynamicShared(info, settings);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      *value = settings.carveout;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      *value = settings.non_portable_cluster;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
      *value = info.explicit_cluster || info.reqncluster.x != 0 ? 1 : 0;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
      *value = static_cast<int>(info.reqncluster.x);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
      *value = static_cast<int>(info.reqncluster.y);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      *value = static_cast<int>(info.reqncluster.z);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      *value = 0;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult SetKernelAttribute(const Kernel& kernel, FunctionSettings& settings,
                            CUfunction_attribute attribute, int value) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
      if (const CUresult measured = Measured(kernel); measured != CUDA_SUCCESS) return measured;
      const int most = kSharedPerBlockOptin - static_cast<int>(kernel.info().static_shared_bytes);
      if (value < 0 || value > most) return CUDA_ERROR_INVALID_VALUE;
      settings.max_dynamic_shared = value;
      return CUDA_SUCCESS;
    }
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      settings.carveout = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      settings.non_portable_cluster = value != 0;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return value <= 1 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace farwarp::softgpu
