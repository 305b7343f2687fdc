#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "server/softgpu/memory/address_space.h"
#include "server/softgpu/memory/device_heap.h"
#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using MemoryTest = ApiTest;
constexpr size_t kVmm = size_t{2} << 20;

// Bytes of device memory that this process has mapped from a file.
size_t FileBytes() {
  std::ifstream maps("/proc/self/maps");
  size_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:farwarp-softgpu") == std::string::npos) continue;
    size_t dash = 0;
    const size_t begin = std::stoull(line, &dash, 16);
    bytes += std::stoull(line.substr(dash + 1), nullptr, 16) - begin;
  }
  return bytes;
}

size_t FreeBytes() {
  size_t free = 0, total = 0;
  EXPECT_OK(cuMemGetInfo_v2(&free, &total));
  return free;
}

TEST_F(MemoryTest, AccountingIsExact) {
  ASSERT_EQ(FreeBytes(), kDeviceBytes);
  CUdeviceptr all, more;
  ASSERT_OK(cuMemAlloc_v2(&all, kDeviceBytes));
  EXPECT_EQ(FreeBytes(), 0u);
  EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, 1));
  EXPECT_OK(cuMemFree_v2(all));
  EXPECT_EQ(FreeBytes(), kDeviceBytes);
  EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, kDeviceBytes + 1));
  EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, ~size_t{0}));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&more, 0));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(all));
  EXPECT_OK(cuMemFree_v2(0));
}

TEST_F(MemoryTest, ContextGivesEverythingBack) {
  CUcontext other;
  ASSERT_OK(cuCtxCreate_v2(&other, 0, 0));
  CUdeviceptr memory;
  ASSERT_OK(cuMemAlloc_v2(&memory, 1 << 20));
  Load(".global g 4096");
  ASSERT_OK(cuCtxDestroy_v2(other));
  EXPECT_EQ(FreeBytes(), kDeviceBytes);
}

TEST_F(MemoryTest, CopiesThereAndBack) {
  std::vector<int> in(100000), out(100000);
  std::iota(in.begin(), in.end(), 7);
  const size_t bytes = in.size() * sizeof(int);
  CUdeviceptr a, b;
  ASSERT_OK(cuMemAlloc_v2(&a, bytes));
  ASSERT_OK(cuMemAlloc_v2(&b, bytes));
  EXPECT_OK(cuMemcpyHtoD_v2(a, in.data(), bytes));
  EXPECT_OK(cuMemcpyDtoD_v2(b, a, bytes));
  EXPECT_OK(cuMemcpyDtoH_v2(out.data(), b, bytes));
  EXPECT_EQ(in, out);
  std::fill(out.begin(), out.end(), 0);
  EXPECT_OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(out.data()), a, bytes));
  EXPECT_EQ(in, out);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a, in.data(), bytes + 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a + bytes, in.data(), 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0x1234, in.data(), 4));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(nullptr, a, 4));
  EXPECT_OK(cuMemcpyHtoD_v2(a, nullptr, 0));
}

TEST_F(MemoryTest, PageableSourceMayChangeAfterAnAsyncCopy) {
  CUdeviceptr memory;
  ASSERT_OK(cuMemAlloc_v2(&memory, 64));
  CUstream stream;
  ASSERT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  ASSERT_OK(Launch(Waiter(gate_), stream));
  int value = 42, got = 0;
  ASSERT_OK(cuMemcpyHtoDAsync_v2(memory, &value, sizeof value, stream));
  value = 0;
  gate_.Open();
  ASSERT_OK(cuMemcpyDtoHAsync_v2(&got, memory, sizeof got, stream));
  EXPECT_EQ(got, 42);  // To pageable memory: complete when the call returns.
}

TEST_F(MemoryTest, RectanglesAndBoxes) {
  CUdeviceptr memory;
  size_t pitch = 0;
  ASSERT_OK(cuMemAllocPitch_v2(&memory, &pitch, 100, 8, 4));
  EXPECT_EQ(pitch % 512, 0u);
  std::vector<unsigned char> in(100 * 8), out(40 * 3);
  std::iota(in.begin(), in.end(), static_cast<unsigned char>(0));
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = in.data();
  copy.srcPitch = 100;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = memory;
  copy.dstPitch = pitch;
  copy.WidthInBytes = 100;
  copy.Height = 8;
  ASSERT_OK(cuMemcpy2D_v2(&copy));
  CUDA_MEMCPY3D box{};
  box.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  box.srcDevice = memory;
  box.srcPitch = pitch;
  box.srcHeight = 8;
  box.srcXInBytes = 10;
  box.srcY = 2;
  box.dstMemoryType = CU_MEMORYTYPE_HOST;
  box.dstHost = out.data();
  box.dstPitch = 40;
  box.WidthInBytes = 40;
  box.Height = 3;
  box.Depth = 1;
  ASSERT_OK(cuMemcpy3D_v2(&box));
  for (size_t y = 0; y < 3; ++y) {
    for (size_t x = 0; x < 40; ++x) {
      ASSERT_EQ(out[y * 40 + x], in[(y + 2) * 100 + x + 10]) << x << "," << y;
    }
  }
  copy.Height = 9;
  copy.srcHost = nullptr;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&copy));
  copy.srcHost = in.data();
  copy.dstPitch = ~size_t{0} / 2;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&copy));
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuMemcpy2D_v2(&copy));
}

TEST_F(MemoryTest, FillsOfAllWidths) {
  CUdeviceptr memory;
  ASSERT_OK(cuMemAlloc_v2(&memory, 4096));
  std::uint32_t words[4];
  EXPECT_OK(cuMemsetD32_v2(memory, 0x01020304, 4));
  EXPECT_OK(cuMemsetD16_v2(memory + 4, 0xabcd, 2));
  EXPECT_OK(cuMemsetD8_v2(memory + 8, 0x7f, 4));
  EXPECT_OK(cuMemcpyDtoH_v2(words, memory, sizeof words));
  EXPECT_EQ(words[0], 0x01020304u);
  EXPECT_EQ(words[1], 0xabcdabcdu);
  EXPECT_EQ(words[2], 0x7f7f7f7fu);
  EXPECT_EQ(words[3], 0x01020304u);
  EXPECT_OK(cuMemsetD2D8_v2(memory, 64, 1, 32, 4));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(memory + 2, 0, 1));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(memory, 0, 4097));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D32_v2(memory, 64, 1, 32, 4));
}

TEST_F(MemoryTest, HostMemoryIsMappedAtItsOwnAddress) {
  void* host;
  ASSERT_OK(cuMemHostAlloc(&host, 5000, CU_MEMHOSTALLOC_PORTABLE));
  CUdeviceptr device = 0;
  EXPECT_OK(cuMemHostGetDevicePointer_v2(&device, host, 0));
  EXPECT_EQ(device, reinterpret_cast<CUdeviceptr>(host));
  unsigned flags = 0, type = 0;
  EXPECT_OK(cuMemHostGetFlags(&flags, host));
  EXPECT_EQ(flags & CU_MEMHOSTALLOC_PORTABLE, unsigned{CU_MEMHOSTALLOC_PORTABLE});
  EXPECT_OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device));
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_HOST});
  EXPECT_OK(cuMemsetD8_v2(device, 9, 5000));
  EXPECT_EQ(static_cast<unsigned char*>(host)[4999], 9);
  EXPECT_OK(cuMemFreeHost(host));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(host));
  std::vector<int> own(1000);
  EXPECT_OK(cuMemHostRegister_v2(own.data(), 4000, 0));
  EXPECT_CU(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(own.data(), 4000, 0));
  EXPECT_OK(cuMemHostUnregister(own.data()));
  EXPECT_CU(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(own.data()));
}

TEST_F(MemoryTest, ManagedMemoryIsOnePlace) {
  CUdeviceptr memory;
  ASSERT_OK(cuMemAllocManaged(&memory, 4096, CU_MEM_ATTACH_GLOBAL));
  auto* host = reinterpret_cast<unsigned char*>(memory);
  host[17] = 5;
  unsigned char got = 0;
  EXPECT_OK(cuMemcpyDtoH_v2(&got, memory + 17, 1));
  EXPECT_EQ(got, 5);
  unsigned managed = 0;
  EXPECT_OK(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, memory));
  EXPECT_EQ(managed, 1u);
  EXPECT_OK(cuMemPrefetchAsync(memory, 4096, 0, nullptr));
  EXPECT_OK(cuMemAdvise(memory, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, 0));
  EXPECT_OK(cuMemFree_v2(memory));
}

TEST_F(MemoryTest, PointersTellWhatTheyAre) {
  CUdeviceptr memory, base;
  size_t size;
  ASSERT_OK(cuMemAlloc_v2(&memory, 10000));
  EXPECT_OK(cuMemGetAddressRange_v2(&base, &size, memory + 5000));
  EXPECT_EQ(base, memory);
  EXPECT_EQ(size, 10000u);
  int local = 0, ordinal = 0;
  CUcontext context = nullptr;
  EXPECT_OK(cuPointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, memory));
  EXPECT_EQ(context, context_);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                  reinterpret_cast<CUdeviceptr>(&local)));
  unsigned type = 9;
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  void* data[] = {&type, &ordinal};
  EXPECT_OK(cuPointerGetAttributes(2, attributes, data, reinterpret_cast<CUdeviceptr>(&local)));
  EXPECT_EQ(type, 0u);
  EXPECT_EQ(ordinal, CU_DEVICE_INVALID);
}

TEST_F(MemoryTest, VirtualMemoryAtAChosenAddress) {
  CUdeviceptr window = 0, wanted = 0;
  ASSERT_OK(cuMemAddressReserve(&wanted, kVmm, 0, 0, 0));
  ASSERT_OK(cuMemAddressFree(wanted, kVmm));
  ASSERT_OK(cuMemAddressReserve(&window, 16 * kVmm, 0, wanted, 0));
  EXPECT_EQ(window, wanted);
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  size_t granularity = 0;
  ASSERT_OK(cuMemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  EXPECT_EQ(granularity, kVmm);
  CUmemGenericAllocationHandle handle;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&handle, 4096, &prop, 0));
  EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemCreate(&handle, kDeviceBytes + kVmm, &prop, 0));
  ASSERT_OK(cuMemCreate(&handle, 2 * kVmm, &prop, 0));
  EXPECT_EQ(FreeBytes(), kDeviceBytes - 2 * kVmm);
  ASSERT_OK(cuMemMap(window, 2 * kVmm, 0, handle, 0));
  ASSERT_OK(cuMemMap(window + 4 * kVmm, 2 * kVmm, 0, handle, 0));  // The same memory again.
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemMap(window, kVmm, 0, handle, 0));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(window, 1, 16));  // No access yet.
  const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                  CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  ASSERT_OK(cuMemSetAccess(window, 2 * kVmm, &access, 1));
  ASSERT_OK(cuMemSetAccess(window + 4 * kVmm, 2 * kVmm, &access, 1));
  EXPECT_OK(cuMemsetD8_v2(window, 77, 2 * kVmm));
  unsigned char got = 0;
  EXPECT_OK(cuMemcpyDtoH_v2(&got, window + 4 * kVmm + 12345, 1));
  EXPECT_EQ(got, 77);
  EXPECT_OK(cuMemRelease(handle));
  EXPECT_EQ(FreeBytes(), kDeviceBytes - 2 * kVmm);  // The mappings keep it.
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(window, 16 * kVmm));
  EXPECT_OK(cuMemUnmap(window, 2 * kVmm));
  EXPECT_OK(cuMemUnmap(window + 4 * kVmm, 2 * kVmm));
  EXPECT_EQ(FreeBytes(), kDeviceBytes);
  // What comes next in the same place is clear.
  ASSERT_OK(cuMemCreate(&handle, kVmm, &prop, 0));
  ASSERT_OK(cuMemMap(window, kVmm, 0, handle, 0));
  ASSERT_OK(cuMemSetAccess(window, kVmm, &access, 1));
  EXPECT_OK(cuMemcpyDtoH_v2(&got, window + 100, 1));
  EXPECT_EQ(got, 0);
  EXPECT_OK(cuMemUnmap(window, kVmm));
  EXPECT_OK(cuMemRelease(handle));
  EXPECT_OK(cuMemAddressFree(window, 16 * kVmm));
}

// Physical memory and a window to map it in.
class MappedTest : public ApiTest {
 protected:
  static constexpr size_t kBytes = 4 * kVmm;

  void SetUp() override {
    ApiTest::SetUp();
    ASSERT_OK(cuMemAddressReserve(&window_, 4 * kBytes, 0, 0, 0));
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    ASSERT_OK(cuMemCreate(&handle_, kBytes, &prop, 0));
  }
  void TearDown() override {
    EXPECT_OK(cuMemRelease(handle_));
    EXPECT_EQ(FreeBytes(), kDeviceBytes);
    EXPECT_OK(cuMemAddressFree(window_, 4 * kBytes));
    ApiTest::TearDown();
  }
  void Map(CUdeviceptr at, size_t bytes = kBytes, size_t offset = 0) {
    ASSERT_OK(cuMemMap(at, bytes, offset, handle_, 0));
    Allow(at, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  }
  void Allow(CUdeviceptr at, size_t bytes, CUmemAccess_flags flags) {
    const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, flags};
    ASSERT_OK(cuMemSetAccess(at, bytes, &access, 1));
  }
  unsigned Word(CUdeviceptr at) {
    unsigned word = 0;
    EXPECT_OK(cuMemcpyDtoH_v2(&word, at, sizeof word));
    return word;
  }

  CUdeviceptr window_ = 0;
  CUmemGenericAllocationHandle handle_ = 0;
};

TEST_F(MappedTest, WhatIsMappedOnceIsNoFile) {
  CUdeviceptr plain;
  ASSERT_OK(cuMemAlloc_v2(&plain, kBytes));
  ASSERT_OK(cuMemsetD8_v2(plain, 1, kBytes));
  Map(window_);
  ASSERT_OK(cuMemsetD8_v2(window_, 1, kBytes));
  EXPECT_EQ(FileBytes(), 0u);
  // Nor what is mapped somewhere else next.
  ASSERT_OK(cuMemUnmap(window_, kBytes));
  Map(window_ + kBytes);
  EXPECT_EQ(Word(window_ + kBytes), 0x01010101u);
  EXPECT_EQ(FileBytes(), 0u);
  // This cannot be anything else.
  Map(window_);
  ASSERT_OK(cuMemsetD8_v2(window_, 2, kBytes));
  EXPECT_EQ(FileBytes(), 2 * kBytes);
  EXPECT_OK(cuMemUnmap(window_, kBytes));
  EXPECT_OK(cuMemUnmap(window_ + kBytes, kBytes));
  EXPECT_EQ(FileBytes(), 0u);
  EXPECT_OK(cuMemFree_v2(plain));
}

TEST_F(MappedTest, ContentsStayWhereverItIsMapped) {
  Map(window_);
  for (size_t at = 0; at < kBytes; at += kVmm) {
    ASSERT_OK(cuMemsetD32_v2(window_ + at + 4096, static_cast<unsigned>(at / kVmm) + 7, 3));
  }
  const auto check = [&](CUdeviceptr at, size_t from, size_t to) {
    for (size_t offset = from; offset < to; offset += kVmm) {
      EXPECT_EQ(Word(at + offset - from + 4096), offset / kVmm + 7);
      EXPECT_EQ(Word(at + offset - from), 0u);
      EXPECT_EQ(Word(at + offset - from + kVmm - 4), 0u);
    }
  };
  ASSERT_OK(cuMemUnmap(window_, kBytes));
  Map(window_ + 2 * kBytes);
  check(window_ + 2 * kBytes, 0, kBytes);
  // Twice in full, while the first place may only be read.
  Allow(window_ + 2 * kBytes, kBytes, CU_MEM_ACCESS_FLAGS_PROT_READ);
  Map(window_);
  check(window_ + 2 * kBytes, 0, kBytes);
  check(window_, 0, kBytes);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(window_ + 2 * kBytes, 1, 16));
  ASSERT_OK(cuMemsetD32_v2(window_ + kVmm + 8192, 99, 1));
  EXPECT_EQ(Word(window_ + 2 * kBytes + kVmm + 8192), 99u);
  ASSERT_OK(cuMemUnmap(window_, kBytes));
  ASSERT_OK(cuMemUnmap(window_ + 2 * kBytes, kBytes));
  // In part, and in another order.
  Map(window_ + kBytes, kVmm, 3 * kVmm);
  Map(window_ + kBytes + kVmm, kVmm, kVmm);
  check(window_ + kBytes, 3 * kVmm, 4 * kVmm);
  check(window_ + kBytes + kVmm, kVmm, 2 * kVmm);
  EXPECT_EQ(Word(window_ + kBytes + kVmm + 8192), 99u);
  // Two mappings, taken away as one range.
  EXPECT_OK(cuMemUnmap(window_ + kBytes, 2 * kVmm));
}

TEST_F(MappedTest, WhatWaitsUnmappedMayBeMappedInPart) {
  Map(window_);
  ASSERT_OK(cuMemsetD32_v2(window_ + kVmm, 5, kVmm / 4));
  ASSERT_OK(cuMemUnmap(window_, kBytes));
  Map(window_, 2 * kVmm, kVmm);
  EXPECT_EQ(Word(window_), 5u);
  EXPECT_EQ(Word(window_ + kVmm - 4), 5u);
  EXPECT_EQ(Word(window_ + kVmm), 0u);
  EXPECT_OK(cuMemUnmap(window_, 2 * kVmm));
}

TEST_F(MappedTest, WhatNobodyMayTouchCanBeMappedAgain) {
  Map(window_);
  ASSERT_OK(cuMemsetD32_v2(window_, 5, 1));
  ASSERT_OK(cuCtxSynchronize());
  Allow(window_, kBytes, CU_MEM_ACCESS_FLAGS_PROT_NONE);
  Map(window_ + kBytes);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(window_, 1, 16));
  EXPECT_EQ(Word(window_ + kBytes), 5u);
  EXPECT_OK(cuMemUnmap(window_, 2 * kBytes));
}

// Copies are ordinary code: one that met the memory on its way would end the process.
TEST_F(MappedTest, CopiesGoOnWhileItMoves) {
  Map(window_);
  std::atomic<bool> moved{false};
  std::atomic<unsigned> written{0};
  std::thread copies([&] {
    ASSERT_OK(cuCtxSetCurrent(context_));
    for (unsigned value = 1; !moved || value < 3; ++value) {
      ASSERT_OK(cuMemsetD32_v2(window_, value, kBytes / 4));
      written = value;
      // A fill at a time: a thousand that wait take a sanitizer minutes.
      ASSERT_OK(cuCtxSynchronize());
    }
  });
  while (written == 0) std::this_thread::yield();
  ASSERT_OK(cuMemMap(window_ + kBytes, kBytes, 0, handle_, 0));
  moved = true;
  copies.join();
  Allow(window_ + kBytes, kBytes, CU_MEM_ACCESS_FLAGS_PROT_READ);
  EXPECT_EQ(Word(window_), written);
  EXPECT_EQ(Word(window_ + 2 * kBytes - 4), written);
  EXPECT_OK(cuMemUnmap(window_, 2 * kBytes));
}

TEST_F(MemoryTest, WindowsOfTerabytesFitBesideAllocations) {
  const AddressSpace& space = **AddressSpace::Get();
  CUdeviceptr memory, window = 0, elsewhere = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 4096));
  // Where clients like to have their windows, and twice as large as most ask for.
  ASSERT_OK(cuMemAddressReserve(&window, space.bytes() / 2, kVmm, space.base(), 0));
  EXPECT_EQ(window, space.base());
  // Taken, or outside: another place, as CUDA treats the address as a wish.
  ASSERT_OK(cuMemAddressReserve(&elsewhere, kVmm, kVmm, space.base(), 0));
  EXPECT_NE(elsewhere, window);
  EXPECT_OK(cuMemAddressFree(elsewhere, kVmm));
  ASSERT_OK(cuMemAddressReserve(&elsewhere, kVmm, kVmm, kVmm, 0));
  EXPECT_TRUE(space.Contains(elsewhere, kVmm));
  EXPECT_OK(cuMemAddressFree(elsewhere, kVmm));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(window, kVmm));
  EXPECT_OK(cuMemAddressFree(window, space.bytes() / 2));
}

TEST_F(MemoryTest, CopiesCrossTheSeamOfMappings) {
  CUdeviceptr window;
  ASSERT_OK(cuMemAddressReserve(&window, 2 * kVmm, 0, 0, 0));
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                  CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  for (int i = 0; i < 2; ++i) {
    CUmemGenericAllocationHandle handle;
    ASSERT_OK(cuMemCreate(&handle, kVmm, &prop, 0));
    ASSERT_OK(cuMemMap(window + static_cast<size_t>(i) * kVmm, kVmm, 0, handle, 0));
    ASSERT_OK(cuMemRelease(handle));
  }
  ASSERT_OK(cuMemSetAccess(window, 2 * kVmm, &access, 1));
  std::vector<unsigned char> in(kVmm, 3), out(kVmm);
  EXPECT_OK(cuMemcpyHtoD_v2(window + kVmm / 2, in.data(), kVmm));
  EXPECT_OK(cuMemcpyDtoH_v2(out.data(), window + kVmm / 2, kVmm));
  EXPECT_EQ(in, out);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(window + kVmm + 1, in.data(), kVmm));
  EXPECT_OK(cuMemUnmap(window, 2 * kVmm));
  EXPECT_OK(cuMemAddressFree(window, 2 * kVmm));
}

TEST_F(MemoryTest, StreamOrderedMemory) {
  CUstream stream;
  ASSERT_OK(cuStreamCreate(&stream, 0));
  CUdeviceptr memory, next;
  ASSERT_OK(Launch(Waiter(gate_), stream));
  ASSERT_OK(cuMemAllocAsync(&memory, kDeviceBytes, stream));
  ASSERT_OK(cuMemFreeAsync(memory, stream));
  EXPECT_EQ(FreeBytes(), 0u);  // The stream is not there yet.
  gate_.Open();
  ASSERT_OK(cuMemAllocAsync(&next, kDeviceBytes, stream));
  ASSERT_OK(cuMemFreeAsync(next, stream));
  ASSERT_OK(cuStreamSynchronize(stream));
  EXPECT_EQ(FreeBytes(), kDeviceBytes);
  CUmemoryPool pool;
  cuuint64_t used = 1, high = 0;
  ASSERT_OK(cuDeviceGetDefaultMemPool(&pool, 0));
  EXPECT_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
  EXPECT_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &high));
  EXPECT_EQ(used, 0u);
  EXPECT_GE(high, kDeviceBytes);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
}

TEST_F(MemoryTest, TheHeapOfKernelsBelongsToItsContext) {
  size_t before = 0, during = 0, after = 0, total = 0, limit = 0;
  ASSERT_OK(cuMemGetInfo_v2(&before, &total));
  CUcontext own = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&own, 0, 0));
  ASSERT_OK(cuCtxGetLimit(&limit, CU_LIMIT_MALLOC_HEAP_SIZE));
  EXPECT_EQ(limit, size_t{8} << 20);
  ASSERT_OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, size_t{2} << 20));
  static std::uint64_t given[2];
  fake::Define("mallocs", [](const LaunchRequest& request) {
    given[0] = request.heap->Allocate(size_t{3} << 20);
    given[1] = request.heap->Allocate(size_t{1} << 20);
    return Fault{};
  });
  ASSERT_OK(Launch(Kernel("mallocs")));
  ASSERT_OK(cuCtxSynchronize());
  EXPECT_EQ(given[0], 0u);
  ASSERT_NE(given[1], 0u);
  ASSERT_OK(cuMemGetInfo_v2(&during, &total));
  EXPECT_EQ(before - during, size_t{2} << 20);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, size_t{4} << 20));
  ASSERT_OK(cuCtxGetLimit(&limit, CU_LIMIT_MALLOC_HEAP_SIZE));
  EXPECT_EQ(limit, size_t{2} << 20);
  // As in CUDA, such memory is for kernels only.
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(given[1]));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(given[1], 0, 16));
  // It outlives kernels, not the context.
  *reinterpret_cast<volatile char*>(given[1]) = 1;
  ASSERT_OK(cuCtxDestroy_v2(own));
  ASSERT_OK(cuCtxSetCurrent(context_));
  ASSERT_OK(cuMemGetInfo_v2(&after, &total));
  EXPECT_EQ(after, before);
}

// As malloc on a device without memory: kernels see a null pointer, nothing else changes.
TEST_F(MemoryTest, AHeapThatTheDeviceHasNoRoomForGivesNothing) {
  CUcontext own = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&own, 0, 0));
  ASSERT_OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 2 * kDeviceBytes));
  static std::uint64_t given;
  fake::Define("mallocs", [](const LaunchRequest& request) {
    given = request.heap->Allocate(16);
    return Fault{};
  });
  ASSERT_OK(Launch(Kernel("mallocs")));
  ASSERT_OK(cuCtxSynchronize());
  EXPECT_EQ(given, 0u);
  ASSERT_OK(cuCtxDestroy_v2(own));
  ASSERT_OK(cuCtxSetCurrent(context_));
}

TEST_F(MemoryTest, PoolsKeepTheirLimitAndTheirAttributes) {
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  props.maxSize = 1 << 20;
  CUmemoryPool pool;
  ASSERT_OK(cuMemPoolCreate(&pool, &props));
  CUdeviceptr memory = 0, none = 0;
  ASSERT_OK(cuMemAllocFromPoolAsync(&memory, 1000, pool, nullptr));
  for (const std::size_t bytes : {~std::size_t{0}, ~std::size_t{0} - 999, std::size_t{1} << 20}) {
    EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocFromPoolAsync(&none, bytes, pool, nullptr));
  }
  const auto number = [&](CUmemPool_attribute attribute) {
    cuuint64_t value = 99;
    EXPECT_OK(cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
  };
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 1000u);
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_USED_MEM_HIGH), 1000u);
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), 0u);
  cuuint64_t value = 1 << 16;
  EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), value);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
  EXPECT_OK(cuMemFreeAsync(memory, nullptr));
  ASSERT_OK(cuStreamSynchronize(nullptr));
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0u);
  value = 0;
  EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  EXPECT_EQ(number(CU_MEMPOOL_ATTR_USED_MEM_HIGH), 0u);
  int flag = 0;
  EXPECT_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &flag));
  flag = 5;
  EXPECT_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &flag));
  EXPECT_EQ(flag, 0);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
            cuMemPoolGetAttribute(pool, static_cast<CUmemPool_attribute>(15), &value));
  EXPECT_OK(cuMemPoolDestroy(pool));
}

}  // namespace
}  // namespace farwarp::softgpu
