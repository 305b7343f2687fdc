// The finished library with the real engine, opened by dlopen as a program opens a CUDA driver,
// with one context. One thread.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda/driver_api.h"

namespace farwarp::softgpu {

class SoftGpuLibraryTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("FARWARP_SOFTGPU", "memory=256MiB", 1);
    library_ = dlopen(FARWARP_SOFTGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
    ASSERT_EQ(Call<decltype(cuInit)>("cuInit")(0), CUDA_SUCCESS);
    ASSERT_EQ(Call<decltype(cuCtxCreate_v2)>("cuCtxCreate_v2")(&context_, 0, 0), CUDA_SUCCESS);
  }
  void TearDown() override {
    if (context_ != nullptr) Call<decltype(cuCtxDestroy_v2)>("cuCtxDestroy_v2")(context_);
  }

  template <typename F>
  F* Call(const char* name) {
    void* function = dlsym(library_, name);
    EXPECT_NE(function, nullptr) << name;
    return reinterpret_cast<F*>(function);
  }
#define CU(name) Call<decltype(name)>(#name)

  void* library_ = nullptr;
  CUcontext context_ = nullptr;
};

}  // namespace farwarp::softgpu
