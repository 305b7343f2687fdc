// Errors, devices and contexts as programs see them.
#include <vector>

#include "tests/unit/runtime/fixture.h"

namespace {

TEST_F(RuntimeTest, GetClearsPeekKeepsSuccessChangesNothing) {
  EXPECT_EQ(cudaFree(reinterpret_cast<void*>(0x10)), cudaErrorInvalidValue);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidValue);
  InThread([] { EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess); });
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, size_t{1} << 40), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST_F(RuntimeTest, NotReadyIsReturnedAndRemembered) {
  driver_->fail("cuStreamQuery", CUDA_ERROR_NOT_READY);
  EXPECT_EQ(cudaStreamQuery(nullptr), cudaErrorNotReady);
  driver_->fail("cuStreamQuery", CUDA_SUCCESS);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(nullptr), cudaSuccess);
}

// A context that has failed: every call in it says so.
void FailContext(const FakeDriver& driver, CUresult result) {
  for (const char* symbol : {"cuCtxSynchronize", "cuMemGetInfo_v2"}) driver.fail(symbol, result);
}

TEST_F(RuntimeTest, ErrorsOfTheDeviceComeBackUntilItIsReset) {
  FailContext(*driver_, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  InThread([] {
    // A thread without a context has none that failed.
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
    EXPECT_EQ(cudaPeekAtLastError(), cudaErrorIllegalAddress);
  });
  FailContext(*driver_, CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(RuntimeTest, ErrorsOfAnotherContextAreToldOnce) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  driver_->fail("cuStreamSynchronize", CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  driver_->fail("cuStreamSynchronize", CUDA_SUCCESS);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  // While all is well nobody asks the driver.
  driver_->clear_calls();
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(AllCalls(), 0);
}

TEST_F(RuntimeTest, ErrorsOfAContextEndWithItWhoeverEndsIt) {
  FailContext(*driver_, CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  FailContext(*driver_, CUDA_SUCCESS);  // The program has reset it through the driver API.
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RuntimeTest, EachThreadChoosesItsDevice) {
  int device = -1;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 1);
  InThread([] {
    int other = -1;
    EXPECT_EQ(cudaGetDevice(&other), cudaSuccess);
    EXPECT_EQ(other, 0);
  });
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 1);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1), cudaSuccess);
  EXPECT_EQ(value, 2010);
}

TEST_F(RuntimeTest, ValidDevicesAreTriedInOrder) {
  InThread([] {
    int list[] = {1, 0};
    int device = -1;
    ASSERT_EQ(cudaSetValidDevices(list, 2), cudaSuccess);
    ASSERT_EQ(cudaFree(nullptr), cudaSuccess);
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 1);
    int wrong[] = {7};
    EXPECT_EQ(cudaSetValidDevices(wrong, 1), cudaErrorInvalidDevice);
    EXPECT_EQ(cudaSetValidDevices(list, -1), cudaErrorInvalidValue);
  });
}

TEST_F(RuntimeTest, ThreadsBindAnewAfterAReset) {
  ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(Calls("cuDevicePrimaryCtxReset_v2"), 1);
  EXPECT_EQ(Calls("cuDevicePrimaryCtxRelease_v2"), 1);
  driver_->clear_calls();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(Calls("cuDevicePrimaryCtxRetain"), 1);
  EXPECT_EQ(Calls("cuCtxSetCurrent"), 1);
}

TEST_F(RuntimeTest, WorksInTheContextThatTheProgramMadeCurrent) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  const auto set = reinterpret_cast<decltype(&cuCtxSetCurrent)>(dlsym(library, "cuCtxSetCurrent"));
  const auto retain = reinterpret_cast<decltype(&cuDevicePrimaryCtxRetain)>(
      dlsym(library, "cuDevicePrimaryCtxRetain"));
  InThread([&] {
    CUcontext own = nullptr;
    ASSERT_EQ(retain(&own, 11), CUDA_SUCCESS);
    ASSERT_EQ(set(own), CUDA_SUCCESS);
    driver_->clear_calls();
    int device = -1;
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 1);
    device = -1;
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(Calls("cuCtxSetCurrent"), 0);
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 1);
    // When the program takes it away, the next call finds the thread's device again.
    ASSERT_EQ(set(nullptr), CUDA_SUCCESS);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(device, 0);
  });
}

TEST_F(RuntimeTest, FillsEveryProperty) {
  cudaDeviceProp p;
  std::memset(&p, 0xee, sizeof(p));
  ASSERT_EQ(cudaGetDeviceProperties(&p, 0), cudaSuccess);
  EXPECT_STREQ(p.name, "Fake GPU");
  EXPECT_EQ(p.totalGlobalMem, 77u << 20);
  EXPECT_EQ(p.uuid.bytes[5], 10);
  // The fake driver answers 1000 plus the attribute's number.
  EXPECT_EQ(p.warpSize, 1010);
  EXPECT_EQ(p.maxGridSize[2], 1007);
  EXPECT_EQ(p.maxTexture2DLinear[2], 1072);
  EXPECT_EQ(p.hostNumaMultinodeIpcSupported, 1143);
  // Every word after the name and the two ids was written: either by an attribute or with zero.
  const auto* words = reinterpret_cast<const unsigned*>(&p);
  int filled = 0;
  for (size_t i = offsetof(cudaDeviceProp, totalGlobalMem) / 4; i < sizeof(p) / 4; ++i) {
    EXPECT_NE(words[i], 0xeeeeeeeeu) << "word " << i;
    filled += words[i] > 1000 && words[i] < 1148 ? 1 : 0;
  }
  EXPECT_EQ(filled, 111);
  EXPECT_EQ(cudaGetDeviceProperties(&p, 2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetDeviceProperties(nullptr, 0), cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, ChoosesTheDeviceThatFits) {
  cudaDeviceProp wish = {};
  int device = -1;
  wish.multiProcessorCount = 1500;  // Only the second fake device has that many.
  ASSERT_EQ(cudaChooseDevice(&device, &wish), cudaSuccess);
  EXPECT_EQ(device, 1);
  wish = {};
  ASSERT_EQ(cudaChooseDevice(&device, &wish), cudaSuccess);
  EXPECT_EQ(device, 0);
}

TEST_F(RuntimeTest, EveryDriverCodeHasARuntimeCode) {
  void* pointer = nullptr;
  for (int code = 1; code < 1000; ++code) {
    driver_->fail("cuMemAlloc_v2", static_cast<CUresult>(code));
    const cudaError_t error = cudaMalloc(&pointer, 16);
    if (std::strcmp(cudaGetErrorName(static_cast<cudaError_t>(code)), "unrecognized error code") ==
        0) {
      EXPECT_EQ(error, cudaErrorUnknown) << code;
    } else {
      EXPECT_EQ(static_cast<int>(error), code);
    }
  }
  driver_->fail("cuMemAlloc_v2", CUDA_SUCCESS);
  ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
}

TEST_F(RuntimeTest, NamesAndTextsOfErrors) {
  EXPECT_STREQ(cudaGetErrorName(cudaSuccess), "cudaSuccess");
  EXPECT_STREQ(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
  EXPECT_STREQ(cudaGetErrorString(static_cast<cudaError_t>(12345)), "unrecognized error code");
  EXPECT_STREQ(cudaGetErrorString(cudaSuccess), "no error");
}

TEST_F(RuntimeTest, VersionsAndEntryPoints) {
  int version = 0;
  EXPECT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, 13000);
  EXPECT_EQ(cudaDriverGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, 13000);
  EXPECT_EQ(cudaDriverGetVersion(nullptr), cudaErrorInvalidValue);

  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  ASSERT_EQ(
      cudaGetDriverEntryPointByVersion("cuMemAlloc", &function, 13000, cudaEnableDefault, &found),
      cudaSuccess);
  EXPECT_EQ(found, cudaDriverEntryPointSuccess);
  EXPECT_EQ(function, dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuMemAlloc_v2"));
  ASSERT_EQ(
      cudaGetDriverEntryPointByVersion("cuNothing", &function, 13000, cudaEnableDefault, &found),
      cudaSuccess);
  EXPECT_EQ(found, cudaDriverEntryPointSymbolNotFound);
  EXPECT_EQ(function, nullptr);
  EXPECT_EQ(
      cudaGetDriverEntryPointByVersion("cuNothing", &function, 13000, cudaEnableDefault, nullptr),
      cudaErrorSymbolNotFound);
}

TEST_F(RuntimeTest, PrivateTablesAreRefused) {
  const void* table = &table;
  const cudaUUID_t id = {};
  EXPECT_EQ(cudaGetExportTable(&table, &id), cudaErrorNotSupported);
  EXPECT_EQ(table, nullptr);
  EXPECT_EQ(AllCalls(), 0);
}

TEST_F(RuntimeTest, WhatIsMissingSaysSo) {
  cudaExternalMemory_t memory = nullptr;
  EXPECT_EQ(cudaImportExternalMemory(&memory, nullptr), cudaErrorNotSupported);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotSupported);
  // A function that the driver lacks answers likewise instead of crashing.
  size_t value = 0;
  EXPECT_EQ(cudaDeviceGetLimit(&value, cudaLimitStackSize), cudaErrorNotSupported);
}

TEST_F(RuntimeTest, DescribesPointers) {
  void *device = nullptr, *pinned = nullptr;
  int pageable = 0;
  cudaPointerAttributes a;
  ASSERT_EQ(cudaMalloc(&device, 64), cudaSuccess);
  ASSERT_EQ(cudaMallocHost(&pinned, 64), cudaSuccess);
  ASSERT_EQ(cudaPointerGetAttributes(&a, device), cudaSuccess);
  EXPECT_EQ(a.type, cudaMemoryTypeDevice);
  EXPECT_EQ(a.devicePointer, device);
  EXPECT_EQ(a.hostPointer, nullptr);
  ASSERT_EQ(cudaPointerGetAttributes(&a, pinned), cudaSuccess);
  EXPECT_EQ(a.type, cudaMemoryTypeHost);
  EXPECT_EQ(a.hostPointer, pinned);
  ASSERT_EQ(cudaPointerGetAttributes(&a, &pageable), cudaSuccess);
  EXPECT_EQ(a.type, cudaMemoryTypeUnregistered);
  EXPECT_EQ(a.device, -2);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, CopiesAndFillsInRowsAndBoxes) {
  char* device = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&device), 4096), cudaSuccess);
  std::vector<char> host(4096, 1);
  EXPECT_EQ(cudaMemcpy2D(device, 64, host.data(), 32, 40, 2, cudaMemcpyHostToDevice),
            cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemcpy2D(device, 64, host.data(), 32, 32, 3, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(device[64 * 2 + 31], 1);
  EXPECT_EQ(device[64 * 2 + 32], 0);
  EXPECT_EQ(cudaMemcpy(device, host.data(), 4, static_cast<cudaMemcpyKind>(9)),
            cudaErrorInvalidMemcpyDirection);

  cudaPitchedPtr box = {};
  box.ptr = device;
  box.pitch = 64;
  box.xsize = 32;
  box.ysize = 4;
  cudaExtent extent = {};
  extent.width = 16;
  extent.height = 2;
  extent.depth = 3;
  ASSERT_EQ(cudaMemset3D(box, 7, extent), cudaSuccess);
  EXPECT_EQ(device[64 * (4 * 2 + 1) + 15], 7);
  EXPECT_NE(device[64 * (4 * 2 + 2)], 7);
  EXPECT_NE(device[64 * (4 * 2 + 1) + 16], 7);
  driver_->clear_calls();
  extent.height = 4;
  ASSERT_EQ(cudaMemset3D(box, 8, extent), cudaSuccess);
  EXPECT_EQ(AllCalls(), 1);
  EXPECT_EQ(device[64 * 11 + 15], 8);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
}

TEST_F(RuntimeTest, ExtentsCountElementsWhereAnArrayTakesPart) {
  cudaMemcpy3DParms parms = {};
  char host[64];
  parms.srcPtr.ptr = host;
  parms.srcPtr.pitch = 512;
  parms.srcPtr.ysize = 5;
  parms.srcPos.x = 3;
  parms.dstArray = reinterpret_cast<cudaArray_t>(host);
  parms.dstPos.x = 2;
  parms.dstPos.z = 1;
  parms.extent.width = 8;
  parms.extent.height = 4;
  parms.extent.depth = 2;
  parms.kind = cudaMemcpyHostToDevice;
  ASSERT_EQ(cudaMemcpy3D(&parms), cudaSuccess);
  const CUDA_MEMCPY3D copy = driver_->last_copy_3d();
  EXPECT_EQ(copy.WidthInBytes, 8u * 16);  // The fake array holds four floats per element.
  EXPECT_EQ(copy.srcXInBytes, 3u);
  EXPECT_EQ(copy.dstXInBytes, 2u * 16);
  EXPECT_EQ(copy.dstZ, 1u);
  EXPECT_EQ(copy.srcHeight, 5u);
  EXPECT_EQ(copy.srcMemoryType, CU_MEMORYTYPE_HOST);
  EXPECT_EQ(copy.dstMemoryType, CU_MEMORYTYPE_ARRAY);
  EXPECT_EQ(cudaMemcpy3D(nullptr), cudaErrorInvalidValue);
  parms.dstPtr.ptr = host;
  EXPECT_EQ(cudaMemcpy3D(&parms), cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, CallbacksGetTheRuntimesCode) {
  static cudaError_t seen;
  static void* data;
  seen = cudaSuccess;
  int marker = 0;
  ASSERT_EQ(cudaStreamAddCallback(
                nullptr,
                [](cudaStream_t, cudaError_t status, void* user) {
                  seen = status;
                  data = user;
                },
                &marker, 0),
            cudaSuccess);
  EXPECT_EQ(seen, cudaErrorIllegalAddress);
  EXPECT_EQ(data, &marker);
  EXPECT_EQ(cudaStreamAddCallback(nullptr, nullptr, nullptr, 0), cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, AttributesAndOccupancyOfKernels) {
  static const char stub = 0, unknown = 0;
  driver_->set_kernel("attributes", nullptr);
  FakeModule module;
  module.Function(&stub, "attributes");
  cudaFuncAttributes a = {};
  ASSERT_EQ(cudaFuncGetAttributes(&a, &stub), cudaSuccess);
  EXPECT_EQ(a.maxThreadsPerBlock, 500);
  EXPECT_EQ(a.sharedSizeBytes, 501u);
  EXPECT_EQ(a.numRegs, 504);
  EXPECT_EQ(a.clusterSchedulingPolicyPreference, 515);
  EXPECT_EQ(cudaFuncGetAttributes(&a, &unknown), cudaErrorInvalidDeviceFunction);
  int blocks = 0;
  ASSERT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &stub, 256, 0), cudaSuccess);
  EXPECT_EQ(blocks, 8);
}

}  // namespace
