// The driver API through client and server: results, round trips, and what happens to bad input.
// Round trips are exact: a change of one of these numbers is a change of the product.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "client/custom.h"
#include "client/session/command.h"
#include "farwarp/base/deadline.h"
#include "farwarp/wire/internal_command.h"
#include "server/session/commands/wait.h"
#include "tests/remoting/loop.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr char kImage[] = ".version 9.0\n";

// A loop with the primary context of device 0 current and a module loaded.
class Remoting : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override { cu::cuCtxSetCurrent(nullptr); }

  CUfunction Function(const char* name) {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    EXPECT_EQ(cu::cuModuleLoadData(&module, kImage), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuModuleGetFunction(&function, module, name), CUDA_SUCCESS);
    return function;
  }
  CUdeviceptr Allocate(std::size_t bytes) {
    CUdeviceptr address = 0;
    EXPECT_EQ(cu::cuMemAlloc_v2(&address, bytes), CUDA_SUCCESS);
    return address;
  }
  static CUresult Fill(CUfunction fill, CUdeviceptr out, int value, int n,
                       CUstream stream = nullptr) {
    void* parameters[] = {&out, &value, &n};
    return cu::cuLaunchKernel(fill, 1, 1, 1, 128, 1, 1, 0, stream, parameters, nullptr);
  }

  // Whether `call` returns only when a kernel that waits has ended, which a moment later it may.
  bool WaitsForTheGate(const std::function<void()>& call) {
    std::atomic<bool> returned{false};
    bool early = false;
    std::thread opener([&] {
      const Deadline moment = Deadline::After(std::chrono::milliseconds(200));
      while (!returned.load() && !moment.expired()) std::this_thread::yield();
      early = returned.load();
      loop_.driver().OpenGate();
    });
    call();
    returned = true;
    opener.join();
    return !early;
  }

  Loop loop_;
  CUcontext context_ = nullptr;
};

TEST_F(Remoting, VectorAddAndItsRoundTrips) {
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);  // Beyond the handshake's two: nothing yet.
  constexpr int kCount = 50000;
  std::vector<int> a(kCount), b(kCount), c(kCount);
  std::iota(a.begin(), a.end(), 1);
  std::iota(b.begin(), b.end(), 1000000);
  const std::size_t bytes = kCount * sizeof(int);
  CUdeviceptr da = Allocate(bytes), db = Allocate(bytes), dc = Allocate(bytes);
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(da, a.data(), bytes), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(db, b.data(), bytes), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  const CUfunction add = Function("add");
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);  // The module.
  int n = kCount;
  void* parameters[] = {&dc, &da, &db, &n};
  ASSERT_EQ(cu::cuLaunchKernel(add, 196, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(c.data(), dc, bytes), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  for (std::size_t i = 0; i < kCount; ++i) ASSERT_EQ(c[i], a[i] + b[i]) << i;
  for (const CUdeviceptr address : {da, db, dc}) {
    EXPECT_EQ(cu::cuMemFree_v2(address), CUDA_SUCCESS);
  }
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);  // The copy has shown that the device is idle.
}

TEST_F(Remoting, ALaunchLoopCostsNothingAndASynchronisationOne) {
  const CUfunction fill = Function("fill");
  const CUdeviceptr out = Allocate(4096);
  loop_.TakeRoundTrips();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(Fill(fill, out, i, 1024), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  EXPECT_EQ(loop_.driver().launches(), 1000u);
}

TEST_F(Remoting, StreamsAndEventsCostOnlyTheirWaits) {
  const CUfunction fill = Function("fill");
  const CUdeviceptr out = Allocate(4096);
  loop_.TakeRoundTrips();
  CUstream a = nullptr, b = nullptr;
  CUevent start = nullptr, end = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&a, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamCreate(&b, CU_STREAM_DEFAULT), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&start, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&end, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventRecord(start, a), CUDA_SUCCESS);
  ASSERT_EQ(Fill(fill, out, 3, 1024, a), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventRecord(end, a), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamWaitEvent(b, end, 0), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  ASSERT_EQ(cu::cuEventSynchronize(end), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(b), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 2u);
  float milliseconds = 0;
  ASSERT_EQ(cu::cuEventElapsedTime(&milliseconds, start, end), CUDA_SUCCESS);
  EXPECT_EQ(milliseconds, 1.5f);
  EXPECT_EQ(cu::cuStreamQuery(a), CUDA_SUCCESS);
  for (const CUstream stream : {a, b}) {
    EXPECT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(cu::cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  }
  EXPECT_EQ(cu::cuEventDestroy_v2(start), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventDestroy_v2(end), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuEventQuery(end), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(Remoting, LibrariesAndKernels) {
  CUlibrary library = nullptr;
  ASSERT_EQ(cu::cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0),
            CUDA_SUCCESS);
  CUkernel kernel = nullptr;
  EXPECT_EQ(cu::cuLibraryGetKernel(&kernel, library, "absent"), CUDA_ERROR_NOT_FOUND);
  ASSERT_EQ(cu::cuLibraryGetKernel(&kernel, library, "fill"), CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  const char* name = nullptr;
  ASSERT_EQ(cu::cuKernelGetName(&name, kernel), CUDA_SUCCESS);
  EXPECT_STREQ(name, "fill");
  std::size_t offset = 0, bytes = 0;
  ASSERT_EQ(cu::cuKernelGetParamInfo(kernel, 2, &offset, &bytes), CUDA_SUCCESS);
  EXPECT_EQ(offset, 12u);
  EXPECT_EQ(bytes, 4u);
  EXPECT_EQ(cu::cuKernelGetParamInfo(kernel, 3, &offset, &bytes), CUDA_ERROR_INVALID_VALUE);
  const CUdeviceptr out = Allocate(400);
  // A kernel where a function is expected, and the function that it is here.
  ASSERT_EQ(Fill(reinterpret_cast<CUfunction>(kernel), out, 5, 100), CUDA_SUCCESS);
  CUfunction function = nullptr;
  ASSERT_EQ(cu::cuKernelGetFunction(&function, kernel), CUDA_SUCCESS);
  ASSERT_EQ(Fill(function, out, 6, 50), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  int values[100];
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(values, out, sizeof values), CUDA_SUCCESS);
  EXPECT_EQ(values[49], 6);
  EXPECT_EQ(values[50], 5);
  CUdeviceptr variable = 0;
  ASSERT_EQ(cu::cuLibraryGetGlobal(&variable, &bytes, library, "table"), CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  ASSERT_EQ(cu::cuLibraryGetGlobal(&variable, &bytes, library, "table"), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
  const int value = 42;
  int back = 0;
  ASSERT_EQ(cu::cuMemcpyHtoD_v2(variable + bytes - 4, &value, 4), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(&back, variable + bytes - 4, 4), CUDA_SUCCESS);
  EXPECT_EQ(back, 42);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(variable + bytes - 3, &value, 4), CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(cu::cuLibraryUnload(library), CUDA_SUCCESS);
  EXPECT_EQ(Fill(function, out, 6, 50), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Fill(reinterpret_cast<CUfunction>(kernel), out, 1, 1), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(variable, &value, 4), CUDA_ERROR_INVALID_VALUE);
  // The server does not know them either.
  for (const auto gone :
       {reinterpret_cast<std::uint64_t>(function), reinterpret_cast<std::uint64_t>(kernel)}) {
    client::Command command(loop_.client(),
                            wire::IdOf(wire::InternalCommand::kFunctionCacheConfig));
    command.body().Put(gone);
    command.body().Put(std::int32_t{0});
    client::Reply reply;
    EXPECT_EQ(command.Call(reply), CUDA_ERROR_INVALID_HANDLE);
  }
}

TEST_F(Remoting, ABrokenImageBringsItsLog) {
  char log[100] = "untouched";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  CUmodule module = nullptr;
  EXPECT_EQ(cu::cuModuleLoadDataEx(&module, ".version broken", 2, options, values),
            CUDA_ERROR_INVALID_PTX);
  EXPECT_STREQ(log, "ptx:1:1: broken");
  EXPECT_EQ(values[1], reinterpret_cast<void*>(15));
  EXPECT_EQ(module, nullptr);
  EXPECT_EQ(cu::cuModuleLoadData(&module, "no code"), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(cu::cuModuleLoad(&module, "/nonexistent"), CUDA_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(Remoting, LaunchesAreCheckedBeforeTheyTravel) {
  const CUfunction fill = Function("fill");
  CUdeviceptr out = Allocate(4096);
  int value = 1, n = 1;
  void* parameters[] = {&out, &value, &n};
  void* missing[] = {&out, nullptr, &n};
  const auto launch = [&](CUfunction f, unsigned grid, unsigned block, unsigned shared, void** p) {
    return cu::cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, nullptr, p, nullptr);
  };
  EXPECT_EQ(launch(fill, 0, 1, 0, parameters), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(fill, 1, 0, 0, parameters), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(fill, 1, 1025, 0, parameters), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(fill, 1, 1, 49153, parameters), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(fill, 1, 1, 0, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(fill, 1, 1, 0, missing), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(nullptr, 1, 1, 0, parameters), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(launch(reinterpret_cast<CUfunction>(&value), 1, 1, 0, parameters),
            CUDA_ERROR_INVALID_HANDLE);
  ASSERT_EQ(cu::cuFuncSetAttribute(fill, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65536),
            CUDA_SUCCESS);
  EXPECT_EQ(launch(fill, 1, 1, 65536, parameters), CUDA_SUCCESS);
  // The same parameters as one buffer.
  struct {
    CUdeviceptr out;
    int value, n;
  } packed{out, 9, 1};
  std::size_t size = sizeof packed;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                   CU_LAUNCH_PARAM_END};
  EXPECT_EQ(cu::cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra), CUDA_SUCCESS);
  size = 4;
  EXPECT_EQ(cu::cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra),
            CUDA_ERROR_INVALID_VALUE);
  CUlaunchAttribute cooperative{};
  cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  cooperative.value.cooperative = 1;
  CUlaunchConfig config{1, 1, 1, 1, 1, 1, 0, nullptr, &cooperative, 1};
  EXPECT_EQ(cu::cuLaunchKernelEx(&config, fill, parameters, nullptr), CUDA_SUCCESS);
  int back = 0;
  ASSERT_EQ(cu::cuMemcpyDtoH_v2(&back, out, 4), CUDA_SUCCESS);
  EXPECT_EQ(back, 1);
  EXPECT_EQ(loop_.driver().launches(), 3u);
}

TEST_F(Remoting, TheServerRefusesForgedCommands) {
  // What a hostile client could send past its own library's checks.
  client::Session& session = loop_.client();
  const auto call = [&](wire::InternalCommand id, std::vector<std::uint64_t> words) {
    client::Command command(session, wire::IdOf(id));
    for (const std::uint64_t word : words) command.body().Put(word);
    client::Reply reply;
    return command.Call(reply);
  };
  using enum wire::InternalCommand;
  std::mt19937_64 random(11);
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(call(kQueryStream, {random() | 4}), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(call(kUnloadModule, {random()}), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(call(kQueryEvent, {random()}), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(call(kLaunch, {random(), 0, 1, 1, 1, 0, 0, 0}), CUDA_ERROR_INVALID_HANDLE);
  }
  const std::uint64_t base = session.window().base;
  EXPECT_NE(call(kMapRange, {0, base + 1, 2 * kMiB}), CUDA_SUCCESS);
  EXPECT_NE(call(kMapRange, {0, base, 3}), CUDA_SUCCESS);
  EXPECT_NE(call(kMapRange, {7, base, 2 * kMiB}), CUDA_SUCCESS);
  EXPECT_NE(call(kMapRange, {0, base - 2 * kMiB, 4 * kMiB}), CUDA_SUCCESS);
  EXPECT_NE(call(kMapRange, {0, ~std::uint64_t{0} - 2 * kMiB + 1, 2 * kMiB}), CUDA_SUCCESS);
  // More than was granted.
  EXPECT_EQ(call(kMapRange, {0, base, std::uint64_t{4} << 30}), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_NE(call(kUnmapRange, {0, base, 2 * kMiB}), CUDA_SUCCESS);
  EXPECT_NE(call(kReturnCredit, {0, ~std::uint64_t{0}}), CUDA_SUCCESS);
  // Copies may touch only what is mapped; never the server's own memory.
  const auto own = reinterpret_cast<std::uint64_t>(this);
  for (const std::uint64_t address : {own, base, std::uint64_t{0}, ~std::uint64_t{7}}) {
    EXPECT_NE(call(kCopyFromDevice, {0, 64, 1, 1, address, 0, 0, 1}), CUDA_SUCCESS);
    EXPECT_NE(call(kFill, {0, address, 0, 1, 0, 64, 1}), CUDA_SUCCESS);
    EXPECT_NE(call(kCopyToDevice, {0, 8, 1, 1, address, 0, 0, 8, 0, 0}), CUDA_SUCCESS);
  }
  EXPECT_NE(call(kCopyFromDevice, {0, std::uint64_t{1} << 40, 1, 1, base, 0, 0, 1}), CUDA_SUCCESS);
  // Unknown commands and bodies of any length.
  for (std::uint32_t id = 0x10001; id < 0x10100; ++id) {
    for (std::size_t words = 0; words < 3; ++words) {
      client::Command command(session, id);
      for (std::size_t w = 0; w < words; ++w) command.body().Put(random());
      client::Reply reply;
      EXPECT_NE(command.Call(reply), CUDA_ERROR_DEVICE_UNAVAILABLE) << id;
    }
  }
  EXPECT_EQ(loop_.driver().physical_bytes(), 0u);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(Remoting, LaunchAttributesThatCarryAddressesAreRefused) {
  const CUfunction fill = Function("fill");
  const CUdeviceptr out = Allocate(64);
  ASSERT_EQ(Fill(fill, out, 1, 1), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  const auto launches = loop_.driver().launches();
  const auto launch = [&](CUlaunchAttributeID id) {
    client::Command command(loop_.client(), wire::IdOf(wire::InternalCommand::kLaunch));
    command.body().Put(reinterpret_cast<std::uint64_t>(fill));
    command.body().Put(std::uint64_t{0});
    wire::LaunchShape shape{};
    for (int i = 0; i < 3; ++i) shape.grid[i] = shape.block[i] = 1;
    command.body().PutStruct(shape);
    command.body().Put(std::uint64_t{1});
    command.body().Put(static_cast<std::int32_t>(id));
    CUlaunchAttributeValue value{};
    value.programmaticEvent.event = reinterpret_cast<CUevent>(this);
    command.body().PutStruct(value);
    const std::uint64_t parameters[] = {out, 1 | std::uint64_t{1} << 32};
    command.body().PutBlob(parameters, sizeof parameters);
    client::Reply reply;
    return command.Call(reply);
  };
  EXPECT_EQ(launch(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(launch(CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(launch(static_cast<CUlaunchAttributeID>(-1)), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(loop_.driver().launches(), launches);
  EXPECT_NE(launch(CU_LAUNCH_ATTRIBUTE_PRIORITY), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(Remoting, NobodyWaitsForAWaitWithoutATicket) {
  using enum wire::InternalCommand;
  for (const auto id : {kSynchronizeStream, kSynchronizeContext}) {
    client::Command command(loop_.client(), wire::IdOf(id));
    command.body().Put(id == kSynchronizeStream ? 0 : reinterpret_cast<std::uint64_t>(context_));
    ASSERT_EQ(command.Post(), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE);
  }
}

TEST_F(Remoting, TheSameMistakeIsReportedEachTime) {
  for (int i = 0; i < 3; ++i) {
    client::Command command(loop_.client(), wire::IdOf(wire::InternalCommand::kUnmapRange));
    command.body().Put(std::uint32_t{0});
    command.body().Put(loop_.client().window().base);
    command.body().Put(2 * kMiB);
    ASSERT_EQ(command.Post(), CUDA_SUCCESS);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_INVALID_VALUE) << i;
  }
}

// A driver may wait for a stream in a call that has nothing to do with it.
TEST_F(Remoting, HostFunctionsEndWhileTheDispatcherWaitsForTheirStream) {
  static const server::driver::Table* driver;
  static std::atomic<bool> go;
  static std::atomic<CUresult> seen;
  driver = &loop_.driver().table();
  go = false;
  seen = CUDA_ERROR_UNKNOWN;
  const_cast<server::driver::Table*>(driver)->cuCtxSetCacheConfig = [](CUfunc_cache) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    CUresult result = CUDA_ERROR_NOT_READY;
    while (result == CUDA_ERROR_NOT_READY && std::chrono::steady_clock::now() < until) {
      result = driver->cuStreamQuery(nullptr);
      std::this_thread::yield();
    }
    seen = result;
    return CUDA_SUCCESS;
  };
  const auto function = [](void*) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!go && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  };
  ASSERT_EQ(cu::cuLaunchHostFunc(nullptr, function, nullptr), CUDA_SUCCESS);
  {
    client::Command command(loop_.client(), wire::IdOf(wire::InternalCommand::kSetCacheConfig));
    command.body().Put(std::int32_t{0});
    ASSERT_EQ(command.Post(), CUDA_SUCCESS);
  }
  go = true;
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(seen, CUDA_SUCCESS);
}

TEST_F(Remoting, ImagesThatLeadOutsideThemselvesAreRefused) {
  const auto load = [&](std::uint64_t first, std::uint64_t second) {
    client::Command command(loop_.client(), wire::IdOf(wire::InternalCommand::kLoadModule));
    // A handle of a module that nobody has, no options, no logs, 32 bytes inline.
    command.body().Put(wire::Handle(wire::HandleKind::kModule, 1, 4711).bits());
    for (const std::uint64_t word : {0u, 0u, 0u, 32u, 0u}) command.body().Put(word);
    const std::uint64_t image[] = {first, second, 0, 0};
    command.body().PutRaw(image, sizeof image);
    client::Reply reply;
    return command.Call(reply);
  };
  constexpr std::uint64_t kContainer = 0x0010'0001'BA55'ED50;
  EXPECT_EQ(load(0x1'4662'43B1, reinterpret_cast<std::uint64_t>(this)), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(load(kContainer, 17), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(load(kContainer, ~std::uint64_t{0}), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(load(0xFFFF'0001'BA55'ED50, 0), CUDA_ERROR_INVALID_HANDLE);
  // The driver's own opinion.
  EXPECT_NE(load(kContainer, 16), CUDA_ERROR_INVALID_HANDLE);
}

TEST(WaitPairs, EndWithTheirContextNotWithItsAddress) {
  server::driver::Table table{};
  static std::uintptr_t made;
  made = 0;
  table.cuStreamCreate = [](CUstream* stream, unsigned) {
    *stream = reinterpret_cast<CUstream>(++made);
    return CUDA_SUCCESS;
  };
  table.cuEventCreate = [](CUevent* event, unsigned) {
    *event = reinterpret_cast<CUevent>(++made);
    return CUDA_SUCCESS;
  };
  auto* const context = reinterpret_cast<CUcontext>(&table);
  server::WaitPairs pairs;
  server::WaitPairs::Pair first, second, third;
  ASSERT_EQ(pairs.Take(table, context, &first), CUDA_SUCCESS);
  pairs.Drop(table, context);  // While it is in use.
  pairs.Return(first);
  ASSERT_EQ(pairs.Take(table, context, &second), CUDA_SUCCESS);
  EXPECT_NE(second.stream, first.stream);
  pairs.Return(second);
  ASSERT_EQ(pairs.Take(table, context, &third), CUDA_SUCCESS);
  EXPECT_EQ(third.stream, second.stream);
}

TEST_F(Remoting, AFaultIsStickyAndStaysInItsContext) {
  const CUfunction fault = Function("fault");
  const CUdeviceptr out = Allocate(64);
  ASSERT_EQ(cu::cuLaunchKernel(fault, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  int value = 0;
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(&value, out, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cu::cuStreamSynchronize(nullptr), CUDA_ERROR_ILLEGAL_ADDRESS);
  CUdeviceptr more = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&more, 64), CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(Remoting, AContextThatIsDestroyedTakesEverythingAlong) {
  CUcontext second = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
  CUcontext current = nullptr;
  ASSERT_EQ(cu::cuCtxGetCurrent(&current), CUDA_SUCCESS);
  EXPECT_EQ(current, second);
  const CUdeviceptr address = Allocate(3 * kMiB);
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  const CUfunction fill = Function("fill");
  ASSERT_EQ(cu::cuCtxDestroy_v2(second), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxGetCurrent(&current), CUDA_SUCCESS);
  EXPECT_EQ(current, context_);
  EXPECT_EQ(cu::cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Fill(fill, address, 1, 1), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cu::cuCtxPushCurrent_v2(second), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  EXPECT_EQ(cu::cuCtxDestroy_v2(second), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  // Unmapping takes its time elsewhere; who asks what is free is answered behind it.
  std::size_t free_bytes = 0, total_bytes = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&free_bytes, &total_bytes), CUDA_SUCCESS);
  EXPECT_EQ(free_bytes, total_bytes);
  EXPECT_EQ(loop_.driver().physical_bytes(), 0u);
}

TEST_F(Remoting, ThePrimaryContextComesBackToLife) {
  unsigned flags = 0;
  int active = 0;
  const CUdeviceptr old = Allocate(64);
  ASSERT_EQ(cu::cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
  EXPECT_EQ(active, 0);
  CUdeviceptr address = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&address, 64), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CUcontext again = nullptr;
  ASSERT_EQ(cu::cuDevicePrimaryCtxRetain(&again, 0), CUDA_SUCCESS);
  EXPECT_EQ(again, context_);
  EXPECT_EQ(cu::cuMemFree_v2(old), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemAlloc_v2(&address, 64), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(Remoting, NothingIsLeftWhenTheClientHasGone) {
  Allocate(100 * kMiB);
  Function("fill");
  CUstream stream = nullptr;
  CUevent event = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuEventCreate(&event, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_GT(loop_.driver().physical_bytes(), 0u);
  loop_.Cut();
  EXPECT_EQ(loop_.driver().physical_bytes(), 0u);
  EXPECT_EQ(loop_.driver().objects(), 0u);
  EXPECT_EQ(loop_.quota().Used(0), 0u);
  // And the client: an error at once, never a hang.
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_ERROR_DEVICE_UNAVAILABLE);
  CUdeviceptr address = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&address, 64), CUDA_ERROR_DEVICE_UNAVAILABLE);
}

TEST_F(Remoting, AForkedChildIsRefusedAndTheParentUndisturbed) {
  const CUdeviceptr out = Allocate(4);
  const pid_t child = fork();
  if (child == 0) {
    int count = 0;
    CUdeviceptr more = 0;
    const bool refused = cu::cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED &&
                         cu::cuInit(0) == CUDA_ERROR_NOT_INITIALIZED &&
                         cu::cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED &&
                         cu::cuMemAlloc_v2(&more, 4) == CUDA_ERROR_NOT_INITIALIZED;
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  int value = 5;
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(out, &value, 4), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemcpyDtoH_v2(&value, out, 4), CUDA_SUCCESS);
}

TEST_F(Remoting, EightThreadsWithTheirOwnStreams) {
  const CUfunction fill = Function("fill");
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      cu::cuCtxSetCurrent(context_);
      CUdeviceptr out = 0;
      if (cu::cuMemAlloc_v2(&out, 4000) != CUDA_SUCCESS) ++failures;
      std::vector<int> back(1000);
      for (int round = 0; round < 20; ++round) {
        CUdeviceptr address = out;
        int value = t * 1000 + round, n = 1000;
        void* parameters[] = {&address, &value, &n};
        if (cu::cuLaunchKernel_ptsz(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr) !=
                CUDA_SUCCESS ||
            cu::cuMemcpyDtoH_v2_ptds(back.data(), out, 4000) != CUDA_SUCCESS ||
            back[999] != value) {
          ++failures;
        }
      }
      if (cu::cuMemFree_v2(out) != CUDA_SUCCESS) ++failures;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
}

TEST_F(Remoting, HostFunctionsKeepTheOrderOfTheirStream) {
  const CUfunction fill = Function("fill");
  const CUdeviceptr out = Allocate(4);
  // Not page-locked: a copy to the device then waits for the function here.
  int memory[2] = {};
  CUstream stream = nullptr;
  ASSERT_EQ(cu::cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  // device → host, changed by a host function, host → device, and back.
  ASSERT_EQ(Fill(fill, out, 20, 1, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(memory, out, 4, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLaunchHostFunc(
                stream, [](void* data) { ++*static_cast<int*>(data); }, memory),
            CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyHtoDAsync_v2(out, memory, 4, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(memory + 1, out, 4, stream), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream), CUDA_SUCCESS);
  EXPECT_EQ(memory[0], 21);
  EXPECT_EQ(memory[1], 21);
}

TEST_F(Remoting, OneThreadsWaitDoesNotHoldUpAnother) {
  const CUfunction wait = Function("wait");
  const CUfunction fill = Function("fill");
  const CUdeviceptr out = Allocate(4);
  ASSERT_EQ(cu::cuLaunchKernel(wait, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr), CUDA_SUCCESS);
  std::thread waiter([&] {
    cu::cuCtxSetCurrent(context_);
    EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
  });
  for (int i = 0; i < 100; ++i) ASSERT_EQ(Fill(fill, out, i, 1), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuStreamQuery(nullptr), CUDA_ERROR_NOT_READY);
  loop_.driver().OpenGate();
  waiter.join();
  EXPECT_EQ(cu::cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(Remoting, ASynchronousCopyInAThreadsOwnStreamIsDoneWhenItReturns) {
  const CUfunction wait = Function("wait");
  const CUdeviceptr out = Allocate(4);
  const int value = 5;
  ASSERT_EQ(cu::cuLaunchKernel_ptsz(wait, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  EXPECT_TRUE(
      WaitsForTheGate([&] { EXPECT_EQ(cu::cuMemcpyHtoD_v2_ptds(out, &value, 4), CUDA_SUCCESS); }));
  EXPECT_EQ(loop_.TakeRoundTrips(), 1u);
  // In the legacy stream others wait instead.
  EXPECT_EQ(cu::cuMemcpyHtoD_v2(out, &value, 4), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
}

TEST_F(Remoting, RegisteredMemoryIsLetGoWhenNothingIsOnItsWayThere) {
  const CUfunction wait = Function("wait");
  const CUdeviceptr out = Allocate(4);
  std::vector<int> memory(1024);
  ASSERT_EQ(cu::cuMemHostRegister_v2(memory.data(), 4096, 0), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuLaunchKernel(wait, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoHAsync_v2(memory.data(), out, 4, nullptr), CUDA_SUCCESS);
  EXPECT_TRUE(
      WaitsForTheGate([&] { EXPECT_EQ(cu::cuMemHostUnregister(memory.data()), CUDA_SUCCESS); }));
  // With nothing on its way there is nothing to ask.
  ASSERT_EQ(cu::cuMemHostRegister_v2(memory.data(), 4096, 0), CUDA_SUCCESS);
  loop_.TakeRoundTrips();
  EXPECT_EQ(cu::cuMemHostUnregister(memory.data()), CUDA_SUCCESS);
  EXPECT_EQ(loop_.TakeRoundTrips(), 0u);
}

}  // namespace
}  // namespace farwarp::tests
