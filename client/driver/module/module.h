// Modules, libraries, functions and kernels as the client keeps them. All that a program can ask
// about a kernel came with the module's function table, so handles are minted and attributes
// answered here; the server learns of a function when it is first looked up.
//
// Thread-safe: tables are immutable after loading, look-up caches have a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/driver/module/function_table.h"
#include "cuda/driver_api.h"
#include "farwarp/base/thread_annotations.h"
#include "farwarp/wire/handle.h"

namespace farwarp::client {

struct Context;

// What a launch needs to know, common to functions and kernels. The attributes that a program may
// set live here.
struct Launchable {
  const KernelInfo* info = nullptr;
  std::shared_ptr<const FunctionTable> table;  // Keeps info alive.
  std::atomic<int> max_dynamic_shared_bytes{0};
  std::atomic<int> preferred_carveout{-1};
  std::atomic<int> cluster_policy{0};
  std::atomic<int> non_portable_cluster{0};
};

struct Variable {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct Module {
  wire::Handle handle;
  wire::Handle context_handle;
  Context* context = nullptr;
  wire::Handle library;  // Set if it belongs to a library.
  std::shared_ptr<const FunctionTable> table;
  Mutex mutex;
  std::map<std::uint32_t, wire::Handle> functions GUARDED_BY(mutex);  // By index in the table.
  std::map<std::string, Variable, std::less<>> globals GUARDED_BY(mutex);
};

struct Library {
  wire::Handle handle;
  std::shared_ptr<const FunctionTable> table;
  Mutex mutex;
  std::map<std::uint32_t, wire::Handle> kernels GUARDED_BY(mutex);
  // Per context: its module and its variables.
  std::map<std::uint64_t, wire::Handle> modules GUARDED_BY(mutex);
  std::map<std::pair<std::uint64_t, std::string>, Variable> globals GUARDED_BY(mutex);
};

struct Function : Launchable {
  wire::Handle module;  // Null if it came from a kernel.
  wire::Handle kernel;
  wire::Handle context_handle;
};

struct Kernel : Launchable {
  wire::Handle library;
  Mutex mutex;
  std::map<std::uint64_t, wire::Handle> functions GUARDED_BY(mutex);  // Per context.
};

struct Caller;
// A function or, where CUDA accepts one, a kernel; nullptr if it is neither.
Launchable* FindLaunchable(const Caller& caller, CUfunction function) noexcept;

// The handle of a table entry; minted and announced to the server on first use.
CUresult FunctionAt(const Caller& caller, Module& module, std::uint32_t index,
                    wire::Handle* handle);
CUresult KernelAt(const Caller& caller, Library& library, std::uint32_t index,
                  wire::Handle* handle);
// The function that a kernel is in the current context.
CUresult FunctionOf(const Caller& caller, wire::Handle kernel_handle, Kernel& kernel,
                    wire::Handle* handle);

class Process;
struct Ending;
// Ends everything that belongs to an unloaded module, or to a library.
void DropModule(Process& process, wire::Handle module, Ending& ending);
void DropLibrary(Process& process, wire::Handle library, Ending& ending);

}  // namespace farwarp::client
