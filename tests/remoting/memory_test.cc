// Memory and copies through client and server: quota, credit, exactness, and host sides of all
// kinds.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <vector>

#include "client/custom.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class RemoteMemory : public testing::Test {
 protected:
  explicit RemoteMemory(std::vector<std::uint64_t> limits = {64 * kMiB, 32 * kMiB})
      : loop_(std::move(limits)) {}
  void SetUp() override {
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  CUdeviceptr Allocate(std::size_t bytes) {
    CUdeviceptr address = 0;
    EXPECT_EQ(cu::cuMemAlloc_v2(&address, bytes), CUDA_SUCCESS);
    return address;
  }

  Loop loop_;
  CUcontext context_ = nullptr;
};

TEST_F(RemoteMemory, TheQuotaIsExactAndRunningOutIsNotSticky) {
  std::size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(total_bytes, 64 * kMiB);
  EXPECT_EQ(free_bytes, 64 * kMiB);
  CUdeviceptr address = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&address, 64 * kMiB + 1), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cu::cuMemAlloc_v2(&address, ~std::size_t{0}), CUDA_ERROR_OUT_OF_MEMORY);
  ASSERT_EQ(cu::cuMemAlloc_v2(&address, 64 * kMiB), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(free_bytes, 0u);
  CUdeviceptr more = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&more, 1), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAlloc_v2(&more, 60 * kMiB), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_LE(loop_.driver().peak_bytes(), 64 * kMiB);
}

TEST_F(RemoteMemory, RandomAllocationsNeverExceedTheQuotaAndLoseNothing) {
  std::mt19937_64 random(5);
  std::vector<CUdeviceptr> held;
  for (int i = 0; i < 1500; ++i) {
    if (random() % 2 == 0 || held.empty()) {
      CUdeviceptr address = 0;
      const std::size_t bytes = 1 + random() % (random() % 8 == 0 ? 20 * kMiB : 64 << 10);
      const CUresult result = cu::cuMemAlloc_v2(&address, bytes);
      ASSERT_TRUE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY);
      if (result == CUDA_SUCCESS) held.push_back(address);
    } else {
      std::swap(held[random() % held.size()], held.back());
      ASSERT_EQ(cu::cuMemFree_v2(held.back()), CUDA_SUCCESS);
      held.pop_back();
    }
    ASSERT_LE(loop_.quota().Used(0), 64 * kMiB);
  }
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_LE(loop_.driver().peak_bytes(), 64 * kMiB);
  for (const CUdeviceptr address : held) ASSERT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
  CUdeviceptr all = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&all, 64 * kMiB), CUDA_SUCCESS);
}

TEST_F(RemoteMemory, AddressesOutsideAllocationsAreRefusedAtOnce) {
  const CUdeviceptr address = Allocate(1000);
  char bytes[1001] = {};
  loop_.TakeRoundTrips();
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(address, bytes, 1001), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(address + 1, bytes, 1000), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(bytes, address - 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(bytes, 0, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(bytes, reinterpret_cast<CUdeviceptr>(bytes), 1),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(address, nullptr, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemsetD8_v2(address, 0, 1001), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemsetD32_v2(address + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemFree_v2(address + 512), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemFree_v2(12345), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemFree_v2(0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(address, bytes, 0), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(address, bytes, 1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(RemoteMemory, HostMemoryThatIsNoneHarmsNobody) {
  constexpr std::size_t kBytes = kMiB;
  const CUdeviceptr address = Allocate(kBytes);
  void* gone = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(gone, MAP_FAILED);
  ASSERT_EQ(::munmap(gone, kBytes), 0);
  const CUdeviceptr window = loop_.client().window().base;
  for (void* host : {reinterpret_cast<void*>(address), reinterpret_cast<void*>(window - 8), gone}) {
    // What is copied on the way here faults here, as it does with CUDA.
    for (const std::size_t bytes : {host == gone ? kBytes / 2 : std::size_t{16}, kBytes}) {
      EXPECT_EQ(cu::cuMemcpyHtoD_v2(address, host, bytes), CUDA_ERROR_INVALID_VALUE);
      EXPECT_EQ(cu::cuMemcpyHtoDAsync_v2(address, host, bytes, nullptr), CUDA_ERROR_INVALID_VALUE);
      EXPECT_EQ(cu::cuMemcpyDtoH_v2(host, address, bytes), CUDA_ERROR_INVALID_VALUE);
      EXPECT_EQ(cu::cuMemcpyDtoHAsync_v2(host, address, bytes, nullptr), CUDA_ERROR_INVALID_VALUE);
    }
  }
  std::vector<unsigned char> in(kBytes, 5), out(kBytes);
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(address, in.data(), kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(out.data(), address, kBytes), CUDA_SUCCESS);
  EXPECT_EQ(in, out);
}

TEST_F(RemoteMemory, NobodySeesWhatAnotherLeaseLeftBehind) {
  const CUdeviceptr address = Allocate(5 * kMiB);
  std::vector<unsigned char> bytes(5 * kMiB);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(bytes.data(), address, bytes.size()), CUDA_SUCCESS);
  for (std::size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], 0) << i;
}

TEST_F(RemoteMemory, AStagingBufferInUseIsNotReusedWhenTheDriverTakesNoHostFunction) {
  CUmodule module = nullptr;
  CUfunction wait = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, ".version 9.0\n"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&wait, module, "wait"), CUDA_SUCCESS);
  const CUdeviceptr first = Allocate(kMiB), second = Allocate(kMiB);
  void *ones = nullptr, *twos = nullptr;
  ASSERT_EQ(cu::cuMemHostAlloc(&ones, kMiB, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemHostAlloc(&twos, kMiB, 0), CUDA_SUCCESS);
  std::memset(ones, 1, kMiB);
  std::memset(twos, 2, kMiB);
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
  const auto launch_host_function = table.cuLaunchHostFunc;
  table.cuLaunchHostFunc = [](CUstream, CUhostFn, void*) { return CUDA_ERROR_NOT_SUPPORTED; };
  ASSERT_EQ(cu::cuLaunchKernel(wait, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr), CUDA_SUCCESS);
  static_cast<void>(cu::cuMemcpyHtoDAsync_v2(first, ones, kMiB, stream));
  static_cast<void>(cu::cuMemcpyHtoDAsync_v2(second, twos, kMiB, stream));
  // Both copies have been dispatched when this is answered.
  static_cast<void>(cu::cuStreamQuery(stream));
  std::size_t free_bytes = 0, total_bytes = 0;
  static_cast<void>(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes));
  table.cuLaunchHostFunc = launch_host_function;
  loop_.driver().OpenGate();
  static_cast<void>(cu::cuCtxSynchronize());
  EXPECT_EQ(*reinterpret_cast<unsigned char*>(first), 1);
  EXPECT_EQ(*reinterpret_cast<unsigned char*>(second), 2);
}

class CopySizes : public RemoteMemory, public testing::WithParamInterface<std::size_t> {
 protected:
  CopySizes() : RemoteMemory({std::uint64_t{512} * kMiB}) {}
};

TEST_P(CopySizes, ThereAndBack) {
  const std::size_t bytes = GetParam();
  std::vector<std::uint64_t> out(bytes / 8 + 1), back(bytes / 8 + 1);
  std::mt19937_64 random(bytes);
  for (auto& word : out) word = random();
  const CUdeviceptr a = Allocate(bytes), b = Allocate(bytes);
  loop_.TakeRoundTrips();
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(a, out.data(), bytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoD_v2(b, a, bytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(back.data(), b, bytes), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  EXPECT_EQ(std::memcmp(out.data(), back.data(), bytes), 0);
  // The source may change as soon as a copy has returned.
  void* pinned = nullptr;
  ASSERT_EQ(cu::cuMemHostAlloc(&pinned, bytes, 0), CUDA_SUCCESS);
  std::memset(pinned, 1, bytes);
  ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(a, pinned, bytes, nullptr), CUDA_SUCCESS);
  std::memset(pinned, 2, bytes);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(pinned, a, bytes, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  const auto* result = static_cast<const unsigned char*>(pinned);
  EXPECT_EQ(result[0], 1);
  EXPECT_EQ(result[bytes - 1], 1);
  EXPECT_EQ(cu::cuMemFreeHost(pinned), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFreeHost(pinned), CUDA_ERROR_INVALID_VALUE);
}
INSTANTIATE_TEST_SUITE_P(Sizes, CopySizes,
                         testing::Values(1, 7, 4096, 16384, 16385, 1 << 20, (1 << 20) + 1,
                                         (33 << 20) + 5, 100 << 20));

TEST_F(RemoteMemory, PitchedCopiesMoveExactlyTheirRows) {
  constexpr std::size_t kWidth = 100, kHeight = 37, kHostPitch = 160;
  CUdeviceptr device = 0;
  std::size_t pitch = 0;
  ASSERT_EQ(cu::cuMemAllocPitch_v2(&device, &pitch, kWidth, kHeight, 4), CUDA_SUCCESS);
  EXPECT_EQ(pitch % 512, 0u);
  std::vector<unsigned char> host(kHostPitch * kHeight), back(kHostPitch * kHeight, 0xee);
  std::mt19937 random(3);
  for (auto& byte : host) byte = static_cast<unsigned char>(random());
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = host.data();
  copy.srcPitch = kHostPitch;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = device;
  copy.dstPitch = pitch;
  copy.WidthInBytes = kWidth;
  copy.Height = kHeight;
  loop_.TakeRoundTrips();
  ASSERT_EQ(cu::cuMemcpy2D_v2(&copy), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  CUDA_MEMCPY2D fetch{};
  fetch.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
  fetch.srcDevice = device;
  fetch.srcPitch = pitch;
  fetch.dstMemoryType = CU_MEMORYTYPE_HOST;
  fetch.dstHost = back.data();
  fetch.dstPitch = kHostPitch;
  fetch.dstXInBytes = 10;
  fetch.WidthInBytes = kWidth;
  fetch.Height = kHeight;
  ASSERT_EQ(cu::cuMemcpy2DUnaligned_v2(&fetch), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  for (std::size_t y = 0; y < kHeight; ++y) {
    ASSERT_EQ(std::memcmp(&back[y * kHostPitch + 10], &host[y * kHostPitch], kWidth), 0) << y;
    ASSERT_EQ(back[y * kHostPitch + 9], 0xee);
    ASSERT_EQ(back[y * kHostPitch + 110], 0xee);
  }
  fetch.dstPitch = kWidth - 1;
  EXPECT_EQ(cu::cuMemcpy2D_v2(&fetch), CUDA_ERROR_INVALID_VALUE);
  fetch.dstPitch = kHostPitch;
  fetch.Height = kHeight + 1;
  EXPECT_EQ(cu::cuMemcpy2D_v2(&fetch), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(RemoteMemory, BoxesAndFills) {
  const CUdeviceptr device = Allocate(64 * 16 * 8);
  ASSERT_EQ(cu::cuMemsetD32_v2(device, 0x01010101, 64 * 16 * 8 / 4), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD2D32_v2(device + 8, 64, 0x02020202, 4, 3), CUDA_SUCCESS);
  std::vector<unsigned char> host(32 * 8 * 4, 9);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = host.data();
  copy.srcPitch = 32;
  copy.srcHeight = 8;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = device;
  copy.dstPitch = 64;
  copy.dstHeight = 16;
  copy.dstXInBytes = 4;
  copy.dstY = 5;
  copy.dstZ = 2;
  copy.WidthInBytes = 20;
  copy.Height = 6;
  copy.Depth = 3;
  ASSERT_EQ(cu::cuMemcpy3D_v2(&copy), CUDA_SUCCESS);
  std::vector<unsigned char> back(64 * 16 * 8);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(back.data(), device, back.size()), CUDA_SUCCESS);
  for (std::size_t i = 0; i < back.size(); ++i) {
    const std::size_t x = i % 64, y = i / 64 % 16, z = i / 64 / 16;
    const bool in_box = x >= 4 && x < 24 && y >= 5 && y < 11 && z >= 2 && z < 5;
    const bool in_fill = z == 0 && y < 3 && x >= 8 && x < 24;
    ASSERT_EQ(back[i], in_box ? 9 : in_fill ? 2 : 1) << x << ' ' << y << ' ' << z;
  }
}

TEST_F(RemoteMemory, UnifiedCopiesAndPointerAttributes) {
  const CUdeviceptr device = Allocate(4096);
  int value = 77, back = 0;
  ASSERT_EQ(cu::cuMemcpy(device, reinterpret_cast<CUdeviceptr>(&value), 4), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpy(reinterpret_cast<CUdeviceptr>(&back), device, 4), CUDA_SUCCESS);
  EXPECT_EQ(back, 77);
  loop_.TakeRoundTrips();
  unsigned type = 0;
  int ordinal = -1;
  CUcontext owner = nullptr;
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  ASSERT_EQ(cu::cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device + 5),
            CUDA_SUCCESS);
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
  ASSERT_EQ(cu::cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, device),
            CUDA_SUCCESS);
  EXPECT_EQ(ordinal, 0);
  ASSERT_EQ(cu::cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, device), CUDA_SUCCESS);
  EXPECT_EQ(owner, context_);
  ASSERT_EQ(cu::cuMemGetAddressRange_v2(&base, &bytes, device + 100), CUDA_SUCCESS);
  EXPECT_EQ(base, device);
  EXPECT_EQ(bytes, 4096u);
  EXPECT_EQ(cu::cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      reinterpret_cast<CUdeviceptr>(&value)),
            CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(cu::cuMemHostRegister_v2(&value, 4, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemHostRegister_v2(&value, 4, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  ASSERT_EQ(cu::cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      reinterpret_cast<CUdeviceptr>(&value)),
            CUDA_SUCCESS);
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_HOST});
  ASSERT_EQ(cu::cuMemHostUnregister(&value), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemHostUnregister(&value), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
}

TEST_F(RemoteMemory, TwoDevicesHaveTheirOwnQuotasAndCopyToEachOther) {
  int count = 0;
  ASSERT_EQ(cu::cuDeviceGetCount(&count), CUDA_SUCCESS);
  ASSERT_EQ(count, 2);
  std::size_t total = 0;
  ASSERT_EQ(cu::cuDeviceTotalMem_v2(&total, 1), CUDA_SUCCESS);
  EXPECT_EQ(total, 32 * kMiB);
  const CUdeviceptr first = Allocate(1 << 20);
  CUcontext second = nullptr;
  ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&second, 1), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(second), CUDA_SUCCESS);
  CUdeviceptr too_much = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&too_much, 33 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  const CUdeviceptr other = Allocate(1 << 20);
  std::vector<int> data(1 << 18), back(1 << 18);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<int>(i * 3);
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(first, data.data(), 1 << 20), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyPeer(other, second, first, context_, 1 << 20), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(back.data(), other, 1 << 20), CUDA_SUCCESS);
  EXPECT_EQ(back, data);
  int can = 1;
  ASSERT_EQ(cu::cuDeviceCanAccessPeer(&can, 0, 1), CUDA_SUCCESS);
  EXPECT_EQ(can, 0);
  EXPECT_EQ(cu::cuCtxEnablePeerAccess(context_, 0), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  CUcontext current = nullptr;
  ASSERT_EQ(cu::cuCtxGetCurrent(&current), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxEnablePeerAccess(current, 0), CUDA_ERROR_INVALID_DEVICE);
}

TEST_F(RemoteMemory, DeviceFactsComeFromTheServerExceptWhatANetworkForbids) {
  loop_.TakeRoundTrips();
  char name[64];
  ASSERT_EQ(cu::cuDeviceGetName(name, sizeof name, 0), CUDA_SUCCESS);
  EXPECT_STREQ(name, "Fake GPU");
  ASSERT_EQ(cu::cuDeviceGetName(name, 5, 0), CUDA_SUCCESS);
  EXPECT_STREQ(name, "Fake");
  int value = -1;
  ASSERT_EQ(cu::cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0), CUDA_SUCCESS);
  EXPECT_EQ(value, 32);
  ASSERT_EQ(cu::cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 0),
            CUDA_SUCCESS);
  EXPECT_EQ(value, 0);
  EXPECT_EQ(cu::cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(10000), 0),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 9),
            CUDA_ERROR_INVALID_DEVICE);
  char bus[32];
  CUdevice device = -1;
  ASSERT_EQ(cu::cuDeviceGetPCIBusId(bus, sizeof bus, 1), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDeviceGetByPCIBusId(&device, bus), CUDA_SUCCESS);
  EXPECT_EQ(device, 1);
  int version = 0;
  ASSERT_EQ(cu::cuDriverGetVersion(&version), CUDA_SUCCESS);
  EXPECT_EQ(version, 13000);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
}

}  // namespace
}  // namespace farwarp::tests
