// Copies of rectangles and boxes: pitched memory, parts of volumes, arrays, and fills, each against the same on the host.
#include <cstring>
#include <vector>

#include "common.h"

__global__ void Number(char* base, size_t pitch, int width, int height, int depth) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < width * height * depth; i += gridDim.x * blockDim.x) {
    const int x = i % width, y = i / width % height, z = i / width / height;
    *reinterpret_cast<int*>(base + (static_cast<size_t>(z) * height + y) * pitch + x * sizeof(int)) = x + 100 * y + 10000 * z;
  }
}

int main() {
  const int width = 37, height = 21, depth = 9;
  bool ok = true;

  // Pitched rectangles.
  char* pitched;
  size_t pitch = 0;
  CHECK(cudaMallocPitch(reinterpret_cast<void**>(&pitched), &pitch, width * sizeof(int), height));
  ok = ok && pitch >= width * sizeof(int) && pitch % 32 == 0;
  Number<<<4, 64>>>(pitched, pitch, width, height, 1);
  std::vector<int> dense(width * height), part(10 * 8);
  CHECK(cudaMemcpy2D(dense.data(), width * sizeof(int), pitched, pitch, width * sizeof(int), height, cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy2D(part.data(), 10 * sizeof(int), pitched + 5 * pitch + 12, pitch, 10 * sizeof(int), 8, cudaMemcpyDeviceToHost));
  for (int i = 0; i < width * height; ++i) ok = ok && dense[i] == i % width + 100 * (i / width);
  for (int i = 0; i < 80; ++i) ok = ok && part[i] == 3 + i % 10 + 100 * (5 + i / 10);
  CHECK(cudaMemset2D(pitched + 2 * pitch, pitch, 0x11, 6 * sizeof(int), 3));
  CHECK(cudaMemcpy2D(dense.data(), width * sizeof(int), pitched, pitch, width * sizeof(int), height, cudaMemcpyDeviceToHost));
  for (int i = 0; i < width * height; ++i) {
    const int x = i % width, y = i / width;
    ok = ok && dense[i] == (x < 6 && y >= 2 && y < 5 ? 0x11111111 : x + 100 * y);
  }
  std::printf("rectangles %016llx %s\n", (unsigned long long)Checksum(dense.data(), dense.size() * sizeof(int)), ok ? "ok" : "wrong");

  // A box out of a volume into another, at offsets.
  const cudaExtent extent = make_cudaExtent(width * sizeof(int), height, depth);
  cudaPitchedPtr volume, target;
  CHECK(cudaMalloc3D(&volume, extent));
  CHECK(cudaMalloc3D(&target, extent));
  Number<<<8, 64>>>(static_cast<char*>(volume.ptr), volume.pitch, width, height, depth);
  CHECK(cudaMemset3D(target, 0, extent));
  cudaMemcpy3DParms copy = {};
  copy.srcPtr = volume;
  copy.srcPos = make_cudaPos(4 * sizeof(int), 3, 2);
  copy.dstPtr = target;
  copy.dstPos = make_cudaPos(8 * sizeof(int), 0, 1);
  copy.extent = make_cudaExtent(20 * sizeof(int), 11, 6);
  copy.kind = cudaMemcpyDeviceToDevice;
  CHECK(cudaMemcpy3D(&copy));
  std::vector<int> host(width * height * depth, -1);
  cudaMemcpy3DParms back = {};
  back.srcPtr = target;
  back.dstPtr = make_cudaPitchedPtr(host.data(), width * sizeof(int), width, height);
  back.extent = extent;
  back.kind = cudaMemcpyDeviceToHost;
  CHECK(cudaMemcpy3DAsync(&back, nullptr));
  CHECK(cudaStreamSynchronize(nullptr));
  for (int i = 0; i < width * height * depth; ++i) {
    const int x = i % width - 8, y = i / width % height, z = i / width / height - 1;
    const bool inside = x >= 0 && x < 20 && y < 11 && z >= 0 && z < 6;
    ok = ok && host[i] == (inside ? x + 4 + 100 * (y + 3) + 10000 * (z + 2) : 0);
  }
  std::printf("boxes %016llx %s\n", (unsigned long long)Checksum(host.data(), host.size() * sizeof(int)), ok ? "ok" : "wrong");

  // Arrays: rows to and from linear memory, a box of a three-dimensional one.
  const cudaChannelFormatDesc format = cudaCreateChannelDesc<int>();
  cudaArray_t flat, deep;
  CHECK(cudaMallocArray(&flat, &format, width, height));
  CHECK(cudaMalloc3DArray(&deep, &format, make_cudaExtent(width, height, depth), 0));
  CHECK(cudaMemcpy2DToArray(flat, 0, 0, dense.data(), width * sizeof(int), width * sizeof(int), height, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy2DToArray(flat, 8, 1, pitched + 7 * pitch, pitch, 5 * sizeof(int), 2, cudaMemcpyDeviceToDevice));
  std::vector<int> flat_back(width * height);
  CHECK(cudaMemcpy2DFromArray(flat_back.data(), width * sizeof(int), flat, 0, 0, width * sizeof(int), height, cudaMemcpyDeviceToHost));
  for (int i = 0; i < width * height; ++i) {
    const int x = i % width - 2, y = i / width - 1;
    ok = ok && flat_back[i] == (x >= 0 && x < 5 && y >= 0 && y < 2 ? x + 100 * (y + 7) : dense[i]);
  }
  cudaMemcpy3DParms up = {};
  up.srcPtr = make_cudaPitchedPtr(host.data(), width * sizeof(int), width, height);
  up.dstArray = deep;
  up.extent = make_cudaExtent(width, height, depth);
  up.kind = cudaMemcpyHostToDevice;
  CHECK(cudaMemcpy3D(&up));
  std::vector<int> cut(5 * 4 * 3);
  cudaMemcpy3DParms down = {};
  down.srcArray = deep;
  down.srcPos = make_cudaPos(10, 2, 3);
  down.dstPtr = make_cudaPitchedPtr(cut.data(), 5 * sizeof(int), 5, 4);
  down.extent = make_cudaExtent(5, 4, 3);
  down.kind = cudaMemcpyDeviceToHost;
  CHECK(cudaMemcpy3D(&down));
  for (int i = 0; i < 60; ++i) ok = ok && cut[i] == host[((3 + i / 20) * height + 2 + i / 5 % 4) * width + 10 + i % 5];
  cudaChannelFormatDesc read_format;
  cudaExtent read_extent;
  unsigned flags = 1;
  CHECK(cudaArrayGetInfo(&read_format, &read_extent, &flags, deep));
  ok = ok && read_format.x == 32 && read_format.f == cudaChannelFormatKindSigned && read_extent.depth == depth && flags == 0;
  std::printf("arrays %016llx %s\n", (unsigned long long)Checksum(cut.data(), cut.size() * sizeof(int)), ok ? "ok" : "wrong");

  const cudaError_t too_wide = cudaMemcpy2D(dense.data(), 16, pitched, pitch, 32, 2, cudaMemcpyDeviceToHost);
  std::printf("wider than its pitch: %s\n", cudaGetErrorName(too_wide));
  ok = ok && too_wide == cudaErrorInvalidPitchValue;
  CHECK(cudaFreeArray(flat));
  CHECK(cudaFreeArray(deep));
  CHECK(cudaFree(pitched));
  CHECK(cudaFree(volume.ptr));
  CHECK(cudaFree(target.ptr));
  return Finish("copies3d", ok);
}
