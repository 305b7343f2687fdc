// CUDA arrays, textures and surfaces through client and server: bytes in every direction, what they
// cost the lease, what needs a round trip, and what is refused.
#include <numeric>
#include <vector>

#include "tests/remoting/soft_loop.h"

namespace farwarp::tests {
namespace {

using RemoteArrays = SoftLoop;
constexpr std::size_t kMiB = std::size_t{1} << 20;

CUDA_ARRAY3D_DESCRIPTOR Shape(std::size_t width, std::size_t height, std::size_t depth) {
  CUDA_ARRAY3D_DESCRIPTOR shape{};
  shape.Width = width;
  shape.Height = height;
  shape.Depth = depth;
  shape.Format = CU_AD_FORMAT_UNSIGNED_INT32;
  shape.NumChannels = 1;
  shape.Flags = CUDA_ARRAY3D_SURFACE_LDST;
  return shape;
}

CUarray Make(const CUDA_ARRAY3D_DESCRIPTOR& shape) {
  CUarray array = nullptr;
  EXPECT_EQ(cu::cuArray3DCreate_v2(&array, &shape), CUDA_SUCCESS);
  return array;
}

CUDA_MEMCPY3D ToArray(CUarray array, const std::vector<std::uint32_t>& data, std::size_t width,
                      std::size_t height, std::size_t depth) {
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = data.data();
  copy.srcPitch = width * 4;
  copy.srcHeight = height;
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstArray = array;
  copy.WidthInBytes = width * 4;
  copy.Height = height;
  copy.Depth = depth;
  return copy;
}
CUDA_MEMCPY3D FromArray(CUarray array, std::vector<std::uint32_t>* data, std::size_t width,
                        std::size_t height, std::size_t depth) {
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.srcArray = array;
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = data->data();
  copy.dstPitch = width * 4;
  copy.dstHeight = height;
  copy.WidthInBytes = width * 4;
  copy.Height = height;
  copy.Depth = depth;
  return copy;
}

std::vector<std::uint32_t> Numbers(std::size_t count) {
  std::vector<std::uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 1u);
  return numbers;
}

TEST_F(RemoteArrays, BytesComeBackAsTheyWent) {
  CUarray first = Make(Shape(600, 50, 7)), second = Make(Shape(600, 50, 7));
  const auto in = Numbers(600 * 50 * 7);
  std::vector<std::uint32_t> out(in.size());
  const CUDA_MEMCPY3D there = ToArray(first, in, 600, 50, 7);
  ASSERT_EQ(cu::cuMemcpy3DAsync_v2(&there, stream_), CUDA_SUCCESS);
  CUDA_MEMCPY3D between{};
  between.srcMemoryType = between.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  between.srcArray = first;
  between.dstArray = second;
  between.WidthInBytes = 2400;
  between.Height = 50;
  between.Depth = 7;
  ASSERT_EQ(cu::cuMemcpy3DAsync_v2(&between, stream_), CUDA_SUCCESS);
  const CUDA_MEMCPY3D back = FromArray(second, &out, 600, 50, 7);
  ASSERT_EQ(cu::cuMemcpy3DAsync_v2(&back, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(in, out);
  std::fill(out.begin(), out.end(), 0);
  ASSERT_EQ(cu::cuMemcpy3D_v2(&back), CUDA_SUCCESS);
  EXPECT_EQ(in, out);
}

TEST_F(RemoteArrays, ASynchronousCopyIsThereForStreamsBesideTheLegacyOne) {
  constexpr std::size_t kWidth = 2048, kHeight = 1024;  // As much as is staged at once.
  CUarray array = Make(Shape(kWidth, kHeight, 0));
  std::vector<std::uint32_t> in(kWidth * kHeight), row(kWidth);
  CUDA_MEMCPY3D last_row = FromArray(array, &row, kWidth, 1, 1);
  last_row.srcY = kHeight - 1;
  for (std::uint32_t round = 1; round <= 10; ++round) {
    std::fill(in.begin(), in.end(), round);
    const CUDA_MEMCPY3D there = ToArray(array, in, kWidth, kHeight, 1);
    ASSERT_EQ(cu::cuMemcpy3D_v2(&there), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuMemcpy3DAsync_v2(&last_row, stream_), CUDA_SUCCESS);
    ASSERT_EQ(cu::cuStreamSynchronize(stream_), CUDA_SUCCESS);
    ASSERT_EQ(row, std::vector<std::uint32_t>(kWidth, round));
  }
  EXPECT_EQ(cu::cuArrayDestroy(array), CUDA_SUCCESS);
}

TEST_F(RemoteArrays, RowsGoByDeviceMemoryToo) {
  CUarray array = Make(Shape(64, 0, 0));
  const auto in = Numbers(64);
  std::vector<std::uint32_t> out(64);
  CUdeviceptr memory = 0;
  ASSERT_EQ(cu::cuMemAlloc_v2(&memory, 256), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyHtoA_v2(array, 0, in.data(), 256), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyAtoD_v2(memory, array, 4, 252), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyDtoA_v2(array, 0, memory, 252), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuMemcpyAtoH_v2(out.data(), array, 0, 256), CUDA_SUCCESS);
  for (std::size_t i = 0; i < 63; ++i) EXPECT_EQ(out[i], in[i + 1]);
  EXPECT_EQ(cu::cuMemcpyAtoH_v2(out.data(), array, 4, 256), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyAtoD_v2(memory, array, 0, ~std::size_t{0}), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cu::cuMemcpyAtoD_v2(memory + 4, array, 0, 256), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(RemoteArrays, CountAgainstTheLease) {
  std::size_t before = 0, after = 0, total = 0;
  ASSERT_EQ(cu::cuMemGetInfo_v2(&before, &total), CUDA_SUCCESS);
  CUarray large = Make(Shape(2048, 5120, 0));  // 40 of 64 MiB.
  ASSERT_EQ(cu::cuMemGetInfo_v2(&after, &total), CUDA_SUCCESS);
  EXPECT_EQ(before - after, 40 * kMiB);
  CUarray none = nullptr;
  const auto shape = Shape(2048, 5120, 0);
  EXPECT_EQ(cu::cuArray3DCreate_v2(&none, &shape), CUDA_ERROR_OUT_OF_MEMORY);
  CUdeviceptr memory = 0;
  EXPECT_EQ(cu::cuMemAlloc_v2(&memory, 32 * kMiB), CUDA_ERROR_OUT_OF_MEMORY);
  ASSERT_EQ(cu::cuArrayDestroy(large), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemAlloc_v2(&memory, 32 * kMiB), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemFree_v2(memory), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuArrayDestroy(large), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_LE(loop_->quota().Used(0), 64 * kMiB);
}

TEST_F(RemoteArrays, RefusesWithoutHarm) {
  CUarray array = nullptr;
  for (const auto& shape : {Shape(0, 0, 0), Shape(~std::size_t{0}, ~std::size_t{0}, 2),
                            Shape(std::size_t{1} << 40, 1, 1), Shape(8, 0, 8)}) {
    EXPECT_EQ(cu::cuArray3DCreate_v2(&array, &shape), CUDA_ERROR_INVALID_VALUE);
  }
  EXPECT_EQ(array, nullptr);
  EXPECT_EQ(cu::cuArrayDestroy(reinterpret_cast<CUarray>(std::uintptr_t{0x1234})),
            CUDA_ERROR_INVALID_HANDLE);
  array = Make(Shape(16, 16, 0));
  const auto in = Numbers(16 * 17);
  CUDA_MEMCPY3D copy = ToArray(array, in, 16, 17, 1);
  EXPECT_EQ(cu::cuMemcpy3D_v2(&copy), CUDA_ERROR_INVALID_VALUE);
  copy.Height = 16;
  copy.dstZ = 1;
  EXPECT_EQ(cu::cuMemcpy3D_v2(&copy), CUDA_ERROR_INVALID_VALUE);
  copy.dstZ = 0;
  EXPECT_EQ(cu::cuMemcpy3D_v2(&copy), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuArrayDestroy(array), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuMemcpy3D_v2(&copy), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(RemoteArrays, TexturesAndSurfacesAreTheContexts) {
  CUarray array = Make(Shape(16, 16, 0));
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_ARRAY;
  resource.res.array.hArray = array;
  CUDA_TEXTURE_DESC sampler{};
  sampler.flags = CU_TRSF_READ_AS_INTEGER;
  sampler.borderColor[2] = 0.5f;
  loop_->TakeRoundTrips();
  CUtexObject texture = 0;
  CUsurfObject surface = 0;
  ASSERT_EQ(cu::cuTexObjectCreate(&texture, &resource, &sampler, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuSurfObjectCreate(&surface, &resource), CUDA_SUCCESS);
  EXPECT_EQ(loop_->TakeRoundTrips(), 2u);
  CUDA_RESOURCE_DESC told{};
  CUDA_TEXTURE_DESC told_sampler{};
  ASSERT_EQ(cu::cuTexObjectGetResourceDesc(&told, texture), CUDA_SUCCESS);
  EXPECT_EQ(told.res.array.hArray, array);
  ASSERT_EQ(cu::cuTexObjectGetTextureDesc(&told_sampler, texture), CUDA_SUCCESS);
  EXPECT_EQ(told_sampler.borderColor[2], 0.5f);
  ASSERT_EQ(cu::cuSurfObjectGetResourceDesc(&told, surface), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuTexObjectDestroy(texture), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuTexObjectDestroy(texture), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cu::cuSurfObjectDestroy(texture), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cu::cuSurfObjectDestroy(surface), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuTexObjectGetTextureDesc(&told_sampler, texture), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(loop_->TakeRoundTrips(), 0u);
  resource.resType = CU_RESOURCE_TYPE_LINEAR;
  resource.res.linear = {0x1000, CU_AD_FORMAT_FLOAT, 1, 64};
  EXPECT_EQ(cu::cuTexObjectCreate(&texture, &resource, &sampler, nullptr),
            CUDA_ERROR_INVALID_VALUE);
}

TEST_F(RemoteArrays, EndWithTheirContext) {
  CUcontext other = nullptr;
  ASSERT_EQ(cu::cuCtxCreate_v2(&other, 0, 0), CUDA_SUCCESS);
  CUarray array = Make(Shape(2048, 5120, 0));
  ASSERT_EQ(cu::cuCtxDestroy_v2(other), CUDA_SUCCESS);
  ASSERT_EQ(cu::cuCtxSetCurrent(context_), CUDA_SUCCESS);
  EXPECT_EQ(cu::cuArrayDestroy(array), CUDA_ERROR_INVALID_HANDLE);
  CUarray again = Make(Shape(2048, 5120, 0));
  EXPECT_EQ(cu::cuArrayDestroy(again), CUDA_SUCCESS);
}

}  // namespace
}  // namespace farwarp::tests
