// The exports of the toy API (tests/gen/toy), with everything hand-written that its table asks for:
// forgetting one of these functions is a link error.
#include <gtest/gtest.h>

#include <string>

#include "client/custom.h"
#include "client/driver/trace.h"
#include "client/driver/unsupported.h"
#include "client/plain.h"
#include "cuda/wire_ids.h"
#include "farwarp/base/log.h"
#include "tests/gen/loopback.h"

namespace {
std::string refused;
std::string logged;
}  // namespace

void FarwarpSayUnsupported(const char* name, const char* reason) noexcept {
  refused = std::string(name) + ": " + reason;
}

namespace farwarp::client {

void SetExportCaller(const void*) noexcept {}
void Trace::Write(CUresult result) const noexcept {
  FARWARP_LOG(kTrace, "%s gave %d", name_, static_cast<int>(result));
}

namespace custom {
CUresult toyLocal(int value) {
  return value == 7 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult toyCached(int* value) {
  *value = 11;
  return CUDA_SUCCESS;
}
CUresult toyCustomClient(void**) {
  throw 1;
}
CUresult toyCustomBoth(ToyCallback callback) {
  callback(nullptr);
  return CUDA_SUCCESS;
}
}  // namespace custom
}  // namespace farwarp::client

namespace farwarp {
namespace {

TEST(Toy, HandWrittenFunctionsAreExported) {
  EXPECT_EQ(::toyLocal(7), CUDA_SUCCESS);
  EXPECT_EQ(::toyLocal(8), CUDA_ERROR_INVALID_VALUE);
  int value = 0;
  EXPECT_EQ(::toyCached(&value), CUDA_SUCCESS);
  EXPECT_EQ(value, 11);
}

TEST(Toy, NoExceptionLeavesAnExport) {
  EXPECT_EQ(::toyCustomClient(nullptr), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST(Toy, HandWrittenHandlersAreReached) {
  loopback::Reset();
  float milliseconds = 0;
  const auto event = loopback::ClientObject<CUevent>(wire::HandleKind::kEvent, 3);
  EXPECT_EQ(::toyCustomServer(event, &milliseconds), CUDA_SUCCESS);
  EXPECT_EQ(milliseconds, 2.5f);
  EXPECT_EQ(::toyCustomServer(nullptr, &milliseconds), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(loopback::Dispatch(wire_id::toyCustomBoth, {}, nullptr), CUDA_SUCCESS);
}

TEST(Toy, RefusalsGiveTheReason) {
  EXPECT_EQ(::toyUnsupported(ToyTrap{}), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(refused, "toyUnsupported: it is a \"toy\"");
}

TEST(Toy, PerThreadVariantsShareTheCommand) {
  loopback::Reset();
  static CUstream seen;
  loopback::Get().driver.toyStream = [](CUstream stream, int) {
    seen = stream;
    return CUDA_SUCCESS;
  };
  EXPECT_EQ(::toyStream(nullptr, 1), CUDA_SUCCESS);
  EXPECT_EQ(seen, nullptr);
  EXPECT_EQ(loopback::Get().id, wire_id::toyStream);
  EXPECT_EQ(::toyStream_ptsz(nullptr, 1), CUDA_SUCCESS);
  EXPECT_EQ(seen, reinterpret_cast<CUstream>(std::uintptr_t{2}));
  EXPECT_EQ(loopback::Get().id, wire_id::toyStream);
}

TEST(Toy, FailedCreationGivesTheHandleBack) {
  loopback::Reset();
  loopback::Get().driver.toyCreate_v2 = [](CUarray*, int*) { return CUDA_ERROR_UNKNOWN; };
  CUarray array = nullptr;
  int size = -1;
  EXPECT_EQ(::toyCreate_v2(&array, &size), CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(array, nullptr);
  EXPECT_EQ(size, -1) << "outputs are written only on success";
  EXPECT_EQ(loopback::Get().retired, 1);
  EXPECT_TRUE(loopback::Get().bound.empty());
}

TEST(Toy, AskingForACountNeedsNoArray) {
  loopback::Reset();
  loopback::Get().driver.toyQuery = [](ToyPoint* points, size_t* count) {
    EXPECT_EQ(points, nullptr);
    *count = 1000;
    return CUDA_SUCCESS;
  };
  size_t count = 1;
  EXPECT_EQ(::toyQuery(nullptr, &count), CUDA_SUCCESS);
  EXPECT_EQ(count, 1000u);
}

TEST(Toy, AnAnswerNeverExceedsTheCallersArray) {
  loopback::Reset();
  loopback::Get().driver.toyQuery = [](ToyPoint* points, size_t* count) {
    points[0].x = 1;
    points[1].x = 2;
    *count = 1000;  // More exist than were asked for.
    return CUDA_SUCCESS;
  };
  ToyPoint points[3] = {};
  points[2].x = 77;
  size_t count = 2;
  EXPECT_EQ(::toyQuery(points, &count), CUDA_SUCCESS);
  EXPECT_EQ(points[1].x, 2);
  EXPECT_EQ(points[2].x, 77);
}

TEST(Toy, CountsAreLimitedBeforeAnythingTravels) {
  loopback::Reset();
  size_t count = ~size_t{0};
  ToyPoint point;
  EXPECT_EQ(::toyQuery(&point, &count), CUDA_ERROR_INVALID_VALUE);
  char name[4];
  unsigned long long pair[2];
  EXPECT_EQ(::toyOutArrays(name, -1, pair, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
  const std::string long_name(5000, 'x');
  EXPECT_EQ(::toyStrings(long_name.c_str(), nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_TRUE(loopback::Get().body.empty());
}

TEST(Toy, ForgedHandlesDoNotReachTheDriver) {
  loopback::Reset();
  loopback::Get().driver.toyDestroy = [](CUarray) {
    ++loopback::Get().driver_calls;
    return CUDA_SUCCESS;
  };
  const auto wrong_kind = loopback::ClientObject<CUarray>(wire::HandleKind::kEvent, 1);
  EXPECT_EQ(::toyDestroy(wrong_kind), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(::toyDestroy(reinterpret_cast<CUarray>(&refused)), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(loopback::Get().driver_calls, 0);
}

TEST(Toy, ForgedAddressesDoNotReachTheDriver) {
  loopback::Reset();
  loopback::Get().driver.toyAddresses = [](CUdeviceptr, size_t, CUdeviceptr, const ToyWindow*,
                                           const ToyWindow*) {
    ++loopback::Get().driver_calls;
    return CUDA_SUCCESS;
  };
  ToyWindow own{};
  own.base = reinterpret_cast<void*>(std::uintptr_t{32});
  own.bytes = 8;
  const ToyWindow windows[2] = {own, own};
  const CUdeviceptr end = loopback::kMemoryEnd;
  EXPECT_EQ(::toyAddresses(16, end - 16, 0, windows, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(loopback::Get().driver_calls, 1);
  EXPECT_EQ(::toyAddresses(16, end - 15, 0, windows, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(::toyAddresses(0, 1, 0, windows, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(::toyAddresses(16, 1, end, windows, nullptr), CUDA_ERROR_INVALID_VALUE);
  ToyWindow forged = own;
  forged.base = &refused;
  EXPECT_EQ(::toyAddresses(16, 1, 0, windows, &forged), CUDA_ERROR_INVALID_VALUE);
  forged = own;
  forged.reserved = &refused;
  EXPECT_EQ(::toyAddresses(16, 1, 0, windows, &forged), CUDA_ERROR_INVALID_VALUE);
  const ToyWindow second[2] = {own, forged};
  EXPECT_EQ(::toyAddresses(16, 1, 0, second, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(loopback::Get().driver_calls, 1);
}

TEST(Toy, TheTraceShowsNamesAndArguments) {
  loopback::Reset();
  loopback::Get().driver.toyStrings = [](const char*, const char*) { return CUDA_SUCCESS; };
  logged.clear();
  SetLogSink([](LogLevel, const char* line) { logged += std::string(line) + "\n"; });
  SetLogLevel(LogLevel::kTrace);
  EXPECT_EQ(::toyStrings("a name", nullptr), CUDA_SUCCESS);
  SetLogLevel(LogLevel::kOff);
  SetLogSink(nullptr);
  EXPECT_NE(logged.find("toyStrings(name \"a name\", label \"(null)\")"), std::string::npos)
      << logged;
  EXPECT_NE(logged.find("toyStrings gave 0"), std::string::npos) << logged;
}

}  // namespace
}  // namespace farwarp
