// What the runtime's tests share: the fake driver below the runtime, and device code as the
// compiler would register it.
//
// One thread per test unless a test says otherwise.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "cuda/runtime_api.h"
#include "tests/unit/runtime/fake_driver.h"

// The compiler's entry points, which no public header declares.
extern "C" {
void** __cudaRegisterFatBinary(void* wrapper);
void __cudaRegisterFatBinaryEnd(void** handle);
void __cudaUnregisterFatBinary(void** handle);
void __cudaRegisterFunction(void** handle, const char* host, char* device, const char* name,
                            int limit, void*, void*, void*, void*, int*);
void __cudaRegisterVar(void** handle, char* host, char* device, const char* name, int ext,
                       size_t bytes, int constant, int global);
void __cudaRegisterManagedVar(void** handle, void** host_pointer, char* device, const char* name,
                              int ext, size_t bytes, int constant, int global);
char __cudaInitModule(void** handle);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
                                     cudaStream_t stream);
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream);
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared_bytes, cudaStream_t stream);
cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                    size_t shared_bytes, cudaStream_t stream);
cudaError_t cudaMemcpy_ptds(void* target, const void* source, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync_ptsz(void* target, const void* source, size_t bytes,
                                 cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamSynchronize_ptsz(cudaStream_t stream);
cudaError_t cudaLaunchKernel_ptsz(const void* func, dim3 grid, dim3 block, void** arguments,
                                  size_t shared_bytes, cudaStream_t stream);
}

// A container with one entry of eight bytes; an empty one is code for no device.
struct FakeContainer {
  uint32_t magic = 0xba55ed50;
  uint16_t version = 1;
  uint16_t header_bytes = 16;
  uint64_t entry_bytes = 8;
  uint64_t entry = 0;
};

struct FakeWrapper {
  uint32_t magic = 0x466243b1;
  uint32_t version = 1;
  const void* container = nullptr;
  const void* extra = nullptr;
};

inline dim3 Dim(unsigned x, unsigned y = 1, unsigned z = 1) {
  dim3 d;
  d.x = x;
  d.y = y;
  d.z = z;
  return d;
}

// Device code with any number of kernels and variables, registered for the life of the object.
class FakeModule {
 public:
  FakeModule() {
    wrapper_.container = &container_;
    handle_ = __cudaRegisterFatBinary(&wrapper_);
  }
  explicit FakeModule(const FakeWrapper& wrapper) : wrapper_(wrapper) {
    handle_ = __cudaRegisterFatBinary(&wrapper_);
  }
  ~FakeModule() { Unregister(); }
  FakeModule(const FakeModule&) = delete;
  FakeModule& operator=(const FakeModule&) = delete;

  void Function(const void* host, const char* name) {
    __cudaRegisterFunction(handle_, static_cast<const char*>(host), nullptr, name, -1, nullptr,
                           nullptr, nullptr, nullptr, nullptr);
  }
  void Variable(void* host, const char* name, size_t bytes) {
    __cudaRegisterVar(handle_, static_cast<char*>(host), nullptr, name, 0, bytes, 0, 0);
  }
  void Managed(void** host, const char* name, size_t bytes) {
    __cudaRegisterManagedVar(handle_, host, nullptr, name, 0, bytes, 0, 0);
  }
  void Unregister() {
    if (handle_ != nullptr) __cudaUnregisterFatBinary(handle_);
    handle_ = nullptr;
  }
  void** handle() const { return handle_; }
  const FakeContainer& container() const { return container_; }

 private:
  FakeContainer container_;
  FakeWrapper wrapper_;
  void** handle_ = nullptr;
};

class RuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto control =
        reinterpret_cast<const FakeDriver* (*)()>(dlsym(library, "fake_driver_control"));
    ASSERT_NE(control, nullptr) << "libcuda.so.1 is not the fake driver";
    driver_ = control();
    ASSERT_EQ(cudaFree(nullptr), cudaSuccess);
    cudaGetLastError();
    driver_->clear_calls();
  }
  void TearDown() override { cudaGetLastError(); }

  int Calls(const char* symbol) const { return driver_->calls(symbol); }
  int AllCalls() const { return driver_->calls(nullptr); }
  static void InThread(const std::function<void()>& body) { std::thread(body).join(); }

  const FakeDriver* driver_ = nullptr;
};
