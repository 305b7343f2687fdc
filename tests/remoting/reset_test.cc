// Contexts that have failed and begin anew, with the worker alive.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "client/custom.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr char kImage[] = ".version 9.0\n";

CUfunction Function(const char* name) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  EXPECT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuModuleGetFunction(&function, module, name), CUDA_SUCCESS);
  return function;
}

CUresult Launch(const char* name) {
  return cu::cuLaunchKernel(Function(name), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
}

// Allocates, fills and reads back in the current context.
void ExpectWorks() {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 4096), CUDA_SUCCESS);
  int value = 42, n = 1024;
  void* parameters[] = {&memory, &value, &n};
  ASSERT_EQ(
      cu::cuLaunchKernel(Function("fill"), 1, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr),
      CUDA_SUCCESS);
  std::vector<int> got(1024);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(got.data(), memory, 4096), CUDA_SUCCESS);
  EXPECT_EQ(got, std::vector<int>(1024, 42));
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
}

class Reset : public testing::Test {
 protected:
  void UsePrimary() {
    CUcontext context = nullptr;
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context), CUDA_SUCCESS);
  }
  static CUcontext PrimaryOf() {
    CUcontext current = nullptr;
    EXPECT_EQ(cu::cuCtxGetCurrent(&current), CUDA_SUCCESS);
    return current;
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  Loop loop_;
};

TEST_F(Reset, APrimaryContextThatFailedIsCleanAfterEachReset) {
  for (int life = 0; life < 3; ++life) {
    UsePrimary();
    ExpectWorks();
    CUdeviceptr left = 0;
    ASSERT_EQ(cu::cuMemAlloc_v2(&left, 8 << 20), CUDA_SUCCESS);
    ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_EQ(cu::cuMemAlloc_v2(&left, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
    EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
    EXPECT_EQ(loop_.process().devices()[0]->memory.Find(left), std::nullopt);
  }
  UsePrimary();
  ExpectWorks();
}

TEST_F(Reset, AFaultThatNobodyHasHeardOfIsTheResetsResult) {
  UsePrimary();
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  const CUresult reset = cu::cuDevicePrimaryCtxReset_v2(0);
  EXPECT_TRUE(reset == CUDA_SUCCESS || reset == CUDA_ERROR_ILLEGAL_ADDRESS) << reset;
  UsePrimary();
  ExpectWorks();
}

// The server tells each life's asynchronous error, though it is the same.
TEST_F(Reset, TheSameFaultIsToldAgainInTheNextLife) {
  for (int life = 0; life < 2; ++life) {
    UsePrimary();
    CUdeviceptr memory = 0;
    ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 4096), CUDA_SUCCESS);
    ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
    // Posts only: the error comes as a push, after the fault has happened.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS && std::chrono::steady_clock::now() < deadline) {
      result = cu::cuMemsetD8_v2(memory, 1, 16);
    }
    EXPECT_EQ(result, CUDA_ERROR_ILLEGAL_ADDRESS) << "life " << life;
    EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  }
}

TEST_F(Reset, ThePrimaryContextStaysRetained) {
  const auto active = [] {
    unsigned flags = 0;
    int answer = -1;
    EXPECT_EQ(cu::cuDevicePrimaryCtxGetState(0, &flags, &answer), CUDA_SUCCESS);
    return answer;
  };
  EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  UsePrimary();
  EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  EXPECT_EQ(active(), 0);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  UsePrimary();
  ExpectWorks();
  // One of the two uses ends, and the other one keeps it.
  EXPECT_EQ(cu::cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
  EXPECT_EQ(active(), 1);
  ExpectWorks();
  EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
}

TEST_F(Reset, AContextThatFailedCanBeDestroyedAndReplaced) {
  CUcontext failed = nullptr, next = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&failed, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  // Also with the failed one still current.
  ASSERT_EQ(cu::cuCtxCreate_v2(&next, 0, 0), CUDA_SUCCESS);
  ExpectWorks();
  EXPECT_EQ(cu::cuCtxDestroy_v2(failed), CUDA_SUCCESS);
  ExpectWorks();
  EXPECT_EQ(cu::cuCtxDestroy_v2(next), CUDA_SUCCESS);
}

TEST_F(Reset, WaitingForAnotherContextThatFailedDoesNotFailTheCurrentOne) {
  CUcontext failed = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&failed, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  UsePrimary();
  EXPECT_EQ(cu::cuCtxSynchronize_v2(failed), CUDA_ERROR_ILLEGAL_ADDRESS);
  ExpectWorks();
  EXPECT_EQ(cu::cuCtxDestroy_v2(failed), CUDA_SUCCESS);
  ExpectWorks();
}

TEST_F(Reset, StreamsAndEventsOfAnotherContextThatFailedDoNotFailTheCurrentOne) {
  CUcontext failed = nullptr;
  CUstream stream = nullptr;
  CUevent event = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&failed, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  static_cast<void>(cu::cuEventRecord(event, stream));
  UsePrimary();
  EXPECT_EQ(cu::cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  ExpectWorks();
  EXPECT_EQ(cu::cuStreamQuery(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cu::cuEventSynchronize(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  ExpectWorks();
  EXPECT_EQ(cu::cuCtxDestroy_v2(failed), CUDA_SUCCESS);
  ExpectWorks();
}

TEST_F(Reset, ACopyThatFailedIsForgottenWithTheWaitThatSaysSo) {
  UsePrimary();
  CUdeviceptr memory = 0;
  void* host = nullptr;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 1 << 20), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAllocHost_v2(&host, 1 << 20), CUDA_SUCCESS);
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  static_cast<void>(cu::cuMemcpyDtoHAsync_v2(host, memory, 1 << 20, nullptr));
  EXPECT_EQ(cu::cuStreamSynchronize(nullptr), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_FALSE(loop_.process().HostMemoryPending(reinterpret_cast<std::uint64_t>(host), 1 << 20));
  for (std::uint64_t i = 0; i < loop_.client().TransferMark(); ++i) {
    EXPECT_FALSE(loop_.client().TransferPending(i)) << i;
  }
  EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  UsePrimary();
  ExpectWorks();
}

// What belongs to no context, or to a healthy one, is told to the server although the current
// context has failed.
class Failed : public Reset {
 protected:
  void SetUp() override {
    UsePrimary();
    ExpectWorks();
  }
  void Fail() {
    ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  }
  void BeginAnew() {
    EXPECT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
    UsePrimary();
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
  static CUlibrary Load() {
    CUlibrary library = nullptr;
    EXPECT_EQ(cu::cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0),
              CUDA_SUCCESS);
    return library;
  }
};

TEST_F(Failed, AKernelThatIsFirstUsedThenWorksInTheNextLife) {
  const CUlibrary library = Load();
  Fail();
  CUkernel kernel = nullptr;
  EXPECT_EQ(cu::cuLibraryGetKernel(&kernel, library, "fill"), CUDA_SUCCESS);
  CUfunction function = nullptr;
  EXPECT_EQ(cu::cuKernelGetFunction(&function, kernel), CUDA_ERROR_ILLEGAL_ADDRESS);
  BeginAnew();
  ASSERT_EQ(cu::cuLibraryGetKernel(&kernel, library, "fill"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuKernelGetFunction(&function, kernel), CUDA_SUCCESS);
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 64), CUDA_SUCCESS);
  int value = 42, n = 16;
  void* parameters[] = {&memory, &value, &n};
  for (const CUfunction each : {function, reinterpret_cast<CUfunction>(kernel)}) {
    EXPECT_EQ(cu::cuLaunchKernel(each, 1, 1, 1, 16, 1, 1, 0, nullptr, parameters, nullptr),
              CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
}

TEST_F(Failed, AFunctionOfAModuleOfAnotherContextIsFoundAndWorks) {
  CUcontext primary = PrimaryOf(), failed = nullptr;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxCreate_v2(&failed, 0, 0), CUDA_SUCCESS);
  Fail();
  EXPECT_EQ(cu::cuModuleGetFunction(&function, module, "wait"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(primary), CUDA_SUCCESS);
  loop_.driver().OpenGate();
  EXPECT_EQ(cu::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxDestroy_v2(failed), CUDA_SUCCESS);
}

TEST_F(Failed, ALibraryCanBeUnloaded) {
  const CUlibrary library = Load();
  Fail();
  EXPECT_EQ(cu::cuLibraryUnload(library), CUDA_SUCCESS);
  BeginAnew();
  EXPECT_EQ(cu::cuLibraryUnload(Load()), CUDA_SUCCESS);
}

TEST_F(Failed, PhysicalMemoryCanBeReleased) {
  client::DeviceMemory& memory = loop_.process().devices()[0]->memory;
  CUmemAllocationProp props{};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  CUmemGenericAllocationHandle mapped = 0, unmapped = 0;
  CUdeviceptr address = 0;
  constexpr std::size_t kSize = 2 << 20;
  ASSERT_EQ(cu::cuMemAddressReserve(&address, kSize, 0, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemCreate(&unmapped, kSize, &props, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemCreate(&mapped, kSize, &props, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemMap(address, kSize, 0, mapped, 0), CUDA_SUCCESS);
  Fail();
  EXPECT_EQ(cu::cuMemRelease(unmapped), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemRelease(mapped), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemUnmap(address, kSize), CUDA_SUCCESS);
  BeginAnew();
  // Nothing is charged but what is mapped here, or credit. The server unmaps in its own time.
  std::uint64_t free_bytes = 0, total_bytes = 1;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (free_bytes != total_bytes && std::chrono::steady_clock::now() < deadline) {
    ASSERT_EQ(memory.Info(&free_bytes, &total_bytes), CUDA_SUCCESS);
  }
  EXPECT_EQ(free_bytes, total_bytes);
  EXPECT_EQ(memory.mapped_bytes(), 0u);
  EXPECT_EQ(loop_.driver().physical_bytes(), 0u);
}

TEST_F(Failed, ObjectsOfAHealthyContextCanBeEnded) {
  CUcontext primary = PrimaryOf(), failed = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&failed, 0, 0), CUDA_SUCCESS);
  Fail();
  ASSERT_EQ(cu::cuCtxSetCurrent(primary), CUDA_SUCCESS);
  const std::size_t before = loop_.driver().objects();
  CUstream stream = nullptr;
  CUevent event = nullptr;
  CUmodule module = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  std::thread([&] {
    // Its own stream ends with it.
    EXPECT_EQ(cu::cuCtxSetCurrent(primary), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuStreamQuery(CU_STREAM_PER_THREAD), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSetCurrent(failed), CUDA_SUCCESS);
  }).join();
  ASSERT_EQ(cu::cuCtxSetCurrent(failed), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventDestroy_v2(event), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuModuleUnload(module), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(primary), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (loop_.driver().objects() > before && std::chrono::steady_clock::now() < deadline) {
    ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);  // The module goes elsewhere on the server.
  }
  EXPECT_EQ(loop_.driver().objects(), before);
  EXPECT_EQ(cu::cuCtxDestroy_v2(failed), CUDA_SUCCESS);
}

TEST_F(Failed, ItsObjectsEndWithThatFailure) {
  CUstream stream = nullptr;
  CUevent event = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  Fail();
  EXPECT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cu::cuEventDestroy_v2(event), CUDA_ERROR_ILLEGAL_ADDRESS);
  BeginAnew();
  EXPECT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

// Whatever cannot be sent leaves the client's books as they were.
TEST_F(Reset, ADeadSessionLeavesTheHeapAsItWas) {
  UsePrimary();
  CUdeviceptr kept = 0, more = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&kept, 4 << 20), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  client::DeviceMemory& memory = loop_.process().devices()[0]->memory;
  const auto mapped = memory.mapped_bytes();
  const auto credit = memory.credit();
  loop_.Cut();
  while (loop_.client().death() == CUDA_SUCCESS) std::this_thread::yield();
  std::uint64_t address = 0;
  // Past every function that asks for the session's health first.
  EXPECT_NE(memory.Allocate(8 << 20, 1, &address), CUDA_SUCCESS);
  EXPECT_EQ(memory.mapped_bytes(), mapped);
  EXPECT_EQ(memory.credit(), credit);
  EXPECT_NE(cu::cuMemAlloc_v2(&more, 8 << 20), CUDA_SUCCESS);
  memory.FreeOwnedBy(wire::FromPointer(PrimaryOf()).bits());
  EXPECT_EQ(memory.Find(kept), std::nullopt);
  EXPECT_EQ(memory.mapped_bytes(), mapped);
  EXPECT_EQ(memory.credit(), credit);
  EXPECT_TRUE(memory.Consistent());
}

TEST_F(Reset, ADeadSessionStaysDead) {
  UsePrimary();
  ASSERT_EQ(Launch("fault"), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  loop_.Cut();
  EXPECT_NE(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  CUcontext context = nullptr;
  EXPECT_NE(cu::cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
