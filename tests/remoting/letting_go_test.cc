// What the server lets go for a client, and when: bytes that the client has not taken yet outlive
// their context, and memory is the lease's again only when the driver has really let it go.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
#include "farwarp/wire/push.h"
#include "tests/remoting/fake_driver.h"
#include "tests/remoting/raw_client.h"
#include "tests/wire/test_window.h"

namespace farwarp::tests {
namespace {

using wire::ArrayShape;
using wire::CopyExtent;
using wire::CopyPlane;
using wire::Handle;
using wire::HandleKind;
using wire::InternalCommand;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint32_t kVgpu = 0;
constexpr std::uint64_t kZero = 0;
constexpr Handle kPrimary(HandleKind::kContext, 1, 0);
constexpr Handle kSecond(HandleKind::kContext, 1, 1);
constexpr Handle kArray(HandleKind::kArray, 1, 0);
constexpr Handle kOther(HandleKind::kArray, 1, 1);
constexpr Handle kLibrary(HandleKind::kLibrary, 1, 0);
constexpr Handle kModule(HandleKind::kModule, 1, 0);

// What the driver does beside the fake one; reset by each test. One session at a time.
server::driver::Table real;
std::atomic<int> arrays;
std::atomic<bool> overlapped, ended, refuses;
// Page-locked memory that ends with the only context there is.
std::mutex locked_mutex;
std::map<void*, std::size_t> locked;

constexpr std::chrono::milliseconds kAWhile{300};

// True if `happened` within a while.
template <typename Happened>
bool HappensNow(Happened happened) {
  const auto until = std::chrono::steady_clock::now() + kAWhile;
  while (!happened() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  return happened();
}

class LettingGo : public testing::Test {
 protected:
  LettingGo() {
    arrays = 0;
    overlapped = ended = refuses = false;
    auto& table = const_cast<server::driver::Table&>(driver_.table());
    real = table;
    table.cuCtxGetDevice = [](CUdevice* device) { return *device = 0, CUDA_SUCCESS; };
    table.cuArray3DCreate_v2 = [](CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR*) {
      *array = reinterpret_cast<CUarray>(std::uintptr_t{0x1000} + 16u * unsigned(++arrays));
      return CUDA_SUCCESS;
    };
    table.cuArrayDestroy = [](CUarray) {
      return refuses ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
    };
    table.cuMemcpy3DAsync_v2 = [](const CUDA_MEMCPY3D* copy, CUstream stream) {
      // Those to arrays clear them.
      return copy->dstMemoryType == CU_MEMORYTYPE_ARRAY ? CUDA_SUCCESS
                                                        : real.cuMemcpy3DAsync_v2(copy, stream);
    };
    EXPECT_EQ(client_.Retain(kPrimary), CUDA_SUCCESS);
    client_.SetContext(kPrimary);
  }
  server::driver::Table& table() { return const_cast<server::driver::Table&>(driver_.table()); }

  // A command of words and structures.
  template <typename... Parts>
  static wire::Buffer Body(const Parts&... parts) {
    wire::Buffer body;
    wire::Encoder encoder(body);
    const auto put = [&](const auto& part) {
      if constexpr (std::is_integral_v<std::decay_t<decltype(part)>>) {
        encoder.Put(part);
      } else {
        encoder.PutStruct(part);
      }
    };
    (put(parts), ...);
    body.resize((body.size() + 7) / 8 * 8);
    return body;
  }
  template <typename... Parts>
  CUresult Call(InternalCommand command, const Parts&... parts) {
    return client_.CallWith(command, Body(parts...));
  }
  CUresult CreateArray(Handle array) {
    const ArrayShape half{1024, 1024, 8, CU_AD_FORMAT_FLOAT, 1, 0, 0};  // 32 MiB.
    return Call(InternalCommand::kCreateArray, array.bits(), kVgpu, half);
  }
  // Credit for one array of two, and some.
  void Acquire() {
    ASSERT_EQ(Call(InternalCommand::kAcquireCredit, kVgpu, 32 * kMiB), CUDA_SUCCESS);
  }

  FakeDriver driver_;
  RawClient client_{driver_.table()};
};

TEST_F(LettingGo, BytesThatTheClientHasNotTakenOutliveTheirContext) {
  constexpr std::uint64_t kBytes = 32 * kMiB;
  constexpr std::uint64_t kCopies = 4;
  table().cuMemHostAlloc = [](void** out, std::size_t bytes, unsigned) {
    *out = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const std::lock_guard lock(locked_mutex);
    locked[*out] = bytes;
    return CUDA_SUCCESS;
  };
  table().cuMemFreeHost = [](void* memory) {
    const std::lock_guard lock(locked_mutex);
    ::munmap(memory, locked.at(memory));
    locked.erase(memory);
    return CUDA_SUCCESS;
  };
  table().cuDevicePrimaryCtxRelease_v2 = [](CUdevice device) {
    const CUresult result = real.cuDevicePrimaryCtxRelease_v2(device);
    const std::lock_guard lock(locked_mutex);
    for (const auto& [memory, bytes] : locked) ::munmap(memory, bytes);
    locked.clear();
    ended = true;
    return result;
  };
  Acquire();
  ASSERT_EQ(Call(InternalCommand::kMapRange, kVgpu, kTestWindow, kBytes), CUDA_SUCCESS);
  ASSERT_EQ(Call(InternalCommand::kFill, kZero, kTestWindow, kZero, std::uint32_t{1},
                 std::uint32_t{0x5a}, kBytes, std::uint64_t{1}),
            CUDA_SUCCESS);
  // Somebody else is sending already, so the bytes wait and the stream does not.
  std::atomic<bool> sending{false};
  std::thread sender([&] {
    const wire::Buffer text(2 * kMiB);
    sending = true;
    client_.session().Push(wire::PushType::kOutput, text);
  });
  EXPECT_TRUE(HappensNow([&] { return sending.load(); }));
  EXPECT_FALSE(HappensNow([] { return ended.load(); }));
  for (std::uint64_t transfer = 1; transfer <= kCopies; ++transfer) {
    client_.Post(InternalCommand::kCopyFromDevice,
                 Body(kZero, CopyExtent{kBytes, 1, 1}, CopyPlane{kTestWindow, 0, 0}, transfer));
  }
  client_.Post(InternalCommand::kReleasePrimaryContext, Body(kPrimary.bits(), kVgpu));
  EXPECT_FALSE(HappensNow([] { return ended.load(); }));
  // From here on the client reads.
  EXPECT_EQ(client_.Retain(kPrimary), CUDA_SUCCESS);
  EXPECT_TRUE(ended.load());
  sender.join();
  for (std::uint64_t transfer = 1; transfer <= kCopies; ++transfer) {
    const wire::Buffer& bytes = client_.Arrived(transfer);
    ASSERT_EQ(bytes.size(), kBytes);
    EXPECT_TRUE(
        std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0x5a}; }));
  }
}

TEST_F(LettingGo, AnArrayIsPaidUntilItsContextHasEnded) {
  table().cuDevicePrimaryCtxRelease_v2 = [](CUdevice device) {
    overlapped = HappensNow([] { return arrays != 1; });
    return real.cuDevicePrimaryCtxRelease_v2(device);
  };
  ASSERT_EQ(Call(InternalCommand::kCreateContext, kSecond.bits(), kVgpu, std::uint32_t{0}),
            CUDA_SUCCESS);
  Acquire();
  ASSERT_EQ(CreateArray(kArray), CUDA_SUCCESS);
  client_.SetContext(kSecond);
  client_.Post(InternalCommand::kReleasePrimaryContext, Body(kPrimary.bits(), kVgpu));
  EXPECT_EQ(CreateArray(kOther), CUDA_SUCCESS);
  EXPECT_FALSE(overlapped.load());
}

TEST_F(LettingGo, AnArrayThatTheDriverKeepsIsPaidUntilItsContextEnds) {
  ASSERT_EQ(Call(InternalCommand::kCreateContext, kSecond.bits(), kVgpu, std::uint32_t{0}),
            CUDA_SUCCESS);
  client_.SetContext(kSecond);
  Acquire();
  ASSERT_EQ(CreateArray(kArray), CUDA_SUCCESS);
  refuses = true;
  EXPECT_EQ(Call(InternalCommand::kDestroyArray, kArray.bits()), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(CreateArray(kOther), CUDA_ERROR_OUT_OF_MEMORY);
  client_.SetContext(kPrimary);
  EXPECT_EQ(Call(InternalCommand::kDestroyContext, kSecond.bits()), CUDA_SUCCESS);
  EXPECT_EQ(CreateArray(kOther), CUDA_SUCCESS);
}

TEST_F(LettingGo, MemoryThatTheDriverKeepsStaysPaid) {
  table().cuMemRelease = [](CUmemGenericAllocationHandle handle) {
    return refuses ? CUDA_ERROR_UNKNOWN : real.cuMemRelease(handle);
  };
  Acquire();
  refuses = true;
  ASSERT_EQ(Call(InternalCommand::kMapRange, kVgpu, kTestWindow, 32 * kMiB), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kUnmapRange, kVgpu, kTestWindow, 32 * kMiB), CUDA_ERROR_UNKNOWN);
  EXPECT_EQ(Call(InternalCommand::kMapRange, kVgpu, kTestWindow + 64 * kMiB, 32 * kMiB),
            CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Call(InternalCommand::kReturnCredit, kVgpu, 32 * kMiB), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(LettingGo, ACommandWithAWordTooManyEndsNothing) {
  Acquire();
  ASSERT_EQ(CreateArray(kArray), CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kDestroyArray, kArray.bits(), kZero), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kDestroyArray, kArray.bits()), CUDA_SUCCESS);
}

// The driver is told a height, which must not mean other memory than was checked.
TEST_F(LettingGo, SlicesAreWholeRowsApart) {
  ASSERT_EQ(Call(InternalCommand::kMapRange, kVgpu, kTestWindow, 2 * kMiB), CUDA_SUCCESS);
  const auto copy = [&](const CopyExtent& extent, const CopyPlane& to, const CopyPlane& from) {
    return Call(InternalCommand::kCopyOnDevice, kZero, extent, to, from);
  };
  const CopyExtent box{64, 2, 3};
  const CopyPlane whole{kTestWindow, 128, 512}, odd{kTestWindow + kMiB, 128, 500};
  EXPECT_EQ(copy(box, whole, {kTestWindow + kMiB, 128, 256}), CUDA_SUCCESS);
  EXPECT_EQ(copy(box, whole, odd), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(copy(box, odd, whole), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(copy({64, 1, 3}, {kTestWindow, 0, 512}, whole), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(LettingGo, AVariableEndsWithTheLibraryOfItsModule) {
  table().cuLibraryGetModule = [](CUmodule* module, CUlibrary library) {
    return *module = reinterpret_cast<CUmodule>(library), CUDA_SUCCESS;
  };
  table().cuModuleGetGlobal_v2 = [](CUdeviceptr* address, std::size_t* bytes, CUmodule,
                                    const char*) {
    return *address = 0x5000, *bytes = 64, CUDA_SUCCESS;
  };
  table().cuMemsetD8Async = [](CUdeviceptr, unsigned char, std::size_t, CUstream) {
    return CUDA_SUCCESS;
  };
  wire::Buffer load;
  wire::Encoder encoder(load);
  const std::string image = ".version 9.0\n";
  encoder.Put(kLibrary.bits());
  encoder.Put(kZero);              // Options.
  encoder.Put(std::uint64_t{64});  // Of each log.
  encoder.Put(std::uint64_t{64});
  encoder.Put(std::uint64_t{image.size()});
  encoder.Put(kZero);  // The image is in the command.
  encoder.PutRaw(reinterpret_cast<const std::byte*>(image.data()), image.size());
  ASSERT_EQ(client_.CallWith(InternalCommand::kLoadLibrary, load), CUDA_SUCCESS);
  ASSERT_EQ(Call(InternalCommand::kLibraryModule, kModule.bits(), kLibrary.bits()), CUDA_SUCCESS);
  wire::Buffer ask;
  wire::Encoder name(ask);
  name.Put(kModule.bits());
  name.PutString("v");
  ASSERT_EQ(client_.CallWith(InternalCommand::kModuleGlobal, ask), CUDA_SUCCESS);
  const auto fill = [&] {
    return Call(InternalCommand::kFill, kZero, std::uint64_t{0x5000}, kZero, std::uint32_t{1},
                std::uint32_t{0}, std::uint64_t{64}, std::uint64_t{1});
  };
  ASSERT_EQ(fill(), CUDA_SUCCESS);
  ASSERT_EQ(Call(InternalCommand::kUnloadLibrary, kLibrary.bits()), CUDA_SUCCESS);
  EXPECT_EQ(fill(), CUDA_ERROR_INVALID_HANDLE);
}

}  // namespace
}  // namespace farwarp::tests
