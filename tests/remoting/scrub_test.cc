// New memory is cleared while the dispatcher goes on, and before any stream of the program's sees
// it. The software GPU's streams run side by side, so the order is the server's doing.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;
constexpr std::size_t kSmallestRange = std::size_t{2} << 20;

// Where fills of new memory are held. One that nobody lets go in time goes on by itself, so that a
// dispatcher that waits for it fails the test and does not hang it.
class Gate {
 public:
  static void Pass(void* self) { static_cast<Gate*>(self)->Wait(); }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // True if a fill is or was to be held, and none has gone on.
  bool Holds() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [this] { return reached_ > 0; });
    return reached_ > 0 && passed_ == 0;
  }

 private:
  void Wait() {
    std::unique_lock lock(mutex_);
    ++reached_;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(20), [this] { return open_; });
    ++passed_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int reached_ = 0, passed_ = 0;
  bool open_ = false;
};
Gate* gate = nullptr;
server::driver::Table real;

class ScrubTest : public SoftLoop {
 protected:
  void SetUp() override {
    SoftLoop::SetUp();
    if (HasFatalFailure()) return;
    gate = &gate_;
    real = driver_->table();
    // The session has the driver's own table, which is not constant.
    auto* table = const_cast<server::driver::Table*>(&driver_->table());
    table->cuMemsetD8Async = [](CUdeviceptr to, unsigned char value, std::size_t bytes,
                                CUstream stream) {
      if (value == 0 && bytes >= kSmallestRange) {
        const CUresult held = real.cuLaunchHostFunc(stream, &Gate::Pass, gate);
        if (held != CUDA_SUCCESS) return held;
      }
      return real.cuMemsetD8Async(to, value, bytes, stream);
    };
  }
  void TearDown() override {
    gate_.Open();
    SoftLoop::TearDown();
  }
  std::vector<unsigned char> Read(CUdeviceptr from) {
    std::vector<unsigned char> got(kBytes);
    EXPECT_EQ(cu::cuMemcpyDtoH_v2(got.data(), from, kBytes), CUDA_SUCCESS);
    return got;
  }
  static void ExpectTheDispatcherGoesOn() {
    std::size_t free_bytes = 0, total_bytes = 0;
    EXPECT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  }

  Gate gate_;
};

TEST_F(ScrubTest, StreamsWaitForItAndTheDispatcherDoesNot) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(memory, 0x5a, kBytes, stream_), CUDA_SUCCESS);
  ExpectTheDispatcherGoesOn();
  EXPECT_EQ(cu::cuStreamQuery(stream_), CUDA_ERROR_NOT_READY);
  EXPECT_TRUE(gate_.Holds());
  gate_.Open();
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(Read(memory), std::vector<unsigned char>(kBytes, 0x5a));
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
}

TEST_F(ScrubTest, TheLegacyStreamWaitsToo) {
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(memory, 0x21, kBytes, nullptr), CUDA_SUCCESS);
  ExpectTheDispatcherGoesOn();
  EXPECT_TRUE(gate_.Holds());
  gate_.Open();
  EXPECT_EQ(Read(memory), std::vector<unsigned char>(kBytes, 0x21));
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
}

TEST_F(ScrubTest, MemoryMayGoBeforeItIsClear) {
  static std::atomic<int> unmapped, unmapped_early;
  unmapped = unmapped_early = 0;
  auto* table = const_cast<server::driver::Table*>(&driver_->table());
  table->cuMemUnmap = [](CUdeviceptr address, std::size_t bytes) {
    ++unmapped;
    if (gate->Holds()) ++unmapped_early;
    return real.cuMemUnmap(address, bytes);
  };
  // Most of the lease's memory: what is freed does not stay mapped for later.
  CUdeviceptr big = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&big, 48 * kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemFree_v2(big), CUDA_SUCCESS);
  EXPECT_TRUE(gate_.Holds());
  gate_.Open();
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 40 * kBytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(memory, 7, kBytes, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(Read(memory), std::vector<unsigned char>(kBytes, 7));
  EXPECT_GE(unmapped.load(), 1);
  EXPECT_EQ(unmapped_early.load(), 0);
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
}

TEST_F(ScrubTest, PhysicalMemoryIsClearedInTheSameWay) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr at = 0;
  ASSERT_EQ(cu::cuMemCreate(&handle, kSmallestRange, &properties, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemAddressReserve(&at, kSmallestRange, 0, 0, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemMap(at, kSmallestRange, 0, handle, 0), CUDA_SUCCESS);
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  ASSERT_EQ(cu::cuMemSetAccess(at, kSmallestRange, &access, 1), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemsetD8Async(at, 0x33, kBytes, stream_), CUDA_SUCCESS);
  ExpectTheDispatcherGoesOn();
  EXPECT_TRUE(gate_.Holds());
  gate_.Open();
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(Read(at), std::vector<unsigned char>(kBytes, 0x33));
  EXPECT_EQ(cu::cuMemUnmap(at, kSmallestRange), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemRelease(handle), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAddressFree(at, kSmallestRange), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
