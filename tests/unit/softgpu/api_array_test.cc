// CUDA arrays, texture and surface objects: layout and accounting, copies in every direction,
// limits, forged handles, and what kernels will read.
#include <numeric>
#include <vector>

#include "server/softgpu/memory/texture.h"
#include "tests/unit/softgpu/api_fixture.h"

namespace farwarp::softgpu {
namespace {

using ArrayTest = ApiTest;

size_t FreeBytes() {
  size_t free = 0, total = 0;
  EXPECT_OK(cuMemGetInfo_v2(&free, &total));
  return free;
}

CUDA_ARRAY3D_DESCRIPTOR Shape(size_t width, size_t height, size_t depth, unsigned flags = 0) {
  CUDA_ARRAY3D_DESCRIPTOR shape{};
  shape.Width = width;
  shape.Height = height;
  shape.Depth = depth;
  shape.Format = CU_AD_FORMAT_UNSIGNED_INT32;
  shape.NumChannels = 1;
  shape.Flags = flags;
  return shape;
}

CUarray Make(const CUDA_ARRAY3D_DESCRIPTOR& shape) {
  CUarray array = nullptr;
  EXPECT_OK(cuArray3DCreate_v2(&array, &shape));
  return array;
}

CUDA_RESOURCE_DESC Of(CUarray array) {
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_ARRAY;
  resource.res.array.hArray = array;
  return resource;
}

std::vector<uint32_t> Numbers(size_t count) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 1u);
  return numbers;
}

TEST_F(ArrayTest, CostsWhatItsTexelsNeed) {
  const size_t before = FreeBytes();
  CUarray array = Make(Shape(1000, 10, 3));
  EXPECT_EQ(before - FreeBytes(), (1000u * 10 * 3 * 4 + 4095) / 4096 * 4096);
  CUDA_ARRAY3D_DESCRIPTOR told{};
  ASSERT_OK(cuArray3DGetDescriptor_v2(&told, array));
  EXPECT_EQ(told.Width, 1000u);
  EXPECT_EQ(told.Depth, 3u);
  CUDA_ARRAY_DESCRIPTOR flat{};
  ASSERT_OK(cuArrayGetDescriptor_v2(&flat, array));
  EXPECT_EQ(flat.Height, 10u);
  EXPECT_OK(cuArrayDestroy(array));
  EXPECT_EQ(FreeBytes(), before);
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuArrayDestroy(array));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuArray3DGetDescriptor_v2(&told, array));
  const auto too_large = Shape(16384, 16384, 64);
  EXPECT_CU(CUDA_ERROR_OUT_OF_MEMORY, cuArray3DCreate_v2(&array, &too_large));
  EXPECT_EQ(FreeBytes(), before);
}

TEST_F(ArrayTest, RefusesWhatNoDeviceHas) {
  CUarray array = nullptr;
  const auto refused = [&](const CUDA_ARRAY3D_DESCRIPTOR& shape) {
    return cuArray3DCreate_v2(&array, &shape) == CUDA_ERROR_INVALID_VALUE;
  };
  EXPECT_TRUE(refused(Shape(0, 0, 0)));
  EXPECT_TRUE(refused(Shape(131073, 0, 0)));
  EXPECT_TRUE(refused(Shape(8, 65537, 0)));
  EXPECT_TRUE(refused(Shape(8, 0, 8)));
  EXPECT_TRUE(refused(Shape(~size_t{0}, ~size_t{0}, ~size_t{0})));
  EXPECT_TRUE(refused(Shape(size_t{1} << 62, 4, 4)));
  EXPECT_TRUE(refused(Shape(8, 8, 0, CUDA_ARRAY3D_LAYERED)));
  EXPECT_TRUE(refused(Shape(8, 8, 2049, CUDA_ARRAY3D_LAYERED)));
  EXPECT_TRUE(refused(Shape(8, 8, 5, CUDA_ARRAY3D_CUBEMAP)));
  EXPECT_TRUE(refused(Shape(8, 4, 6, CUDA_ARRAY3D_CUBEMAP)));
  EXPECT_TRUE(refused(Shape(8, 8, 13, CUDA_ARRAY3D_CUBEMAP | CUDA_ARRAY3D_LAYERED)));
  EXPECT_TRUE(refused(Shape(8, 8, 0, 0x80000000u)));
  for (const unsigned channels : {0u, 3u, 5u, ~0u}) {
    auto shape = Shape(8, 8, 0);
    shape.NumChannels = channels;
    EXPECT_TRUE(refused(shape));
  }
  auto shape = Shape(8, 8, 0);
  shape.Format = static_cast<CUarray_format>(0x7777);
  EXPECT_TRUE(refused(shape));
  EXPECT_EQ(array, nullptr);
  const auto sparse = Shape(8, 8, 0, CUDA_ARRAY3D_SPARSE);
  EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuArray3DCreate_v2(&array, &sparse));
}

TEST_F(ArrayTest, CopiesBoxesInEveryDirection) {
  const std::vector<uint32_t> in = Numbers(6 * 5 * 4);
  std::vector<uint32_t> out(in.size());
  CUarray first = Make(Shape(6, 5, 4)), second = Make(Shape(6, 5, 4));
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = in.data();
  copy.srcPitch = 24;
  copy.srcHeight = 5;
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstArray = first;
  copy.WidthInBytes = 24;
  copy.Height = 5;
  copy.Depth = 4;
  ASSERT_OK(cuMemcpy3D_v2(&copy));
  CUDA_MEMCPY3D move{};
  move.srcMemoryType = move.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  move.srcArray = first;
  move.dstArray = second;
  move.srcXInBytes = 4;
  move.srcY = 1;
  move.srcZ = 1;
  move.WidthInBytes = 12;
  move.Height = 3;
  move.Depth = 2;
  ASSERT_OK(cuMemcpy3D_v2(&move));
  CUDA_MEMCPY3D back{};
  back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  back.srcArray = second;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = out.data();
  back.dstPitch = 24;
  back.dstHeight = 5;
  back.WidthInBytes = 24;
  back.Height = 5;
  back.Depth = 4;
  ASSERT_OK(cuMemcpy3DAsync_v2(&back, nullptr));
  ASSERT_OK(cuCtxSynchronize());
  for (size_t z = 0; z < 4; ++z) {
    for (size_t y = 0; y < 5; ++y) {
      for (size_t x = 0; x < 6; ++x) {
        const bool moved = x < 3 && y < 3 && z < 2;
        EXPECT_EQ(out[(z * 5 + y) * 6 + x], moved ? in[((z + 1) * 5 + y + 1) * 6 + x + 1] : 0u);
      }
    }
  }
  move.srcXInBytes = 16;  // Beyond the row's end.
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&move));
  move.srcXInBytes = ~size_t{0} - 3;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&move));
  move.srcXInBytes = 0;
  move.srcZ = 3;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&move));
  move.srcZ = 0;
  move.srcArray = reinterpret_cast<CUarray>(uint64_t{0x0b00000100000063});
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuMemcpy3D_v2(&move));
}

TEST_F(ArrayTest, CopiesRows) {
  const std::vector<uint32_t> in = Numbers(64);
  std::vector<uint32_t> out(64);
  CUarray first = Make(Shape(64, 0, 0)), second = Make(Shape(64, 0, 0));
  CUdeviceptr memory = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 256));
  ASSERT_OK(cuMemcpyHtoA_v2(first, 0, in.data(), 256));
  ASSERT_OK(cuMemcpyAtoD_v2(memory, first, 64, 192));
  ASSERT_OK(cuMemcpyDtoA_v2(second, 0, memory, 192));
  ASSERT_OK(cuMemcpyAtoA_v2(second, 192, first, 0, 64));
  ASSERT_OK(cuMemcpyAtoH_v2(out.data(), second, 0, 256));
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(out[i], in[(i + 16) % 64]);
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyAtoH_v2(out.data(), second, 4, 256));
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA_v2(first, 0, in.data(), ~size_t{0}));
}

TEST_F(ArrayTest, TexturesTellWhatTheyAreAndAreFoundOnlyWhileTheyLive) {
  CUarray array = Make(Shape(16, 8, 0));
  const CUDA_RESOURCE_DESC resource = Of(array);
  CUDA_TEXTURE_DESC sampler{};
  sampler.flags = CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_READ_AS_INTEGER;
  sampler.addressMode[0] = CU_TR_ADDRESS_MODE_MIRROR;
  CUtexObject texture = 0;
  ASSERT_OK(cuTexObjectCreate(&texture, &resource, &sampler, nullptr));
  TextureState state;
  ASSERT_TRUE(TextureTable::Textures().Read(texture, &state));
  EXPECT_EQ(state.width, 16u);
  EXPECT_EQ(state.address[0], AddressMode::kMirror);
  EXPECT_EQ(state.address[1], AddressMode::kWrap);
  EXPECT_TRUE(state.normalized_coordinates);
  EXPECT_FALSE(TextureTable::Surfaces().Read(texture, &state));
  EXPECT_FALSE(TextureTable::Textures().Read(texture + (uint64_t{1} << 32), &state));
  for (const uint64_t forged : {uint64_t{0}, ~uint64_t{0}, uint64_t{1}, uint64_t{texture + 1}}) {
    EXPECT_FALSE(TextureTable::Textures().Read(forged, &state));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuTexObjectDestroy(forged));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuSurfObjectDestroy(forged));
  }
  CUDA_RESOURCE_DESC told{};
  ASSERT_OK(cuTexObjectGetResourceDesc(&told, texture));
  EXPECT_EQ(told.res.array.hArray, array);
  CUDA_TEXTURE_DESC told_sampler{};
  ASSERT_OK(cuTexObjectGetTextureDesc(&told_sampler, texture));
  EXPECT_EQ(told_sampler.flags, sampler.flags);
  EXPECT_OK(cuTexObjectDestroy(texture));
  EXPECT_FALSE(TextureTable::Textures().Read(texture, &state));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuTexObjectDestroy(texture));
  CUtexObject next = 0;
  ASSERT_OK(cuTexObjectCreate(&next, &resource, &sampler, nullptr));
  EXPECT_NE(next, texture);
  CUsurfObject surface = 0;
  EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuSurfObjectCreate(&surface, &resource));
}

TEST_F(ArrayTest, RefusesTexturesOfMemoryThatIsNotThere) {
  CUdeviceptr memory = 0;
  ASSERT_OK(cuMemAlloc_v2(&memory, 8192));
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_LINEAR;
  resource.res.linear = {memory, CU_AD_FORMAT_FLOAT, 4, 8192};
  const CUDA_TEXTURE_DESC sampler{};
  CUtexObject texture = 0;
  const auto refused = [&] {
    return cuTexObjectCreate(&texture, &resource, &sampler, nullptr) == CUDA_ERROR_INVALID_VALUE;
  };
  EXPECT_OK(cuTexObjectCreate(&texture, &resource, &sampler, nullptr));
  resource.res.linear.sizeInBytes = 8193 + 4096;
  EXPECT_TRUE(refused());
  resource.res.linear.sizeInBytes = ~size_t{0};
  EXPECT_TRUE(refused());
  resource.res.linear = {memory + 4, CU_AD_FORMAT_FLOAT, 4, 64};
  EXPECT_TRUE(refused());
  resource.res.linear = {memory, CU_AD_FORMAT_FLOAT, 3, 64};
  EXPECT_TRUE(refused());
  resource.resType = CU_RESOURCE_TYPE_PITCH2D;
  resource.res.pitch2D = {memory, CU_AD_FORMAT_FLOAT, 1, 32, 16, 512};
  EXPECT_OK(cuTexObjectCreate(&texture, &resource, &sampler, nullptr));
  resource.res.pitch2D.height = 17;
  EXPECT_TRUE(refused());
  resource.res.pitch2D = {memory, CU_AD_FORMAT_FLOAT, 1, 200, 2, 512};
  EXPECT_TRUE(refused());
  resource.res.pitch2D = {memory, CU_AD_FORMAT_FLOAT, 1, size_t{1} << 62, 2, size_t{1} << 63};
  EXPECT_TRUE(refused());
  resource.resType = static_cast<CUresourcetype>(77);
  EXPECT_TRUE(refused());
  resource.resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY;
  EXPECT_CU(CUDA_ERROR_NOT_SUPPORTED, cuTexObjectCreate(&texture, &resource, &sampler, nullptr));
}

TEST_F(ArrayTest, GoWithTheirContext) {
  CUcontext other = nullptr;
  ASSERT_OK(cuCtxCreate_v2(&other, 0, 0));
  CUarray array = Make(Shape(64, 64, 0, CUDA_ARRAY3D_SURFACE_LDST));
  const CUDA_RESOURCE_DESC resource = Of(array);
  const CUDA_TEXTURE_DESC sampler{};
  CUtexObject texture = 0;
  CUsurfObject surface = 0;
  ASSERT_OK(cuTexObjectCreate(&texture, &resource, &sampler, nullptr));
  ASSERT_OK(cuSurfObjectCreate(&surface, &resource));
  ASSERT_OK(cuCtxDestroy_v2(other));
  ASSERT_OK(cuCtxSetCurrent(context_));
  TextureState state;
  EXPECT_FALSE(TextureTable::Textures().Read(texture, &state));
  EXPECT_FALSE(TextureTable::Surfaces().Read(surface, &state));
  EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuArrayDestroy(array));
  EXPECT_EQ(FreeBytes(), kDeviceBytes);
}

// Kernels may read a number while it is withdrawn and its place given to another: they see what was
// published under their number or nothing, never a mixture.
TEST(TextureTableTest, ReadersNeverSeeMixtures) {
  TextureTable table;
  const auto handle_of = [](uint64_t number) { return number << 32 | 5; };
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> current{0}, mixed{0}, seen{0};
  std::thread reader([&] {
    while (!stop) {
      const uint64_t number = current;
      TextureState state;
      if (!table.Read(handle_of(number), &state)) continue;
      ++seen;
      if (state.base != number || state.pitch != number || state.width != number) ++mixed;
    }
  });
  for (uint32_t i = 1; i < 100000 || (seen == 0 && i < 0xffffff); ++i) {
    TextureState state;
    state.base = state.pitch = i;
    state.width = i;
    ASSERT_TRUE(table.Publish(handle_of(i), state));
    current = i;
    if (i % 3 == 0) table.Withdraw(handle_of(i));
    if (i % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  reader.join();
  EXPECT_EQ(mixed, 0u);
  EXPECT_GT(seen, 0u);
  EXPECT_FALSE(table.Publish(uint64_t{1} << 32 | 0xffffffff, TextureState{}));
  EXPECT_FALSE(table.Publish(0, TextureState{}));
}

}  // namespace
}  // namespace farwarp::softgpu
