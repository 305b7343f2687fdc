// A stream that waits for a host function, and more behind it than the server takes at once: the
// news that the function has run comes through all the same, and nobody else waits.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/custom.h"
#include "farwarp/base/deadline.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
// Less than any patience of client and server.
constexpr std::chrono::seconds kSoon{8};

// A host function that runs until it may end.
class Held {
 public:
  static void Run(void* self) { static_cast<Held*>(self)->Wait(); }
  void Wait() {
    std::unique_lock lock(mutex_);
    entered_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(60), [this] { return open_; });
    over_ = true;
    changed_.notify_all();
  }
  void WaitUntilOver() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [this] { return over_; });
  }
  bool WaitUntilEntered() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, [this] { return entered_; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool entered_ = false, open_ = false, over_ = false;
};

class CreditTest : public testing::Test {
 protected:
  void Begin(const Builds& builds, std::uint64_t bytes) {
    loop_ = std::make_unique<Loop>(std::vector<std::uint64_t>{std::uint64_t{256} * kMiB}, nullptr,
                                   builds);
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemAlloc_v2(&memory_, bytes), CUDA_SUCCESS);
    void* host = nullptr;
    ASSERT_EQ(cu::cuMemAllocHost_v2(&host, bytes), CUDA_SUCCESS);
    host_ = static_cast<unsigned char*>(host);
    bytes_ = bytes;
    ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
  void HoldTheStream() {
    ASSERT_EQ(cu::cuLaunchHostFunc(stream_, &Held::Run, &held_), CUDA_SUCCESS);
    ASSERT_TRUE(held_.WaitUntilEntered());
  }
  void TearDown() override {
    held_.Open();
    cu::cuCtxSetCurrent(nullptr);
    loop_.reset();
  }
  // Runs `once` so often on a thread of its own in the context.
  std::future<CUresult> Repeat(int times, std::atomic<int>& done, std::function<CUresult()> once) {
    return std::async(std::launch::async, [this, times, &done, once] {
      cu::cuCtxSetCurrent(context_);
      CUresult result = CUDA_SUCCESS;
      for (int i = 0; i < times && result == CUDA_SUCCESS; ++i) {
        result = once();
        done.store(i + 1);
      }
      cu::cuCtxSetCurrent(nullptr);
      return result;
    });
  }
  std::future<CUresult> Fetch(int times) {
    return Repeat(times, copies_,
                  [this] { return cu::cuMemcpyDtoHAsync_v2(host_, memory_, bytes_, stream_); });
  }
  std::future<CUresult> FillElsewhere(int times) {
    CUstream stream = nullptr;
    EXPECT_EQ(cu::cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    return Repeat(times, fills_,
                  [this, stream] { return cu::cuMemsetD8Async(memory_, 1, 64, stream); });
  }
  // Until nothing goes on any more, or everything has: whatever fills up is full.
  void WaitUntilFull(int copies, int fills) {
    const Deadline deadline = Deadline::After(std::chrono::seconds(20));
    std::uint64_t seen = 0;
    auto since = std::chrono::steady_clock::now();
    while ((copies_.load() < copies || fills_.load() < fills) && !deadline.expired()) {
      const std::uint64_t now = loop_->client().statistics().bytes_sent +
                                static_cast<std::uint64_t>(copies_.load() + fills_.load());
      if (now != seen) {
        seen = now;
        since = std::chrono::steady_clock::now();
      }
      if (std::chrono::steady_clock::now() - since > std::chrono::milliseconds(500)) break;
      std::this_thread::yield();
    }
  }
  static void ExpectSoon(std::future<CUresult>& result) {
    ASSERT_EQ(result.wait_for(kSoon), std::future_status::ready);
    EXPECT_EQ(result.get(), CUDA_SUCCESS);
  }
  static Builds SmallCredit() {
    Builds builds;
    builds.credit = {64 * kKiB, 1024 * kKiB};
    return builds;
  }

  std::unique_ptr<Loop> loop_;
  Held held_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  CUdeviceptr memory_ = 0;
  unsigned char* host_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::atomic<int> copies_{0}, fills_{0};
};

// 384 MiB of copies and 28 MiB of commands, with the figures of a real server.
TEST_F(CreditTest, AHostFunctionEndsInFrontOfMoreThanTheServerTakes) {
  constexpr int kCopies = 12, kFills = 400'000;
  ASSERT_NO_FATAL_FAILURE(Begin({}, 32 * kMiB));
  ASSERT_NO_FATAL_FAILURE(HoldTheStream());
  auto copies = Fetch(kCopies);
  WaitUntilFull(kCopies, 0);
  auto fills = FillElsewhere(kFills);
  WaitUntilFull(kCopies, kFills);
  held_.Open();
  ExpectSoon(copies);
  ExpectSoon(fills);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

// As a driver does whose queue is full.
TEST_F(CreditTest, AHostFunctionEndsWhileTheDriverLetsTheDispatcherWaitForIt) {
  constexpr int kFills = 20'000;
  ASSERT_NO_FATAL_FAILURE(Begin(SmallCredit(), 64 * kKiB));
  static Held* driver_waits_for;
  static server::driver::Table real;
  driver_waits_for = &held_;
  auto* table = const_cast<server::driver::Table*>(&loop_->driver().table());
  real = *table;
  table->cuMemsetD8Async = [](CUdeviceptr at, unsigned char value, std::size_t bytes,
                              CUstream stream) {
    if (bytes == 64) driver_waits_for->WaitUntilOver();
    return real.cuMemsetD8Async(at, value, bytes, stream);
  };
  ASSERT_NO_FATAL_FAILURE(HoldTheStream());
  auto fills = FillElsewhere(kFills);
  WaitUntilFull(0, kFills);
  EXPECT_LT(fills_.load(), kFills) << "nothing was full";
  held_.Open();
  ExpectSoon(fills);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(CreditTest, WhoCopiesTooMuchWaitsAloneAndTheDispatcherGoesOn) {
  constexpr int kCopies = 40;
  ASSERT_NO_FATAL_FAILURE(Begin(SmallCredit(), 256 * kKiB));
  ASSERT_NO_FATAL_FAILURE(HoldTheStream());
  auto copies = Fetch(kCopies);
  WaitUntilFull(kCopies, 0);
  EXPECT_EQ(copies_.load(), 4);
  std::size_t free_bytes = 0, total_bytes = 0;
  EXPECT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamQuery(stream_), CUDA_ERROR_NOT_READY);
  held_.Open();
  ExpectSoon(copies);
  EXPECT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
}

// Bytes on their way to the device wait behind a kernel.
TEST_F(CreditTest, SentBytesCountUntilTheDeviceHasThem) {
  constexpr int kCopies = 40;
  ASSERT_NO_FATAL_FAILURE(Begin(SmallCredit(), 256 * kKiB));
  CUmodule module = nullptr;
  CUfunction wait = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, ".version 9.0\n"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&wait, module, "wait"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLaunchKernel(wait, 1, 1, 1, 1, 1, 1, 0, stream_, nullptr, nullptr), CUDA_SUCCESS);
  const std::uint64_t before = loop_->client().statistics().bytes_sent;
  auto copies = Repeat(kCopies, copies_, [this] {
    host_[0] = static_cast<unsigned char>(copies_.load());
    return cu::cuMemcpyHtoDAsync_v2(memory_, host_, bytes_, stream_);
  });
  WaitUntilFull(kCopies, 0);
  EXPECT_EQ(copies_.load(), 4);
  const std::uint64_t sent = loop_->client().statistics().bytes_sent - before;
  EXPECT_GE(sent, 4 * bytes_);
  EXPECT_LT(sent, 5 * bytes_);
  std::size_t free_bytes = 0, total_bytes = 0;
  EXPECT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  loop_->driver().OpenGate();
  ExpectSoon(copies);
  unsigned char got = 0;
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(&got, memory_, 1), CUDA_SUCCESS);
  EXPECT_EQ(got, kCopies - 1);
}

// The server is busy, and many small transfers wait for it: the client waits in time.
TEST_F(CreditTest, SmallTransfersWaitInTimeWhileTheServerIsBusy) {
  constexpr int kCopies = 6000;
  ASSERT_NO_FATAL_FAILURE(Begin({}, 17 * kKiB));
  static Held* load;
  static server::driver::Table real;
  load = &held_;
  auto* table = const_cast<server::driver::Table*>(&loop_->driver().table());
  real = *table;
  table->cuModuleLoadDataEx = [](CUmodule* module, const void* image, unsigned options,
                                 CUjit_option* names, void** values) {
    load->Wait();
    return real.cuModuleLoadDataEx(module, image, options, names, values);
  };
  std::atomic<int> loads{0};
  CUmodule module = nullptr;
  auto loaded = Repeat(1, loads, [&] { return cu::cuModuleLoadData(&module, ".version 9.0\n"); });
  ASSERT_TRUE(held_.WaitUntilEntered());
  auto copies = Repeat(kCopies, copies_, [this] {
    return cu::cuMemcpyHtoDAsync_v2(memory_, host_, bytes_, stream_);
  });
  WaitUntilFull(kCopies, 0);
  EXPECT_EQ(copies_.load(), static_cast<int>(wire::kCreditTransfers));
  held_.Open();
  ExpectSoon(loaded);
  ASSERT_EQ(copies.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_EQ(copies.get(), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

// What is larger than all credit goes alone.
TEST_F(CreditTest, SizesBeyondTheCreditTravel) {
  constexpr std::uint64_t kBytes = 3 * kMiB;
  ASSERT_NO_FATAL_FAILURE(Begin(SmallCredit(), kBytes));
  for (int round = 1; round < 4; ++round) {
    std::memset(host_, round, kBytes);
    ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(memory_, host_, kBytes, stream_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
    std::memset(host_, 0, kBytes);
    ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(host_, memory_, kBytes, stream_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
    EXPECT_EQ(host_[0], round);
    EXPECT_EQ(host_[kBytes - 1], round);
    std::string image(static_cast<std::size_t>(kBytes), ' ');
    image.replace(0, 13, ".version 9.0\n");
    CUmodule module = nullptr;
    ASSERT_EQ(cu::cuModuleLoadData(&module, image.c_str()), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuModuleUnload(module), CUDA_SUCCESS);
  }
}

// Whoever waits for credit hears that there will be none.
TEST_F(CreditTest, TheEndOfTheSessionEndsTheWait) {
  constexpr int kCopies = 40;
  ASSERT_NO_FATAL_FAILURE(Begin(SmallCredit(), 256 * kKiB));
  ASSERT_NO_FATAL_FAILURE(HoldTheStream());
  auto copies = Fetch(kCopies);
  WaitUntilFull(kCopies, 0);
  loop_->server().Shutdown();
  ASSERT_EQ(copies.wait_for(kSoon), std::future_status::ready);
  EXPECT_NE(copies.get(), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
