// What a driver lets wait — unmapping, unloading, destroying — stops nobody else: other work of the
// session goes on, and memory counts as free when it is free and not before.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/custom.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr char kImage[] = ".version 9.0\n";
constexpr std::chrono::seconds kPatience{10};

// Where driver calls that wait for the device are held. A call that nobody lets go in time goes on
// by itself, so that a dispatcher which waits for it fails the test and does not hang it.
class Gate {
 public:
  // Called by the driver.
  void Pass() {
    std::unique_lock lock(mutex_);
    ++reached_;
    changed_.notify_all();
    if (!changed_.wait_for(lock, kPatience, [this] { return open_; })) forced_ = true;
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool WaitUntilReached() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [this] { return reached_ > 0; });
  }
  // True if a call is held, and has been all the time.
  bool Holds() {
    const std::lock_guard lock(mutex_);
    return reached_ > 0 && !open_ && !forced_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int reached_ = 0;
  bool open_ = false, forced_ = false;
};
Gate* gate = nullptr;
server::driver::Table real;  // Of the fake driver, before the gate.
std::vector<std::string>* calls = nullptr;
std::mutex calls_mutex;

void Note(const char* name) {
  const std::lock_guard lock(calls_mutex);
  calls->emplace_back(name);
}

class FinisherTest : public testing::Test {
 protected:
  FinisherTest() {
    gate = &gate_;
    calls = &calls_;
    // The table is the fake driver's own, not constant; nothing calls these before the tests do.
    table_ = const_cast<server::driver::Table*>(&loop_.driver().table());
    real = *table_;
    EXPECT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuModuleLoadData(&module_, kImage), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuModuleGetFunction(&fill_, module_, "fill"), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemAlloc_v2(&memory_, 4096), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
  ~FinisherTest() override {
    gate_.Open();
    cu::cuCtxSetCurrent(nullptr);
    loop_.Cut();
  }

  // Launches, copies and waits in this context, from a thread that has nothing else to do with it.
  void ExpectOthersWork() {
    std::thread([this] {
      ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
      CUstream stream = nullptr;
      ASSERT_EQ(cu::cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
      int value = ++value_, n = 1024;
      void* parameters[] = {&memory_, &value, &n};
      ASSERT_EQ(cu::cuLaunchKernel(fill_, 1, 1, 1, 128, 1, 1, 0, stream, parameters, nullptr),
                CUDA_SUCCESS);
      ASSERT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
      std::vector<int> got(1024);
      ASSERT_EQ(cu::cuMemcpyDtoH_v2(got.data(), memory_, 4096), CUDA_SUCCESS);
      EXPECT_EQ(got, std::vector<int>(1024, value));
      EXPECT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_SUCCESS);
      EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
      cu::cuCtxSetCurrent(nullptr);
    }).join();
  }

  Gate gate_;
  std::vector<std::string> calls_;
  Loop loop_{{256 * kMiB}};
  server::driver::Table* table_ = nullptr;
  CUcontext context_ = nullptr;
  // 128 MiB have been freed, and their unmapping stands at the gate.
  void HoldAnUnmap() {
    table_->cuMemUnmap = [](CUdeviceptr address, std::size_t bytes) {
      gate->Pass();
      return real.cuMemUnmap(address, bytes);
    };
    CUdeviceptr big = 0;
    ASSERT_EQ(cu::cuMemAlloc_v2(&big, 128 * kMiB), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemFree_v2(big), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    ASSERT_TRUE(gate_.WaitUntilReached());
  }

  CUmodule module_ = nullptr;
  CUfunction fill_ = nullptr;
  CUdeviceptr memory_ = 0;
  int value_ = 0;
};

TEST_F(FinisherTest, NobodyWaitsForAnUnmap) {
  ASSERT_NO_FATAL_FAILURE(HoldAnUnmap());
  ExpectOthersWork();
  EXPECT_TRUE(gate_.Holds());
  EXPECT_GE(loop_.driver().physical_bytes(), 128 * kMiB);
  gate_.Open();
  // Asking for the free memory is answered behind what frees it.
  std::size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_LT(loop_.driver().physical_bytes(), 128 * kMiB);
  EXPECT_EQ(free_bytes, total_bytes - loop_.driver().physical_bytes());
}

TEST_F(FinisherTest, MemoryThatIsLeavingIsNotSpentTwice) {
  table_->cuMemUnmap = [](CUdeviceptr address, std::size_t bytes) {
    gate->Pass();
    return real.cuMemUnmap(address, bytes);
  };
  CUdeviceptr first = 0, second = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&first, 200 * kMiB), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemFree_v2(first), CUDA_SUCCESS);
  ASSERT_TRUE(gate_.WaitUntilReached());
  std::thread other([this, &second] {
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemAlloc_v2(&second, 200 * kMiB), CUDA_SUCCESS);
    const std::vector<int> bytes(1024, 5);
    std::vector<int> got(1024);
    EXPECT_EQ(cu::cuMemcpyHtoD_v2(second, bytes.data(), 4096), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuMemcpyDtoH_v2(got.data(), second, 4096), CUDA_SUCCESS);
    EXPECT_EQ(got, bytes);
    cu::cuCtxSetCurrent(nullptr);
  });
  gate_.Open();
  other.join();
  EXPECT_LE(loop_.driver().peak_bytes(), 256 * kMiB);
  ASSERT_EQ(cu::cuMemFree_v2(second), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(FinisherTest, NobodyWaitsForAnUnload) {
  table_->cuModuleUnload = [](CUmodule module) {
    CUcontext current = nullptr;
    real.cuCtxGetCurrent(&current);
    Note(current != nullptr ? "unload in a context" : "unload");
    gate->Pass();
    return real.cuModuleUnload(module);
  };
  table_->cuLibraryUnload = [](CUlibrary library) {
    Note("unload of a library");
    return real.cuLibraryUnload(library);
  };
  CUmodule module = nullptr;
  CUlibrary library = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0),
            CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleUnload(module), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLibraryUnload(library), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  ASSERT_TRUE(gate_.WaitUntilReached());
  ExpectOthersWork();
  // What loads meanwhile is a new one.
  CUmodule another = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&another, kImage), CUDA_SUCCESS);
  EXPECT_TRUE(gate_.Holds());
  const std::size_t objects = loop_.driver().objects();
  gate_.Open();
  std::size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(loop_.driver().objects(), objects - 2);
  EXPECT_EQ(calls_, (std::vector<std::string>{"unload in a context", "unload of a library"}));
}

TEST_F(FinisherTest, NobodyWaitsForTheEndOfAnotherContext) {
  table_->cuCtxDestroy_v2 = [](CUcontext context) {
    gate->Pass();
    return real.cuCtxDestroy_v2(context);
  };
  std::thread ending([] {
    CUcontext context = nullptr;
    ASSERT_EQ(cu::cuCtxCreate_v2(&context, 0, 0), CUDA_SUCCESS);
    CUmodule module = nullptr;
    EXPECT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxDestroy_v2(context), CUDA_SUCCESS);
  });
  ASSERT_TRUE(gate_.WaitUntilReached());
  ExpectOthersWork();
  EXPECT_TRUE(gate_.Holds());
  const std::size_t objects = loop_.driver().objects();
  gate_.Open();
  ending.join();
  std::size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(loop_.driver().objects(), objects - 2);  // The context and its module.
}

TEST_F(FinisherTest, APrimaryContextBeginsAnewOnlyAfterItsEnd) {
  table_->cuDevicePrimaryCtxRelease_v2 = [](CUdevice device) {
    gate->Pass();
    Note("release");
    return real.cuDevicePrimaryCtxRelease_v2(device);
  };
  table_->cuDevicePrimaryCtxRetain = [](CUcontext* context, CUdevice device) {
    Note("retain");
    return real.cuDevicePrimaryCtxRetain(context, device);
  };
  ASSERT_EQ(cu::cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
  ASSERT_TRUE(gate_.WaitUntilReached());
  std::thread beginning([] {
    CUcontext context = nullptr;
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context), CUDA_SUCCESS);
    CUmodule module = nullptr;
    EXPECT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
    cu::cuCtxSetCurrent(nullptr);
  });
  gate_.Open();
  beginning.join();
  EXPECT_EQ(calls_, (std::vector<std::string>{"release", "retain"}));
}

TEST_F(FinisherTest, TheSessionEndsBehindWhatItHasQueued) {
  ASSERT_NO_FATAL_FAILURE(HoldAnUnmap());
  std::thread opening([this] { gate_.Open(); });
  loop_.Cut();
  opening.join();
  EXPECT_EQ(loop_.driver().physical_bytes(), 0u);
  EXPECT_EQ(loop_.quota().Used(0), 0u);
}

}  // namespace
}  // namespace farwarp::tests
