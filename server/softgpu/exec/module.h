// Module: one PTX text loaded for the software GPU, and the kernels and variables it defines.
//
// Loading is an index pass: it finds every entry, function and module-scope variable, places the
// .global and .const variables in device memory and writes their initial values, but leaves the
// bodies of functions alone. A kernel's body is parsed and decoded by Kernel::Prepare(), normally
// at its first launch, so a 40 MB module loads in milliseconds.
//
// Ownership: the Module owns its kernels and variables; pointers to them live as long as it does.
// The GlobalPlacer must outlive the Module. The PTX text is copied.
// Threads: Load may run on any thread; everything const is thread-safe, Prepare included.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "farwarp/base/status.h"

namespace farwarp::softgpu {

struct Dim3 {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
  uint64_t count() const noexcept { return uint64_t{x} * y * z; }
};

// What cuModuleLoadDataEx hands back to the caller who gave it log buffers.
struct JitLog {
  std::string info;
  std::string error;
};

// Gives memory to the .global and .const variables of modules. Implemented by the driver API.
// Memory is committed, readable and writable by the host, zeroed, and lies in the AddressSpace; the
// implementer frees it when it destroys the module.
class GlobalPlacer {
 public:
  virtual ~GlobalPlacer() = default;
  virtual Result<uint64_t> Place(uint64_t bytes, uint64_t align, bool is_const) = 0;
};

struct KernelParam {
  uint32_t offset = 0;
  uint32_t bytes = 0;
  uint32_t align = 1;
};

struct KernelInfo {
  std::string name;
  std::vector<KernelParam> params;
  uint32_t param_bytes = 0;          // Size of the parameter buffer.
  uint32_t static_shared_bytes = 0;  // After Measure() or Prepare(), as the next two.
  uint64_t local_bytes = 0;          // Per thread, of the kernel's own variables.
  uint64_t const_bytes = 0;          // .const variables of the module.
  uint32_t registers = 0;            // Approximate count of 32-bit registers, of the kernel's own.
  uint32_t max_threads = 1024;       // Per block, after .maxntid and .reqntid.
  Dim3 reqntid{0, 0, 0};             // Zeros: not given.
  Dim3 maxntid{0, 0, 0};             // Zeros: not given.
  uint32_t min_blocks_per_sm = 0;    // .minnctapersm, 0: not given.
  Dim3 reqncluster{0, 0, 0};         // Blocks of a cluster, .reqnctapercluster; zeros: not given.
  uint32_t max_cluster_rank = 0;     // .maxclusterrank, 0: not given.
  bool explicit_cluster = false;     // The launch must give the cluster's size.
  int ptx_version = 0;               // 90 for ".version 9.0".
  int target = 0;                    // 75 for ".target sm_75".
};

// What a compiler would have given a kernel that names `used` registers: it spills rather than make
// a kernel that cannot run with the threads it is bound to.
uint32_t CompiledRegisters(const KernelInfo& info, uint32_t used);

struct Global {
  std::string name;
  uint64_t address = 0;
  uint64_t bytes = 0;
  bool is_const = false;
  bool is_managed = false;
};

// One text of a linked module.
struct LinkInput {
  std::string name;  // For messages: "b.ptx".
  std::string_view ptx;
};

// Reads a text from end to end, bodies of functions included, unless it is so long that loading it
// does not do that either. What it refers to elsewhere is not looked for.
Status CheckText(std::string_view ptx);
// Longer texts are only indexed when they are loaded; errors in bodies show at first use.
inline constexpr size_t kCheckedTextBytes = size_t{256} << 10;

class ModuleImpl;
struct DecodedKernel;
struct FunctionAst;

class Kernel {
 public:
  Kernel(ModuleImpl* module, KernelInfo info, const FunctionAst& function);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Decodes the body and everything it calls, once; later calls return the first result. Errors
  // read "ptx:LINE:COLUMN: what, near 'text'".
  Status Prepare() const;
  // Finds out what the kernel takes of a multiprocessor: from its declarations if these say all,
  // and else as Prepare() does. Prepare() changes none of the figures.
  Status Measure() const;
  // Name, parameters and limits; what the kernel takes once Measure() or Prepare() succeeded.
  const KernelInfo& info() const;

  // Engine internals: the decoded form, nullptr until Prepare() succeeded.
  const DecodedKernel* decoded() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Module {
 public:
  // On failure the Status holds the first error, and log->error (log may be null) the same text.
  static Result<std::unique_ptr<Module>> Load(std::string_view ptx, GlobalPlacer& placer,
                                              JitLog* log);
  // One module out of several texts that use each other's functions and variables. Names without
  // linkage stay private to their text; of .weak and .common definitions one is kept. Undefined and
  // doubled symbols are errors.
  static Result<std::unique_ptr<Module>> Link(std::span<const LinkInput> inputs,
                                              GlobalPlacer& placer, JitLog* log);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Whether the module needs this text of those it was linked from (Link leaves unused library
  // members out).
  bool Uses(size_t input) const;
  // Reads the bodies of all functions, those that no kernel calls included. The first error is
  // returned, in the order of the text; what functions call is not looked for.
  Status ReadBodies() const;
  // Functions whose bodies were read so far: what tests of lazy loading count.
  size_t bodies_read() const;
  std::span<const Kernel* const> kernels() const;
  const Kernel* FindKernel(std::string_view name) const;
  std::span<const Global> globals() const;
  const Global* FindGlobal(std::string_view name) const;

 private:
  explicit Module(std::unique_ptr<ModuleImpl> impl);
  static Result<std::unique_ptr<Module>> Make(std::span<const LinkInput> inputs,
                                              GlobalPlacer& placer, bool linking, JitLog* log);
  std::unique_ptr<ModuleImpl> impl_;
};

}  // namespace farwarp::softgpu
