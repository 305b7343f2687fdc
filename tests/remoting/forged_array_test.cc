// Commands for arrays, textures and surfaces that no client library sends: shapes that no array
// has, handles of other kinds and other lives, memory of somebody else, numbers that the driver
// gave to nobody or to another context. The driver sees none of them.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "farwarp/wire/handle.h"
#include "farwarp/wire/internal_command.h"
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
using wire::TextureSampler;

constexpr Handle kPrimary(HandleKind::kContext, 1, 0);
constexpr Handle kSecond(HandleKind::kContext, 1, 1);
constexpr Handle kStream(HandleKind::kStream, 1, 0);
constexpr Handle kArray(HandleKind::kArray, 1, 0);
constexpr Handle kOther(HandleKind::kArray, 1, 1);
constexpr Handle kPast(HandleKind::kArray, 2, 0);  // The slot of kArray in another life.

constexpr std::uint64_t kRangeBytes = std::uint64_t{2} << 20;
constexpr std::uint32_t kFloat = CU_AD_FORMAT_FLOAT;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

// What the driver was asked to do: reset by each test. One session at a time.
struct Seen {
  int arrays = 0, destroyed = 0;
  std::uint64_t numbers = 0;
  std::vector<std::uint64_t> ended;
  std::vector<CUDA_MEMCPY3D> copies;
  std::vector<CUDA_RESOURCE_DESC> resources;
} seen;

struct Texture {
  std::uint32_t kind = CU_RESOURCE_TYPE_ARRAY;
  std::uint64_t array = kArray.bits();
  std::uint64_t address = 0;
  std::uint32_t format = kFloat;
  std::uint32_t channels = 1;
  std::uint64_t width = 0, height = 0, pitch = 0;
};

class ForgedArray : public testing::Test {
 protected:
  ForgedArray() {
    seen = {};
    // The table is the fake driver's own, not constant; nothing calls these before the tests do.
    auto& table = const_cast<server::driver::Table&>(driver_.table());
    table.cuCtxGetDevice = [](CUdevice* device) { return *device = 0, CUDA_SUCCESS; };
    table.cuArray3DCreate_v2 = [](CUarray* array, const CUDA_ARRAY3D_DESCRIPTOR*) {
      *array = reinterpret_cast<CUarray>(std::uintptr_t{0x1000} + 16u * unsigned(++seen.arrays));
      return CUDA_SUCCESS;
    };
    table.cuArrayDestroy = [](CUarray) { return ++seen.destroyed, CUDA_SUCCESS; };
    table.cuMemcpy3DAsync_v2 = [](const CUDA_MEMCPY3D* copy, CUstream) {
      // Those from the host clear arrays.
      if (copy->srcMemoryType != CU_MEMORYTYPE_HOST) seen.copies.push_back(*copy);
      return CUDA_SUCCESS;
    };
    table.cuTexObjectCreate = [](CUtexObject* number, const CUDA_RESOURCE_DESC* resource,
                                 const CUDA_TEXTURE_DESC*, const CUDA_RESOURCE_VIEW_DESC*) {
      seen.resources.push_back(*resource);
      return *number = ++seen.numbers, CUDA_SUCCESS;
    };
    table.cuSurfObjectCreate = [](CUsurfObject* number, const CUDA_RESOURCE_DESC* resource) {
      seen.resources.push_back(*resource);
      return *number = ++seen.numbers, CUDA_SUCCESS;
    };
    table.cuTexObjectDestroy = [](CUtexObject n) { return seen.ended.push_back(n), CUDA_SUCCESS; };
    table.cuSurfObjectDestroy = [](CUsurfObject n) {
      return seen.ended.push_back(n), CUDA_SUCCESS;
    };
    EXPECT_EQ(client_.Retain(kPrimary), CUDA_SUCCESS);
    client_.SetContext(kPrimary);
    EXPECT_EQ(Call(InternalCommand::kMapRange, std::uint32_t{0}, kTestWindow, kRangeBytes),
              CUDA_SUCCESS);
    EXPECT_EQ(
        Call(InternalCommand::kCreateStream, kStream.bits(), std::uint32_t{0}, std::int32_t{0}),
        CUDA_SUCCESS);
  }

  template <typename... Arguments>
  CUresult Call(Arguments... arguments) {
    return client_.Call(arguments...);
  }
  // A command of words and structures.
  template <typename... Parts>
  CUresult Send(InternalCommand command, const Parts&... parts) {
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
    return client_.CallWith(command, std::move(body));
  }
  CUresult Create(Handle array, const ArrayShape& shape, std::uint32_t vgpu = 0) {
    return Send(InternalCommand::kCreateArray, array.bits(), vgpu, shape);
  }
  CUresult Destroy(Handle array) { return Call(InternalCommand::kDestroyArray, array.bits()); }
  CUresult To(std::uint64_t array, const CopyExtent& extent, const CopyPlane& from,
              std::uint64_t stream = 0) {
    return Send(InternalCommand::kCopyToArray, stream, extent, array, kZero, kZero, kZero, from);
  }
  CUresult From(std::uint64_t array, const CopyExtent& extent, const CopyPlane& to,
                std::uint64_t stream = 0) {
    return Send(InternalCommand::kCopyFromArray, stream, extent, array, kZero, kZero, kZero, to);
  }
  CUresult Between(std::uint64_t to, std::uint64_t from, const CopyExtent& extent) {
    return Send(InternalCommand::kCopyBetweenArrays, kZero, extent, to, kZero, kZero, kZero, from,
                kZero, kZero, kZero);
  }
  CUresult Bind(const Texture& t) {
    return Send(InternalCommand::kCreateTexture, t.kind, t.array, t.address, t.format, t.channels,
                t.width, t.height, t.pitch, TextureSampler{});
  }

  static constexpr std::uint64_t kZero = 0;
  static constexpr ArrayShape kShape{64, 64, 0, kFloat, 1, 0, 0};
  FakeDriver driver_;
  RawClient client_{driver_.table()};
};

TEST_F(ForgedArray, ShapesThatNoArrayHasAreRefused) {
  for (const ArrayShape& shape :
       {ArrayShape{0, 64, 0, kFloat, 1, 0, 0}, ArrayShape{kHuge, 1, 1, kFloat, 1, 0, 0},
        ArrayShape{64, kHuge, 0, kFloat, 1, 0, 0}, ArrayShape{64, 64, kHuge, kFloat, 1, 0, 0},
        ArrayShape{64, 64, 0, 0x7fffffff, 1, 0, 0}, ArrayShape{64, 64, 0, kFloat, 0, 0, 0},
        ArrayShape{64, 64, 0, kFloat, 5, 0, 0}, ArrayShape{64, 64, 0, kFloat, 1u << 30, 0, 0}}) {
    EXPECT_EQ(Create(kArray, shape), CUDA_ERROR_INVALID_VALUE)
        << shape.width << " " << shape.height << " " << shape.depth << " " << shape.channels;
  }
  // The largest that can be written down costs more than the lease has.
  EXPECT_EQ(Create(kArray, {1u << 18, 1u << 18, 1u << 18, kFloat, 4, 0, 0}),
            CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Create(kArray, kShape, 7), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(seen.arrays, 0);
  EXPECT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  EXPECT_EQ(seen.arrays, 1);
}

TEST_F(ForgedArray, HandlesAreNewWhenMadeAndKnownWhenUsed) {
  EXPECT_NE(Create(Handle(HandleKind::kEvent, 1, 0), kShape), CUDA_SUCCESS);
  EXPECT_NE(Create(kStream, kShape), CUDA_SUCCESS);
  ASSERT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  // A handle in use is not given away, and keeps its array.
  EXPECT_NE(Create(kArray, kShape), CUDA_SUCCESS);
  EXPECT_EQ(seen.arrays - seen.destroyed, 1);
  EXPECT_EQ(Destroy(kPast), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Destroy(kOther), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Destroy(kStream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kDestroyArray), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Call(InternalCommand::kDestroyStream, kArray.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(Destroy(kArray), CUDA_SUCCESS);
  EXPECT_EQ(Destroy(kArray), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(seen.arrays, seen.destroyed);
}

// An array that could not be made, or was given back, leaves nothing to pay.
TEST_F(ForgedArray, EveryArrayIsPaidAndRefundedOnce) {
  const ArrayShape half{1024, 1024, 8, kFloat, 1, 0, 0};  // 32 of 64 MiB.
  ASSERT_EQ(Call(InternalCommand::kAcquireCredit, std::uint32_t{0}, std::uint64_t{32} << 20),
            CUDA_SUCCESS);
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(Create(kArray, half), CUDA_SUCCESS) << round;
    EXPECT_EQ(Create(kOther, half), CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_NE(Create(kArray, half), CUDA_SUCCESS);
    EXPECT_EQ(Destroy(kArray), CUDA_SUCCESS);
    EXPECT_NE(Destroy(kArray), CUDA_SUCCESS);
  }
}

TEST_F(ForgedArray, CopiesTakeArraysOfTheSessionOnly) {
  ASSERT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  const CopyExtent row{256, 1, 1};
  const CopyPlane own{kTestWindow, 256, 256};
  for (const std::uint64_t forged :
       {kPast.bits(), kOther.bits(), kStream.bits(), kPrimary.bits(), std::uint64_t{0}, kHuge}) {
    EXPECT_EQ(To(forged, row, own), CUDA_ERROR_INVALID_HANDLE) << forged;
    EXPECT_EQ(From(forged, row, own), CUDA_ERROR_INVALID_HANDLE) << forged;
    EXPECT_EQ(Between(forged, kArray.bits(), row), CUDA_ERROR_INVALID_HANDLE) << forged;
    EXPECT_EQ(Between(kArray.bits(), forged, row), CUDA_ERROR_INVALID_HANDLE) << forged;
  }
  EXPECT_EQ(To(kArray.bits(), row, own, kArray.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(From(kArray.bits(), row, own, kPrimary.bits()), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_TRUE(seen.copies.empty());
  EXPECT_EQ(To(kArray.bits(), row, own), CUDA_SUCCESS);
  EXPECT_EQ(From(kArray.bits(), row, own, kStream.bits()), CUDA_SUCCESS);
  EXPECT_EQ(Between(kArray.bits(), kArray.bits(), row), CUDA_SUCCESS);
  EXPECT_EQ(seen.copies.size(), 3u);
}

TEST_F(ForgedArray, CopiesTouchTheClientsMemoryOnly) {
  ASSERT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  struct Case {
    CopyExtent extent;
    CopyPlane plane;
  };
  const std::uint64_t end = kTestWindow + kRangeBytes;
  for (const Case& c :
       {Case{{256, 1, 1}, {0x1234, 256, 256}}, Case{{256, 1, 1}, {0, 256, 256}},
        Case{{256, 1, 1}, {end - 255, 256, 256}}, Case{{256, 2, 1}, {end - 511, 256, 512}},
        Case{{256, 1, 1}, {kTestWindow - 1, 256, 256}},
        // Nothing to copy, and more than there is.
        Case{{0, 1, 1}, {kTestWindow, 256, 256}}, Case{{256, 0, 1}, {kTestWindow, 256, 256}},
        Case{{256, 1, 0}, {kTestWindow, 256, 256}}, Case{{kHuge, 1, 1}, {kTestWindow, 256, 256}},
        Case{{256, kHuge, 1}, {kTestWindow, 256, 256}},
        Case{{256, 1, kHuge}, {kTestWindow, 256, 256}},
        // Pitches that mean other places to the driver, or wrap around.
        Case{{256, 2, 1}, {kTestWindow, 0, 0}}, Case{{256, 2, 1}, {kTestWindow, 255, 512}},
        Case{{256, 2, 1}, {kTestWindow, kHuge, 512}}, Case{{256, 2, 2}, {kTestWindow, 256, 256}},
        Case{{256, 2, 2}, {kTestWindow, 256, 700}}, Case{{256, 2, 2}, {kTestWindow, 256, 0}},
        Case{{256, 1, 2}, {kTestWindow, 0, 256}},
        Case{{256, 2, 2}, {kTestWindow, 256, kHuge & ~std::uint64_t{255}}}}) {
    EXPECT_EQ(To(kArray.bits(), c.extent, c.plane), CUDA_ERROR_INVALID_HANDLE)
        << c.extent.row_bytes << " " << c.extent.rows << " " << c.extent.slices;
    EXPECT_EQ(From(kArray.bits(), c.extent, c.plane), CUDA_ERROR_INVALID_HANDLE)
        << c.plane.address << " " << c.plane.pitch << " " << c.plane.slice_pitch;
  }
  EXPECT_TRUE(seen.copies.empty());
  EXPECT_EQ(To(kArray.bits(), {256, 2, 1}, {end - 512, 256, 512}), CUDA_SUCCESS);
  ASSERT_EQ(seen.copies.size(), 1u);
  EXPECT_EQ(seen.copies[0].srcDevice, end - 512);
}

TEST_F(ForgedArray, TexturesReadWhatIsTheClients) {
  ASSERT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  const std::uint64_t end = kTestWindow + kRangeBytes;
  for (const Texture& forged :
       {Texture{.array = kPast.bits()}, Texture{.array = 0}, Texture{.array = kStream.bits()},
        Texture{.kind = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY}, Texture{.kind = 77},
        Texture{.kind = CU_RESOURCE_TYPE_LINEAR, .array = 0, .address = 0x1234, .width = 64},
        Texture{.kind = CU_RESOURCE_TYPE_LINEAR, .array = 0, .address = kTestWindow, .width = 0},
        Texture{.kind = CU_RESOURCE_TYPE_LINEAR, .array = 0, .address = end - 63, .width = 64},
        Texture{
            .kind = CU_RESOURCE_TYPE_LINEAR, .array = 0, .address = kTestWindow, .width = kHuge},
        Texture{.kind = CU_RESOURCE_TYPE_PITCH2D,
                .array = 0,
                .address = end - 511,
                .width = 64,
                .height = 2,
                .pitch = 256},
        Texture{.kind = CU_RESOURCE_TYPE_PITCH2D,
                .array = 0,
                .address = kTestWindow,
                .width = 65,
                .height = 2,
                .pitch = 256},
        Texture{.kind = CU_RESOURCE_TYPE_PITCH2D,
                .array = 0,
                .address = kTestWindow,
                .width = std::uint64_t{1} << 62,
                .height = 1,
                .pitch = 256},
        Texture{.kind = CU_RESOURCE_TYPE_PITCH2D,
                .array = 0,
                .address = kTestWindow,
                .format = 0x55,
                .width = 64,
                .height = 2,
                .pitch = 256},
        Texture{.kind = CU_RESOURCE_TYPE_PITCH2D,
                .array = 0,
                .address = kTestWindow,
                .width = 64,
                .height = kHuge,
                .pitch = 256}}) {
    const CUresult result = Bind(forged);
    EXPECT_NE(result, CUDA_SUCCESS) << forged.kind << " " << forged.address << " " << forged.width;
    EXPECT_NE(result, CUDA_ERROR_UNKNOWN) << forged.kind;  // The session goes on.
  }
  for (const std::uint64_t forged : {kPast.bits(), kStream.bits(), std::uint64_t{0}, kHuge}) {
    EXPECT_EQ(Call(InternalCommand::kCreateSurface, forged), CUDA_ERROR_INVALID_HANDLE) << forged;
  }
  EXPECT_TRUE(seen.resources.empty());
  EXPECT_EQ(Bind({}), CUDA_SUCCESS);
  EXPECT_EQ(Bind({.kind = CU_RESOURCE_TYPE_LINEAR, .array = 0, .address = end - 64, .width = 64}),
            CUDA_SUCCESS);
  EXPECT_EQ(Bind({.kind = CU_RESOURCE_TYPE_PITCH2D,
                  .array = 0,
                  .address = end - 512,
                  .width = 64,
                  .height = 2,
                  .pitch = 256}),
            CUDA_SUCCESS);
  EXPECT_EQ(Call(InternalCommand::kCreateSurface, kArray.bits()), CUDA_SUCCESS);
  EXPECT_EQ(seen.resources.size(), 4u);
}

TEST_F(ForgedArray, NumbersEndOnceInTheContextAndInTheWayTheyBegan) {
  ASSERT_EQ(Create(kArray, kShape), CUDA_SUCCESS);
  ASSERT_EQ(Bind({}), CUDA_SUCCESS);                                              // 1
  ASSERT_EQ(Call(InternalCommand::kCreateSurface, kArray.bits()), CUDA_SUCCESS);  // 2
  const auto texture = [this](std::uint64_t number) {
    return Call(InternalCommand::kDestroyTexture, number);
  };
  const auto surface = [this](std::uint64_t number) {
    return Call(InternalCommand::kDestroySurface, number);
  };
  for (const std::uint64_t forged : {std::uint64_t{0}, std::uint64_t{3}, kHuge}) {
    EXPECT_EQ(texture(forged), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(surface(forged), CUDA_ERROR_INVALID_VALUE);
  }
  EXPECT_EQ(texture(2), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(surface(1), CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(
      Call(InternalCommand::kCreateContext, kSecond.bits(), std::uint32_t{0}, std::uint32_t{0}),
      CUDA_SUCCESS);
  client_.SetContext(kSecond);
  EXPECT_EQ(texture(1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(surface(2), CUDA_ERROR_INVALID_VALUE);
  client_.SetContext(kPrimary);
  EXPECT_TRUE(seen.ended.empty());
  EXPECT_EQ(texture(1), CUDA_SUCCESS);
  EXPECT_EQ(texture(1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(surface(2), CUDA_SUCCESS);
  EXPECT_EQ(surface(2), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(seen.ended, (std::vector<std::uint64_t>{1, 2}));
}

}  // namespace
}  // namespace farwarp::tests
