#include <cstring>
#include <vector>

#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using LaunchTest = ApiTest;

CUresult Shape(CUfunction f, unsigned grid, unsigned block, unsigned shared = 0) {
  return cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, nullptr, nullptr, nullptr);
}

TEST_F(LaunchTest, ParametersArriveBothWays) {
  std::vector<std::byte> seen;
  fake::Define("params", [&](const LaunchRequest& request) {
    seen.assign(request.params.begin(), request.params.end());
    return Fault{};
  });
  CUfunction function = Kernel("params", "1 8 4");
  char a = 0x11;
  std::uint64_t b = 0x2222222222222222;
  std::uint32_t c = 0x33333333;
  void* params[] = {&a, &b, &c};
  ASSERT_OK(Launch(function, nullptr, params));
  ASSERT_OK(cuCtxSynchronize());
  ASSERT_EQ(seen.size(), 20u);
  EXPECT_EQ(static_cast<int>(seen[0]), 0x11);
  EXPECT_EQ(std::memcmp(&seen[8], &b, 8), 0);
  EXPECT_EQ(std::memcmp(&seen[16], &c, 4), 0);
  const std::vector<std::byte> first = seen;
  size_t size = first.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<std::byte*>(first.data()),
                   CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
  const auto launch = [&](void** kernel_params, void** more) {
    return cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, kernel_params, more);
  };
  ASSERT_OK(launch(nullptr, extra));
  ASSERT_OK(cuCtxSynchronize());
  EXPECT_EQ(seen, first);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, launch(params, extra));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, launch(nullptr, nullptr));
  size = 8;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, launch(nullptr, extra));
  params[1] = nullptr;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, launch(params, nullptr));
}

TEST_F(LaunchTest, ImpossibleShapesAreRefused) {
  CUfunction f = Kernel("nothing");
  EXPECT_OK(Shape(f, 1, 1024));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 0, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 1, 0));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 1, 1025));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 0x80000000u, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuLaunchKernel(f, 1, 65536, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuLaunchKernel(f, 1, 1, 1, 1, 1, 65, 0, nullptr, nullptr, nullptr));
  EXPECT_OK(Shape(f, 1, 1, 48 << 10));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 1, 1, (48 << 10) + 1));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, Shape(nullptr, 1, 1));
}

TEST_F(LaunchTest, KernelLimitsCount) {
  CUmodule module = Load(".limits small 256 1024\n.entry small");
  CUfunction f;
  ASSERT_OK(cuModuleGetFunction(&f, module, "small"));
  EXPECT_OK(Shape(f, 1, 256));
  EXPECT_CU(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, Shape(f, 1, 257));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, Shape(f, 1, 1, 48 << 10));
  EXPECT_OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
  EXPECT_OK(Shape(f, 1, 1, 64 << 10));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 99 << 10));
  int value = 0;
  EXPECT_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
  EXPECT_EQ(value, 256);
  EXPECT_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
  EXPECT_EQ(value, 1024);
}

TEST_F(LaunchTest, CooperativeGridsMustFit) {
  CUfunction f = Kernel("nothing");
  int blocks = 0;
  ASSERT_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 0));
  EXPECT_EQ(blocks, 6);  // 1536 threads, 65536 registers of 32.
  const auto fits = static_cast<unsigned>(blocks * 4);
  const auto launch = [&](unsigned grid) {
    return cuLaunchCooperativeKernel(f, grid, 1, 1, 256, 1, 1, 0, nullptr, nullptr);
  };
  EXPECT_OK(launch(fits));
  EXPECT_CU(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, launch(fits + 1));
  int grid = 0, block = 0;
  ASSERT_OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, f, nullptr, 0, 0));
  EXPECT_EQ(block, 768);
  EXPECT_EQ(grid, 2 * 4);
}

TEST_F(LaunchTest, LaunchAttributes) {
  CUfunction f = Kernel("nothing");
  CUlaunchAttribute attribute{};
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  attribute.id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
  EXPECT_OK(cuLaunchKernelEx(&config, f, nullptr, nullptr));
  attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attribute.value.clusterDim = {2, 1, 1};
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, f, nullptr, nullptr));
  config.gridDimX = 32;
  EXPECT_OK(cuLaunchKernelEx(&config, f, nullptr, nullptr));
  attribute.value.clusterDim = {16, 1, 1};
  EXPECT_CU(CUDA_ERROR_INVALID_CLUSTER_SIZE, cuLaunchKernelEx(&config, f, nullptr, nullptr));
  ASSERT_OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1));
  EXPECT_OK(cuLaunchKernelEx(&config, f, nullptr, nullptr));
  attribute.value.clusterDim = {32, 1, 1};
  EXPECT_CU(CUDA_ERROR_INVALID_CLUSTER_SIZE, cuLaunchKernelEx(&config, f, nullptr, nullptr));
  attribute.value.clusterDim = {2, 0, 1};
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, f, nullptr, nullptr));
  attribute.id = static_cast<CUlaunchAttributeID>(99);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, f, nullptr, nullptr));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(nullptr, f, nullptr, nullptr));
}

TEST_F(LaunchTest, EveryFaultHasItsError) {
  const std::pair<FaultKind, CUresult> kinds[] = {
      {FaultKind::kIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS},
      {FaultKind::kMisaligned, CUDA_ERROR_MISALIGNED_ADDRESS},
      {FaultKind::kIllegalInstruction, CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {FaultKind::kInvalidPc, CUDA_ERROR_INVALID_PC},
      {FaultKind::kTrap, CUDA_ERROR_LAUNCH_FAILED},
      {FaultKind::kAssert, CUDA_ERROR_ASSERT},
      {FaultKind::kTimeout, CUDA_ERROR_LAUNCH_TIMEOUT},
      {FaultKind::kDeadlock, CUDA_ERROR_LAUNCH_TIMEOUT},
  };
  for (const auto& [kind, expected] : kinds) {
    CUcontext context;
    ASSERT_OK(cuCtxCreate_v2(&context, 0, 1));
    fake::Define("faulty", [wanted = kind](const LaunchRequest&) {
      Fault fault;
      fault.kind = wanted;
      return fault;
    });
    ASSERT_OK(Launch(Kernel("faulty")));
    EXPECT_CU(expected, cuCtxSynchronize());
    ASSERT_OK(cuCtxDestroy_v2(context));
  }
}

TEST_F(LaunchTest, PrintedTextComesAtSynchronisation) {
  fake::Define("print", [](const LaunchRequest& request) {
    request.print->Write("hello from the device\n");
    return Fault{};
  });
  CUfunction f = Kernel("print");
  testing::internal::CaptureStdout();
  ASSERT_OK(Launch(f));
  ASSERT_OK(cuCtxSynchronize());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "hello from the device\n");
}

TEST_F(LaunchTest, ModulesFindTheirNames) {
  CUmodule module = Load(".entry one\n.entry two 8 8\n.global table 400");
  CUfunction f, again;
  EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, module, "three"));
  ASSERT_OK(cuModuleGetFunction(&f, module, "two"));
  ASSERT_OK(cuModuleGetFunction(&again, module, "two"));
  EXPECT_EQ(f, again);
  const char* name = nullptr;
  EXPECT_OK(cuFuncGetName(&name, f));
  EXPECT_STREQ(name, "two");
  size_t offset = 0, size = 0;
  EXPECT_OK(cuFuncGetParamInfo(f, 1, &offset, &size));
  EXPECT_EQ(offset, 8u);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(f, 2, &offset, &size));
  unsigned count = 0;
  EXPECT_OK(cuModuleGetFunctionCount(&count, module));
  EXPECT_EQ(count, 2u);
  CUdeviceptr table;
  EXPECT_OK(cuModuleGetGlobal_v2(&table, &size, module, "table"));
  EXPECT_EQ(size, 400u);
  EXPECT_OK(cuMemsetD8_v2(table, 1, 400));
  EXPECT_OK(cuModuleUnload(module));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, Launch(f));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(table, 1, 400));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(module));
}

TEST_F(LaunchTest, LoadErrorsReachTheLog) {
  char log[200] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  CUmodule module;
  EXPECT_CU(CUDA_ERROR_INVALID_PTX,
            cuModuleLoadDataEx(&module, ".version 9.0\n.error", 2, options, values));
  EXPECT_STREQ(log, "ptx:2:1: syntax error, near '.error'");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(values[1]), std::strlen(log));
  values[1] = reinterpret_cast<void*>(6);
  EXPECT_CU(CUDA_ERROR_INVALID_PTX,
            cuModuleLoadDataEx(&module, ".version 9.0\n.broken k", 2, options, values));
  EXPECT_STREQ(log, "ptx:7");
  EXPECT_CU(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, "nonsense"));
  EXPECT_CU(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, ""));
  EXPECT_CU(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module,
                                                           "\x7f"
                                                           "ELF\2\1\1\0"));
  EXPECT_CU(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&module, "/nonexistent"));
}

TEST_F(LaunchTest, LibrariesNeedNoContext) {
  CUcontext popped;
  ASSERT_OK(cuCtxPopCurrent_v2(&popped));
  CUlibrary library;
  ASSERT_OK(cuLibraryLoadData(&library, ".version 9.0\n.entry lib 4\n.global v 8", nullptr, nullptr,
                              0, nullptr, nullptr, 0));
  CUkernel kernel, listed;
  ASSERT_OK(cuLibraryGetKernel(&kernel, library, "lib"));
  EXPECT_CU(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&listed, library, "none"));
  ASSERT_OK(cuLibraryEnumerateKernels(&listed, 1, library));
  EXPECT_EQ(kernel, listed);
  unsigned count = 0;
  EXPECT_OK(cuLibraryGetKernelCount(&count, library));
  EXPECT_EQ(count, 1u);
  int value = 0;
  EXPECT_OK(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, kernel, 0));
  EXPECT_EQ(value, 32);
  CUlibrary back = nullptr;
  EXPECT_OK(cuKernelGetLibrary(&back, kernel));
  EXPECT_EQ(back, library);
  CUdeviceptr variable;
  EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuLibraryGetGlobal(&variable, nullptr, library, "v"));
  ASSERT_OK(cuCtxPushCurrent_v2(popped));
  EXPECT_OK(cuLibraryGetGlobal(&variable, nullptr, library, "v"));
  std::atomic<int> seen{0};
  fake::Define("lib", [&](const LaunchRequest& request) {
    int got;
    std::memcpy(&got, request.params.data(), sizeof got);
    seen = got;
    return Fault{};
  });
  int argument = 4711;
  void* params[] = {&argument};
  // A kernel is launched as it is, or by its function here.
  EXPECT_OK(Launch(reinterpret_cast<CUfunction>(kernel), nullptr, params));
  EXPECT_OK(cuCtxSynchronize());
  EXPECT_EQ(seen, 4711);
  EXPECT_OK(
      cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000, kernel, 0));
  CUfunction f;
  EXPECT_OK(cuKernelGetFunction(&f, kernel));
  EXPECT_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, f));
  EXPECT_EQ(value, 60000);
  EXPECT_OK(cuLibraryUnload(library));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, Launch(reinterpret_cast<CUfunction>(kernel)));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, Launch(f));
}

}  // namespace
}  // namespace farwarp::softgpu
