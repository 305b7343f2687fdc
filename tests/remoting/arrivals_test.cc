// Asynchronous copies from the device that fail: which of the program's waits end their
// registrations, and which must not.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <vector>

#include "client/custom.h"
#include "farwarp/base/deadline.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr std::size_t kBytes = 4096;

class Arrivals : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  static CUstream NewStream(unsigned flags = CU_STREAM_DEFAULT) {
    CUstream stream = nullptr;
    EXPECT_EQ(cu::cuStreamCreate(&stream, flags), CUDA_SUCCESS);
    return stream;
  }
  static CUevent NewEvent() {
    CUevent event = nullptr;
    EXPECT_EQ(cu::cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
    return event;
  }
  // A copy in `stream` that has failed on the server: nothing will come of it.
  std::uint64_t FailedCopy(CUstream stream) {
    client::Caller caller;
    client::StreamUse use;
    EXPECT_EQ(client::EnterContext(&caller), CUDA_SUCCESS);
    EXPECT_EQ(client::ResolveStream(caller, stream, client::NullStream::kLegacy, &use),
              CUDA_SUCCESS);
    const auto transfer = loop_.client().ExpectTransfer(host_.data(), kBytes);
    loop_.process().arrivals().NoteCopy(reinterpret_cast<std::uint64_t>(host_.data()), kBytes,
                                        transfer, use);
    return transfer;
  }
  // Asks until the answer is another than "not ready".
  static CUresult Answer(const std::function<CUresult()>& ask) {
    const Deadline deadline = Deadline::After(std::chrono::seconds(10));
    CUresult result = ask();
    while (result == CUDA_ERROR_NOT_READY && !deadline.expired()) result = ask();
    return result;
  }
  bool Pending(std::uint64_t transfer) { return loop_.client().TransferPending(transfer); }

  Loop loop_;
  CUcontext context_ = nullptr;
  std::vector<std::byte> host_ = std::vector<std::byte>(kBytes);
};

// An answer that is not about the stream ends nothing: the bytes may still come.
TEST_F(Arrivals, StayWhenTheServerCannotWait) {
  static decltype(server::driver::Table::cuStreamQuery) real;
  // The table is the fake driver's own, not constant; nothing calls it now.
  auto& table = const_cast<server::driver::Table&>(loop_.driver().table());
  const CUstream stream = NewStream();
  ASSERT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
  real = table.cuStreamQuery;
  table.cuStreamQuery = [](CUstream) { return CUDA_ERROR_OUT_OF_MEMORY; };
  const std::uint64_t transfer = FailedCopy(stream);
  EXPECT_EQ(cu::cuStreamSynchronize(stream), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_TRUE(Pending(transfer));
  table.cuStreamQuery = real;
  EXPECT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(transfer));
}

TEST_F(Arrivals, EndWithTheirStream) {
  CUstream stream = NewStream();
  CUstream other = NewStream();
  const auto copy = FailedCopy(stream);
  EXPECT_TRUE(loop_.process().HostMemoryPending(reinterpret_cast<std::uint64_t>(&host_[7]), 1));
  EXPECT_EQ(cu::cuStreamSynchronize(other), CUDA_SUCCESS);
  EXPECT_TRUE(Pending(copy));
  EXPECT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(copy));
  EXPECT_FALSE(loop_.process().HostMemoryPending(reinterpret_cast<std::uint64_t>(&host_[7]), 1));
  const auto next = FailedCopy(stream);
  EXPECT_EQ(Answer([&] { return cu::cuStreamQuery(stream); }), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(next));
}

TEST_F(Arrivals, EndWithTheLegacyStreamIfItWaitsForTheirs) {
  CUstream blocking_stream = NewStream();
  CUstream beside_stream = NewStream(CU_STREAM_NON_BLOCKING);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  const auto own = FailedCopy(nullptr);
  const auto blocking = FailedCopy(blocking_stream);
  const auto beside = FailedCopy(beside_stream);
  EXPECT_EQ(Answer([] { return cu::cuStreamQuery(nullptr); }), CUDA_SUCCESS);
  EXPECT_TRUE(Pending(blocking));
  EXPECT_EQ(cu::cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(own));
  EXPECT_FALSE(Pending(blocking));
  EXPECT_TRUE(Pending(beside));
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(beside));
}

TEST_F(Arrivals, EndWithAnEventBehindThem) {
  CUstream stream = NewStream(CU_STREAM_NON_BLOCKING);
  CUevent event = NewEvent();
  const auto before = FailedCopy(stream);
  const auto elsewhere = FailedCopy(NewStream());
  ASSERT_EQ(cu::cuEventRecord(event, stream), CUDA_SUCCESS);
  const auto after = FailedCopy(stream);
  EXPECT_EQ(cu::cuEventSynchronize(event), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(before));
  EXPECT_TRUE(Pending(elsewhere));
  EXPECT_TRUE(Pending(after));
  // Recorded anew it stands for more; asked about, it tells as much as waited for.
  ASSERT_EQ(cu::cuEventRecord(event, stream), CUDA_SUCCESS);
  EXPECT_EQ(Answer([&] { return cu::cuEventQuery(event); }), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(after));
  EXPECT_TRUE(Pending(elsewhere));
}

TEST_F(Arrivals, AnEventRecordedElsewhereStandsForNothingItStoodForBefore) {
  CUstream stream = NewStream();
  CUevent event = NewEvent();
  const auto copy = FailedCopy(stream);
  ASSERT_EQ(cu::cuEventRecord(event, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventRecord(event, NewStream()), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventSynchronize(event), CUDA_SUCCESS);
  EXPECT_TRUE(Pending(copy));
  // In the legacy stream it waits for all of its kind.
  ASSERT_EQ(cu::cuEventRecord(event, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventSynchronize(event), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(copy));
}

TEST_F(Arrivals, EndWithAStreamThatWaitedForThem) {
  CUstream first = NewStream(CU_STREAM_NON_BLOCKING);
  CUstream second = NewStream(CU_STREAM_NON_BLOCKING);
  CUstream third = NewStream(CU_STREAM_NON_BLOCKING);
  CUevent one = NewEvent();
  CUevent two = NewEvent();
  const auto copy = FailedCopy(first);
  ASSERT_EQ(cu::cuEventRecord(one, first), CUDA_SUCCESS);
  const auto later = FailedCopy(first);
  ASSERT_EQ(cu::cuStreamWaitEvent(second, one, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventRecord(two, second), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamSynchronize(third), CUDA_SUCCESS);
  EXPECT_TRUE(Pending(copy));
  ASSERT_EQ(cu::cuStreamWaitEvent(third, two, 0), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamSynchronize(third), CUDA_SUCCESS);
  EXPECT_FALSE(Pending(copy));
  EXPECT_TRUE(Pending(later));
}

// Copies that work, in many threads and streams, beside waits of every kind.
TEST_F(Arrivals, OfCopiesThatWorkLoseNothing) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 60;
  std::vector<std::future<bool>> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(std::async(std::launch::async, [&, t] {
      cu::cuCtxSetCurrent(context_);
      CUstream stream = NewStream(t % 2 == 0 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
      CUevent event = NewEvent();
      CUdeviceptr memory = 0;
      void* host = nullptr;
      bool right = cu::cuMemAlloc_v2(&memory, kBytes) == CUDA_SUCCESS &&
                   cu::cuMemAllocHost_v2(&host, kBytes) == CUDA_SUCCESS;
      const auto* bytes = static_cast<const unsigned char*>(host);
      for (int round = 0; round < kRounds && right; ++round) {
        const auto value = static_cast<unsigned char>(round * kThreads + t + 1);
        right = cu::cuMemsetD8Async(memory, value, kBytes, stream) == CUDA_SUCCESS &&
                cu::cuMemcpyDtoHAsync_v2(host, memory, kBytes, stream) == CUDA_SUCCESS;
        if (!right) break;
        if (round % 3 == 0) right = cu::cuStreamSynchronize(stream) == CUDA_SUCCESS;
        if (round % 3 == 1) {
          right = cu::cuEventRecord(event, stream) == CUDA_SUCCESS &&
                  cu::cuEventSynchronize(event) == CUDA_SUCCESS;
        }
        if (round % 3 == 2) {
          right = (t % 2 == 0 ? cu::cuStreamSynchronize(nullptr) : cu::cuCtxSynchronize()) ==
                  CUDA_SUCCESS;
        }
        for (std::size_t i = 0; i < kBytes && right; ++i) right = bytes[i] == value;
      }
      cu::cuCtxSetCurrent(nullptr);
      return right;
    }));
  }
  for (auto& thread : threads) EXPECT_TRUE(thread.get());
}

}  // namespace
}  // namespace farwarp::tests
