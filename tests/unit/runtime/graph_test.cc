// Graph nodes and textures: parameters arrive at the driver in its own form.
#include <vector>

#include "tests/unit/runtime/fixture.h"

namespace {

TEST_F(RuntimeTest, KernelNodesCarryTheDriversKernel) {
  static const char stub = 0, unknown = 0;
  driver_->set_kernel("node", nullptr);
  FakeModule module;
  module.Function(&stub, "node");
  cudaGraphNode_t node = nullptr;
  cudaKernelNodeParams params = {};
  int value = 3;
  void* arguments[] = {&value};
  params.func = const_cast<char*>(&stub);
  params.gridDim = Dim(2, 3, 4);
  params.blockDim = Dim(5);
  params.sharedMemBytes = 6;
  params.kernelParams = arguments;
  ASSERT_EQ(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, &params), cudaSuccess);
  const CUDA_KERNEL_NODE_PARAMS sent = driver_->last_kernel_node();
  EXPECT_EQ(sent.func, nullptr);
  EXPECT_NE(sent.kern, nullptr);
  EXPECT_EQ(sent.gridDimX * 100 + sent.gridDimY * 10 + sent.gridDimZ, 234u);
  EXPECT_EQ(sent.blockDimX, 5u);
  EXPECT_EQ(sent.sharedMemBytes, 6u);
  EXPECT_EQ(sent.kernelParams, arguments);

  // What comes back may be used again.
  cudaKernelNodeParams read = {};
  ASSERT_EQ(cudaGraphKernelNodeGetParams(node, &read), cudaSuccess);
  EXPECT_EQ(read.gridDim.z, 4u);
  EXPECT_EQ(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, &read), cudaSuccess);

  params.func = const_cast<char*>(&unknown);
  EXPECT_EQ(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, &params),
            cudaErrorInvalidDeviceFunction);
  params.func = const_cast<char*>(&stub);
  params.blockDim = Dim(0);
  EXPECT_EQ(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, &params),
            cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGraphAddKernelNode(&node, nullptr, nullptr, 0, nullptr), cudaErrorInvalidValue);
}

TEST_F(RuntimeTest, LinearCopiesBecomeOneRow) {
  cudaGraphNode_t node = nullptr;
  char host[64];
  void* device = nullptr;
  ASSERT_EQ(cudaMalloc(&device, 64), cudaSuccess);
  ASSERT_EQ(cudaGraphAddMemcpyNode1D(&node, nullptr, nullptr, 0, device, host, 48,
                                     cudaMemcpyHostToDevice),
            cudaSuccess);
  const CUDA_MEMCPY3D copy = driver_->last_copy_3d();
  EXPECT_EQ(copy.srcMemoryType, CU_MEMORYTYPE_HOST);
  EXPECT_EQ(copy.srcHost, host);
  EXPECT_EQ(copy.dstMemoryType, CU_MEMORYTYPE_DEVICE);
  EXPECT_EQ(copy.dstDevice, reinterpret_cast<uintptr_t>(device));
  EXPECT_EQ(copy.WidthInBytes, 48u);
  EXPECT_EQ(copy.Height * copy.Depth, 1u);
  EXPECT_EQ(cudaGraphAddMemcpyNode1D(&node, nullptr, nullptr, 0, device, host, 48,
                                     static_cast<cudaMemcpyKind>(8)),
            cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
}

TEST_F(RuntimeTest, TexturesOfIntegersAreReadAsTheyAre) {
  void* device = nullptr;
  ASSERT_EQ(cudaMalloc(&device, 256), cudaSuccess);
  cudaResourceDesc resource = {};
  resource.resType = cudaResourceTypePitch2D;
  resource.res.pitch2D.devPtr = device;
  resource.res.pitch2D.desc = cudaCreateChannelDesc(16, 16, 0, 0, cudaChannelFormatKindUnsigned);
  resource.res.pitch2D.width = 8;
  resource.res.pitch2D.height = 4;
  resource.res.pitch2D.pitchInBytes = 64;
  cudaTextureDesc texture = {};
  texture.addressMode[1] = cudaAddressModeMirror;
  texture.readMode = cudaReadModeElementType;
  texture.normalizedCoords = 1;
  texture.borderColor[2] = 0.5f;
  cudaTextureObject_t object = 0;
  ASSERT_EQ(cudaCreateTextureObject(&object, &resource, &texture, nullptr), cudaSuccess);

  const FakeTexture sent = driver_->last_texture();
  EXPECT_EQ(sent.resource.resType, CU_RESOURCE_TYPE_PITCH2D);
  EXPECT_EQ(sent.resource.res.pitch2D.format, CU_AD_FORMAT_UNSIGNED_INT16);
  EXPECT_EQ(sent.resource.res.pitch2D.numChannels, 2u);
  EXPECT_EQ(sent.resource.res.pitch2D.pitchInBytes, 64u);
  EXPECT_EQ(sent.texture.flags,
            unsigned{CU_TRSF_READ_AS_INTEGER} | unsigned{CU_TRSF_NORMALIZED_COORDINATES});
  EXPECT_EQ(sent.texture.addressMode[1], CU_TR_ADDRESS_MODE_MIRROR);
  EXPECT_EQ(sent.texture.borderColor[2], 0.5f);

  // Floats need no flag, and mixed channels are no format.
  resource.res.pitch2D.desc = cudaCreateChannelDesc(32, 0, 0, 0, cudaChannelFormatKindFloat);
  ASSERT_EQ(cudaCreateTextureObject(&object, &resource, &texture, nullptr), cudaSuccess);
  EXPECT_EQ(driver_->last_texture().texture.flags, unsigned{CU_TRSF_NORMALIZED_COORDINATES});
  resource.res.pitch2D.desc = cudaCreateChannelDesc(32, 16, 0, 0, cudaChannelFormatKindFloat);
  EXPECT_EQ(cudaCreateTextureObject(&object, &resource, &texture, nullptr),
            cudaErrorInvalidChannelDescriptor);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
}

TEST_F(RuntimeTest, RunsOfBytesInArraysAreCutIntoRows) {
  // The fake array is 64 elements of 16 bytes wide: 1024 bytes per row.
  std::vector<char> host(4096);
  const auto array = reinterpret_cast<cudaArray_t>(host.data());
  driver_->fail("cuMemcpy2DUnaligned_v2", CUDA_SUCCESS);
  driver_->clear_calls();
  driver_->record_copies_2d_only(true);
  ASSERT_EQ(cudaMemcpyToArray(array, 1000, 2, host.data(), 24 + 2048 + 100, cudaMemcpyHostToDevice),
            cudaSuccess);
  driver_->record_copies_2d_only(false);
  EXPECT_EQ(Calls("cuMemcpy2DUnaligned_v2"), 3);
  // The tail: what is left after the rest of row 2 and two whole rows.
  const CUDA_MEMCPY2D tail = driver_->last_copy_2d();
  EXPECT_EQ(tail.dstXInBytes, 0u);
  EXPECT_EQ(tail.dstY, 5u);
  EXPECT_EQ(tail.WidthInBytes, 100u);
  EXPECT_EQ(tail.Height, 1u);
  EXPECT_EQ(static_cast<const char*>(tail.srcHost) - host.data(), 24 + 2048);
  EXPECT_EQ(cudaMemcpyToArray(array, 1025, 0, host.data(), 1, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
}

}  // namespace
