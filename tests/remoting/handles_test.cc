// An index is not given out again before the end of its last owner is in the stream, whichever
// thread posts first.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "client/custom.h"
#include "client/session/command.h"
#include "farwarp/wire/internal_command.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;
using wire::InternalCommand;

constexpr char kImage[] = ".version 9.0\n";

class Handles : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  // Runs `end` on another thread while nothing can be posted. Once the thread has ended `handle`
  // here, nobody may get its index in `table`.
  template <typename Table, typename Object>
  void ExpectHeld(Table& table, Object* object, const std::function<CUresult()>& end) {
    const wire::Handle handle = wire::FromPointer(object);
    ASSERT_NE(table.Find(handle), nullptr);
    std::optional<client::Command> tail(std::in_place, loop_.client(),
                                        IdOf(InternalCommand::kCreateEvent));
    CUresult result = CUDA_ERROR_UNKNOWN;
    std::thread other([&] {
      EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
      result = end();
    });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (table.Find(handle) != nullptr && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(table.Find(handle), nullptr);
    using Record = std::remove_pointer_t<decltype(table.Find(handle))>;
    const wire::Handle next = table.Mint(std::make_unique<Record>());
    EXPECT_NE(next.index(), handle.index());
    static_cast<void>(table.Remove(next));
    tail.reset();
    other.join();
    EXPECT_EQ(result, CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  }
  client::Process& process() { return loop_.process(); }

  Loop loop_;
  CUcontext context_ = nullptr;
};

TEST_F(Handles, OfAnEvent) {
  CUevent event = nullptr;
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  ExpectHeld(process().events, event, [&] { return cu::cuEventDestroy_v2(event); });
}

TEST_F(Handles, OfAStream) {
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ExpectHeld(process().streams, stream, [&] { return cu::cuStreamDestroy_v2(stream); });
}

TEST_F(Handles, OfAModuleAndItsFunctions) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  ExpectHeld(process().modules, module, [&] { return cu::cuModuleUnload(module); });
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&function, module, "add"), CUDA_SUCCESS);
  ExpectHeld(process().functions, function, [&] { return cu::cuModuleUnload(module); });
}

TEST_F(Handles, OfALibraryAndItsKernels) {
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  const auto load = [&] {
    ASSERT_EQ(cu::cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0),
              CUDA_SUCCESS);
    ASSERT_EQ(cu::cuLibraryGetKernel(&kernel, library, "add"), CUDA_SUCCESS);
  };
  const auto unload = [&] { return cu::cuLibraryUnload(library); };
  load();
  ExpectHeld(process().libraries, library, unload);
  load();
  ExpectHeld(process().kernels, kernel, unload);
  load();
  CUfunction function = nullptr;
  ASSERT_EQ(cu::cuKernelGetFunction(&function, kernel), CUDA_SUCCESS);
  ExpectHeld(process().functions, function, unload);
}

TEST_F(Handles, OfWhatEndsWithAContext) {
  CUcontext second = nullptr;
  CUevent event = nullptr;
  const auto begin = [&] {
    ASSERT_EQ(cu::cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  };
  const auto end = [&] { return cu::cuCtxDestroy_v2(second); };
  begin();
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  ExpectHeld(process().streams, stream, end);
  begin();
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  ExpectHeld(process().events, event, end);
  begin();
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  ASSERT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuModuleGetFunction(&function, module, "add"), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  ExpectHeld(process().functions, function, end);
}

// Each thread's default stream ends with it, while others make streams.
TEST_F(Handles, OfThreadsThatComeAndGo) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        std::thread([&] {
          EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
          EXPECT_EQ(cu::cuStreamQuery(CU_STREAM_PER_THREAD), CUDA_SUCCESS);
        }).join();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(Handles, OfThreadsThatMakeAndEndEventsAndStreams) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      EXPECT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
      for (int i = 0; i < 10000; ++i) {
        CUevent event = nullptr;
        CUstream stream = nullptr;
        ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
        ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
        ASSERT_EQ(cu::cuEventRecord(event, stream), CUDA_SUCCESS);
        ASSERT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_SUCCESS);
        ASSERT_EQ(cu::cuEventDestroy_v2(event), CUDA_SUCCESS);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
