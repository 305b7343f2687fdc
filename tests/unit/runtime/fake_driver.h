// A libcuda.so.1 for tests of the runtime: it records every call by symbol name, keeps "device"
// memory on the host, and runs kernels that the test gives it as host functions.
//
// The test reaches this interface by dlsym(fake_driver_control) in the loaded library. Environment,
// read when cuInit is called: FAKE_CUDA_INIT (result of cuInit), FAKE_CUDA_VERSION,
// FAKE_CUDA_DEVICES. Thread-safe.
#pragma once

#include "cuda/driver_api.h"

// What a launch looked like.
struct FakeLaunch {
  char symbol[64];
  char kernel[128];
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  CUstream stream;
};

struct FakeTexture {
  CUDA_RESOURCE_DESC resource;
  CUDA_TEXTURE_DESC texture;
};

using FakeKernel = void (*)(const FakeLaunch& launch, void** arguments);

struct FakeDriver {
  // Number of calls of a symbol (cuMemAlloc_v2), or of all symbols with nullptr.
  int (*calls)(const char* symbol);
  void (*clear_calls)();
  // Makes a symbol return `result` until it is set back to CUDA_SUCCESS.
  void (*fail)(const char* symbol, CUresult result);
  // The function that stands for a kernel of that name, in every image.
  void (*set_kernel)(const char* name, FakeKernel function);
  FakeLaunch (*last_launch)();
  // The container that was loaded last, and the number of live libraries.
  const void* (*last_image)();
  int (*libraries)();
  // The last descriptor of a copy in three dimensions.
  CUDA_MEMCPY3D (*last_copy_3d)();
  // The last copy in two dimensions; with `only`, such copies are recorded but not carried out.
  CUDA_MEMCPY2D (*last_copy_2d)();
  void (*record_copies_2d_only)(bool only);
  CUDA_KERNEL_NODE_PARAMS (*last_kernel_node)();
  FakeTexture (*last_texture)();
};

extern "C" const FakeDriver* fake_driver_control();
