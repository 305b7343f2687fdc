// What compiled host code registers: device images (fatbins), the kernels and variables in them,
// and how the three are found again.
//
// Registration runs in constructors, before main or inside dlopen: it only stores. An image is
// loaded into the driver when something in it is first used; the driver's library object is
// independent of contexts, so that one load serves every device and survives a reset. Functions are
// never freed, because host code keeps their address in static variables.
//
// Thread-safe. The registry's lock is held for look-ups and insertions only; loading holds the lock
// of the one image.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/runtime/driver.h"
#include "client/runtime/error.h"
#include "farwarp/base/thread_annotations.h"

namespace farwarp::runtime {

struct ManagedVariable {
  std::string name;
  void** host_pointer;  // Filled with the address when the image is loaded.
  size_t bytes;
};

// The device code of one translation unit, or of one linked program.
class Image {
 public:
  // `wrapper` is what the compiler generates; it is checked here and must outlive the image's use.
  explicit Image(const void* wrapper);

  // Loads the code if that has not happened yet. Needs a current context.
  cudaError_t Load(const Driver& d, CUlibrary* library);
  void AddManaged(const char* name, void** host_pointer, size_t bytes);
  // For code that cannot be loaded: gives the pointers of its managed variables somewhere to point
  // to, since host code reads through them before it looks at any error. Throws when memory runs
  // out.
  void FillPlaceholders();
  // Forgets the code; unloads it if `unload` and it was loaded.
  void Retire(const Driver* d);

 private:
  cudaError_t LoadLocked(const Driver& d, CUlibrary* library) REQUIRES(mutex_);
  cudaError_t LinkLocked(const Driver& d, CUlibrary* library) REQUIRES(mutex_);
  cudaError_t FillManaged(const Driver& d, CUlibrary library) REQUIRES(mutex_);

  std::atomic<CUlibrary> library_{nullptr};
  Mutex mutex_;
  bool retired_ GUARDED_BY(mutex_) = false;
  const void* code_ GUARDED_BY(mutex_) = nullptr;
  // Relocatable containers of a linked program.
  std::vector<const void*> parts_ GUARDED_BY(mutex_);
  std::vector<ManagedVariable> managed_ GUARDED_BY(mutex_);
  // Kept when the code loads later after all: host code may have kept their addresses.
  std::vector<std::unique_ptr<std::byte[]>> placeholders_ GUARDED_BY(mutex_);
};

// A kernel. Its address is the handle that host code keeps; it needs no driver.
class Function {
 public:
  Function(Image* image, const char* name) : image_(image), name_(name) {}
  // A kernel of the driver's that the program got through the API.
  explicit Function(CUkernel kernel) : image_(nullptr), kernel_(kernel) {}

  cudaError_t Resolve(const Driver& d, CUkernel* kernel) {
    *kernel = kernel_.load(std::memory_order_acquire);
    return *kernel != nullptr ? cudaSuccess : ResolveSlowly(d, kernel);
  }
  void Retire() noexcept { kernel_.store(nullptr, std::memory_order_release); }
  Image* image() const noexcept { return image_; }

 private:
  cudaError_t ResolveSlowly(const Driver& d, CUkernel* kernel);

  Image* const image_;
  const std::string name_;
  std::atomic<CUkernel> kernel_{nullptr};
};

struct Variable {
  Image* image;
  std::string name;
  size_t bytes;
  void** managed_pointer;  // Null unless the variable is managed.
};

class Registry {
 public:
  static Registry& Get() noexcept;

  Image* AddImage(const void* wrapper);
  void AddFunction(Image* image, const void* host, const char* name);
  void AddVariable(Image* image, const void* host, const char* name, size_t bytes);
  void AddManaged(Image* image, void** host_pointer, const char* name, size_t bytes);
  // The image's functions and variables are no longer found. With a driver, unloads the code.
  void Remove(Image* image, const Driver* d);

  // The kernel with this host stub, or nullptr. Also takes handles that RememberKernel saw.
  Function* FindFunction(const void* host);
  // The variable with this host address, or nullptr. The pointer stays valid until its image goes.
  const Variable* FindVariable(const void* host);
  // Makes a handle of the driver's acceptable where the API takes a host stub: a kernel by itself,
  // or any handle of a function that is known. A stale handle is for the driver to refuse.
  void RememberKernel(CUkernel kernel);
  void RememberAlias(const void* handle, Function* function);

  void LockForFork() NO_THREAD_SAFETY_ANALYSIS { mutex_.lock(); }
  void UnlockAfterFork() NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }

 private:
  Registry() = default;
  Mutex mutex_;
  // Changes whenever a look-up could give another answer: validates the cache of each thread.
  std::atomic<uint64_t> version_{1};
  // Owns the images and functions for the life of the process.
  std::vector<std::unique_ptr<Image>> images_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Function>> owned_ GUARDED_BY(mutex_);
  std::unordered_map<const void*, Function*> functions_ GUARDED_BY(mutex_);
  std::unordered_map<const void*, std::unique_ptr<Variable>> variables_ GUARDED_BY(mutex_);
};

}  // namespace farwarp::runtime
