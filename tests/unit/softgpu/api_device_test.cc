#include <cstring>
#include <set>

#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using DeviceTest = ApiTest;

TEST_F(DeviceTest, FactsFollowTheConfiguration) {
  int count = 0, value = 0;
  EXPECT_OK(cuDeviceGetCount(&count));
  EXPECT_EQ(count, 2);
  char name[64];
  EXPECT_OK(cuDeviceGetName(name, sizeof name, 1));
  EXPECT_STREQ(name, "Test GPU");
  size_t bytes = 0;
  EXPECT_OK(cuDeviceTotalMem_v2(&bytes, 0));
  EXPECT_EQ(bytes, kDeviceBytes);
  EXPECT_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  EXPECT_EQ(value, 12);
  EXPECT_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
  EXPECT_EQ(value, 4);
  EXPECT_CU(CUDA_ERROR_INVALID_DEVICE,
            cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 2));
  EXPECT_CU(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetName(name, sizeof name, -1));
}

TEST_F(DeviceTest, EveryAttributeIsAnsweredAndNoOther) {
  int value = 0;
  for (int attribute = 1; attribute < CU_DEVICE_ATTRIBUTE_MAX; ++attribute) {
    EXPECT_OK(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(attribute), 0));
  }
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX, 0));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(0), 0));
}

TEST_F(DeviceTest, IdentityIsUniqueAndFound) {
  CUuuid first, second, again;
  EXPECT_OK(cuDeviceGetUuid_v2(&first, 0));
  EXPECT_OK(cuDeviceGetUuid_v2(&second, 1));
  EXPECT_OK(cuDeviceGetUuid_v2(&again, 0));
  EXPECT_NE(std::memcmp(&first, &second, sizeof first), 0);
  EXPECT_EQ(std::memcmp(&first, &again, sizeof first), 0);
  char id[32];
  CUdevice device = -1;
  EXPECT_OK(cuDeviceGetPCIBusId(id, sizeof id, 1));
  EXPECT_OK(cuDeviceGetByPCIBusId(&device, id));
  EXPECT_EQ(device, 1);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&device, "nonsense"));
}

TEST_F(DeviceTest, PeersAreOthers) {
  int can = 0;
  EXPECT_OK(cuDeviceCanAccessPeer(&can, 0, 1));
  EXPECT_EQ(can, 1);
  EXPECT_OK(cuDeviceCanAccessPeer(&can, 0, 0));
  EXPECT_EQ(can, 0);
}

TEST_F(DeviceTest, PrimaryContextIsSharedAndEnds) {
  CUcontext first, second;
  unsigned flags = 0;
  int active = -1;
  EXPECT_OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 0);
  EXPECT_OK(cuDevicePrimaryCtxRetain(&first, 1));
  EXPECT_OK(cuDevicePrimaryCtxRetain(&second, 1));
  EXPECT_EQ(first, second);
  EXPECT_OK(cuCtxPushCurrent_v2(first));
  CUdeviceptr memory;
  EXPECT_OK(cuMemAlloc_v2(&memory, 1 << 20));
  EXPECT_OK(cuDevicePrimaryCtxRelease_v2(1));
  EXPECT_OK(cuDevicePrimaryCtxRelease_v2(1));
  EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1));
  EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
  // The next one has the same handle, and the memory of the last one is free.
  EXPECT_OK(cuDevicePrimaryCtxRetain(&second, 1));
  EXPECT_EQ(first, second);
  size_t free = 0, total = 0;
  EXPECT_OK(cuMemGetInfo_v2(&free, &total));
  EXPECT_EQ(free, total);
  EXPECT_OK(cuDevicePrimaryCtxRelease_v2(1));
}

TEST_F(DeviceTest, ResettingThePrimaryContextDoesNotReleaseIt) {
  CUcontext context;
  unsigned flags = 0;
  int active = -1;
  EXPECT_OK(cuDevicePrimaryCtxReset_v2(1));
  EXPECT_OK(cuDevicePrimaryCtxRetain(&context, 1));
  EXPECT_OK(cuDevicePrimaryCtxReset_v2(1));
  EXPECT_OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 0);
  EXPECT_OK(cuDevicePrimaryCtxRetain(&context, 1));
  EXPECT_OK(cuDevicePrimaryCtxRelease_v2(1));
  EXPECT_OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 1);
  EXPECT_OK(cuDevicePrimaryCtxReset_v2(1));
  EXPECT_OK(cuDevicePrimaryCtxRelease_v2(1));
  EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1));
}

TEST_F(DeviceTest, ErrorNamesAndTexts) {
  const char* text = nullptr;
  EXPECT_OK(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &text));
  EXPECT_STREQ(text, "CUDA_ERROR_ILLEGAL_ADDRESS");
  EXPECT_OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
  EXPECT_NE(std::string(text), "");
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(static_cast<CUresult>(12345), &text));
  EXPECT_EQ(text, nullptr);
}

TEST_F(DeviceTest, ProcAddressKnowsVersionsAndKinds) {
  void* function = nullptr;
  CUdriverProcAddressQueryResult status;
  EXPECT_OK(cuGetProcAddress_v2("cuCtxGetDevice", &function, 2000, 0, &status));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuCtxGetDevice));
  EXPECT_OK(cuGetProcAddress_v2("cuCtxGetDevice", &function, 13000, 0, &status));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuCtxGetDevice_v2));
  EXPECT_OK(cuGetProcAddress_v2("cuLaunchKernel", &function, 7000, 2, &status));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuLaunchKernel_ptsz));
  EXPECT_OK(cuGetProcAddress_v2("cuNothing", &function, 13000, 0, &status));
  EXPECT_EQ(function, nullptr);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  EXPECT_OK(cuGetProcAddress_v2("cuStreamGetId", &function, 11000, 0, &status));
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &function, 99000, 0, &status));
  const void* table = &status;
  CUuuid id{};
  EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuGetExportTable(&table, &id));
  EXPECT_EQ(table, nullptr);
}

TEST_F(DeviceTest, ContextStackIsPerThread) {
  CUcontext current = nullptr, other = nullptr;
  EXPECT_OK(cuCtxCreate_v4(&other, nullptr, 0, 1));
  CUdevice device = -1;
  EXPECT_OK(cuCtxGetDevice(&device));
  EXPECT_EQ(device, 1);
  std::thread([&] {
    EXPECT_OK(cuCtxGetCurrent(&current));
    EXPECT_EQ(current, nullptr);
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
  }).join();
  EXPECT_OK(cuCtxPopCurrent_v2(&current));
  EXPECT_EQ(current, other);
  EXPECT_OK(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context_);
  unsigned long long a = 0, b = 0;
  EXPECT_OK(cuCtxGetId(context_, &a));
  EXPECT_OK(cuCtxGetId(other, &b));
  EXPECT_NE(a, b);
  EXPECT_OK(cuCtxDestroy_v2(other));
  EXPECT_CU(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSetCurrent(other));
}

TEST_F(DeviceTest, ForgedHandlesAreRefused) {
  const auto forged = [](auto handle, std::uint64_t bits) {
    return reinterpret_cast<decltype(handle)>(bits);
  };
  for (const std::uint64_t bits : {std::uint64_t{0x1234}, std::uint64_t{0x0200000100000001} + 77,
                                   ~std::uint64_t{0}, reinterpret_cast<std::uint64_t>(this)}) {
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(forged(CUcontext{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(forged(CUstream{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(forged(CUevent{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(forged(CUmodule{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, Launch(forged(CUfunction{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(forged(CUlibrary{}, bits)));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemRelease(bits));
  }
  CUevent event;
  ASSERT_OK(cuEventCreate(&event, 0));
  EXPECT_OK(cuEventDestroy_v2(event));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(event));
}

TEST_F(DeviceTest, LimitsHaveBounds) {
  size_t value = 0;
  EXPECT_OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
  EXPECT_EQ(value, 1024u);
  EXPECT_OK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
  EXPECT_OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
  EXPECT_EQ(value, 4096u);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit(CU_LIMIT_STACK_SIZE, size_t{1} << 40));
  EXPECT_CU(CUDA_ERROR_UNSUPPORTED_LIMIT, cuCtxGetLimit(&value, CU_LIMIT_SHMEM_SIZE));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(&value, CU_LIMIT_MAX));
}

TEST_F(DeviceTest, UnsupportedIsSaidNotDone) {
  EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuGreenCtxDestroy(nullptr));
}

}  // namespace
}  // namespace farwarp::softgpu
