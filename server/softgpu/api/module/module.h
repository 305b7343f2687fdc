// Modules, functions, libraries and kernels: device code as the driver API sees it.
//
// A LoadedModule is device code in one context: the engine's modules and the memory of their
// variables. A Function is one kernel of it. A Library is device code without a context; it makes a
// LoadedModule for each context that uses it. A LibraryKernel is a kernel of a library: what
// CUkernel stands for.
//
// Ownership: handle tables hold all of them; work in flight keeps its LoadedModule, and so the
// memory of its variables, alive. Threads: thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/softgpu/api/driver.h"
#include "server/softgpu/exec/module.h"
#include "server/softgpu/image/fatbin.h"

namespace farwarp::softgpu {

// Places variables in a device's memory, or in no device's for the index of a library.
class VariableMemory final : public GlobalPlacer {
 public:
  VariableMemory(Driver& driver, int device, bool charged)
      : driver_(driver), device_(device), charged_(charged) {}
  ~VariableMemory() override;
  Result<uint64_t> Place(uint64_t bytes, uint64_t align, bool is_const) override;

 private:
  Driver& driver_;
  const int device_;
  const bool charged_;
  std::vector<std::uint64_t> addresses_;
};

// The PTX texts of one image, loaded into the engine.
struct Code {
  std::unique_ptr<VariableMemory> variables;  // Outlives the modules, as the engine requires.
  std::vector<std::unique_ptr<Module>> modules;

  const Kernel* FindKernel(std::string_view name) const;
  const Global* FindGlobal(std::string_view name) const;
  std::vector<const Kernel*> Kernels() const;
};

// Where code is loaded.
struct LoadTarget {
  int device = 0;
  bool charged = true;  // False for an index, whose variables are in no device's memory.
  int sm = 0;           // The newest target that the code may have.
};
struct LoadChecks {
  bool bodies = false;   // Small texts are decoded now, so that errors in them are found here.
  bool verbose = false;  // The information log lists the kernels that were decoded.
};
// Loads texts; on failure `log` says why and the result is CUDA's code for it.
CUresult LoadCode(Driver& driver, const LoadedImage& image, const LoadTarget& target,
                  const LoadChecks& checks, JitLog* log, Code* code);
// CUDA's code for an image that offers nothing to load.
CUresult ImageError(const LoadedImage& image);

// What cuFuncSetAttribute and cuKernelSetAttribute change.
struct FunctionSettings {
  std::atomic<int> max_dynamic_shared{-1};  // -1: not set.
  std::atomic<int> carveout{-1};
  std::atomic<int> non_portable_cluster{0};
};

class LoadedModule {
 public:
  LoadedModule(std::shared_ptr<Context> context, Code code, bool from_library)
      : context_(std::move(context)), code_(std::move(code)), from_library_(from_library) {}

  const std::shared_ptr<Context>& context() const noexcept { return context_; }
  const Code& code() const noexcept { return code_; }
  bool from_library() const noexcept { return from_library_; }
  CUmodule handle() const noexcept { return handle_; }
  void set_handle(CUmodule handle) noexcept { handle_ = handle; }

  // The handle of a kernel's Function, made at its first use. `self` is this module.
  static CUfunction FunctionOf(Driver& driver, const std::shared_ptr<LoadedModule>& self,
                               const Kernel* kernel, std::shared_ptr<FunctionSettings> settings)
      EXCLUDES(self->mutex_);

 private:
  const std::shared_ptr<Context> context_;
  const Code code_;
  const bool from_library_;
  CUmodule handle_ = nullptr;  // Set once, before others see the module.
  Mutex mutex_;
  std::map<const Kernel*, CUfunction> functions_ GUARDED_BY(mutex_);
};

class Function {
 public:
  Function(std::shared_ptr<LoadedModule> module, const Kernel* kernel,
           std::shared_ptr<FunctionSettings> settings)
      : module_(std::move(module)), kernel_(kernel), settings_(std::move(settings)) {}

  const std::shared_ptr<Context>& context() const noexcept { return module_->context(); }
  const std::shared_ptr<LoadedModule>& module() const noexcept { return module_; }
  const Kernel& kernel() const noexcept { return *kernel_; }
  FunctionSettings& settings() const noexcept { return *settings_; }

 private:
  const std::shared_ptr<LoadedModule> module_;
  const Kernel* const kernel_;
  const std::shared_ptr<FunctionSettings> settings_;
};

class Library {
 public:
  Library(LoadedImage image, Code index) : image_(std::move(image)), index_(std::move(index)) {}

  // The code without a context: names, parameters, attributes.
  const Code& index() const noexcept { return index_; }
  // The library in a context; loaded at its first use there.
  CUresult ModuleIn(Driver& driver, const std::shared_ptr<Context>& context,
                    std::shared_ptr<LoadedModule>* module) EXCLUDES(mutex_);
  std::shared_ptr<FunctionSettings> SettingsOf(const std::string& kernel) EXCLUDES(mutex_);
  // Handles of its kernels, made at their first use. `self` is this library.
  static CUkernel KernelOf(Driver& driver, const std::shared_ptr<Library>& self,
                           const Kernel* kernel) EXCLUDES(self->mutex_);
  // The context is being destroyed.
  void Forget(std::uint64_t context) EXCLUDES(mutex_);
  // Ends all handles that came from this library.
  void Unload(Driver& driver) EXCLUDES(mutex_);

 private:
  const LoadedImage image_;
  const Code index_;
  Mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<LoadedModule>> modules_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<FunctionSettings>> settings_ GUARDED_BY(mutex_);
  std::map<const Kernel*, CUkernel> kernels_ GUARDED_BY(mutex_);
};

class LibraryKernel {
 public:
  LibraryKernel(std::shared_ptr<Library> library, const Kernel* kernel,
                std::shared_ptr<FunctionSettings> settings)
      : library_(std::move(library)), kernel_(kernel), settings_(std::move(settings)) {}

  const std::shared_ptr<Library>& library() const noexcept { return library_; }
  const Kernel& kernel() const noexcept { return *kernel_; }
  FunctionSettings& settings() const noexcept { return *settings_; }
  // Set once, before others see the kernel.
  CUlibrary library_handle = nullptr;

 private:
  const std::shared_ptr<Library> library_;
  const Kernel* const kernel_;
  const std::shared_ptr<FunctionSettings> settings_;
};

// The function that a handle means in `context`: a CUfunction, or a CUkernel cast to one.
CUresult FindFunction(Driver& driver, CUfunction handle, const std::shared_ptr<Context>& context,
                      std::shared_ptr<Function>* function);

// CU_FUNC_ATTRIBUTE_* of a kernel.
CUresult KernelAttribute(const Kernel& kernel, const FunctionSettings& settings,
                         const Device& device, CUfunction_attribute attribute, int* value);
CUresult SetKernelAttribute(const Kernel& kernel, FunctionSettings& settings,
                            CUfunction_attribute attribute, int value);
// Dynamic shared memory that a launch may ask for.
int MaxDynamicShared(const KernelInfo& info, const FunctionSettings& settings);

}  // namespace farwarp::softgpu
