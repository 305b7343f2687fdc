// Moves and fills memory in every way the runtime offers, in one, two and three dimensions.
#include <cstring>
#include <vector>

#include "common.h"

static bool all_ok = true;

static void Report(const char* what, bool ok) {
  std::printf("memoryWays: %s: %s\n", what, ok ? "right" : "wrong");
  all_ok = all_ok && ok;
}

static std::vector<unsigned char> Bytes(size_t count, uint32_t seed) {
  std::vector<unsigned char> bytes(count);
  Random random(seed);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random.Next());
  return bytes;
}

static void OneDimension() {
  const size_t bytes = 100001;
  const std::vector<unsigned char> data = Bytes(bytes, 12);
  std::vector<unsigned char> back(bytes);
  unsigned char *a, *b;
  CHECK(cudaMalloc(&a, bytes));
  CHECK(cudaMalloc(&b, bytes));
  CHECK(cudaMemcpy(a, data.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(b, a, bytes, cudaMemcpyDeviceToDevice));
  CHECK(cudaMemcpy(back.data(), b, bytes, cudaMemcpyDeviceToHost));
  Report("to, between and from", back == data);

  // The runtime finds the direction by the pointers.
  std::fill(back.begin(), back.end(), 0);
  CHECK(cudaMemset(b, 0, bytes));
  CHECK(cudaMemcpy(b, data.data(), bytes, cudaMemcpyDefault));
  CHECK(cudaMemcpy(a, b, bytes, cudaMemcpyDefault));
  CHECK(cudaMemcpy(back.data(), a, bytes, cudaMemcpyDefault));
  Report("default direction", back == data);

  // Odd offsets and lengths.
  CHECK(cudaMemset(a + 3, 0x5a, 77));
  CHECK(cudaMemcpy(a + 1001, data.data() + 7, 333, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(back.data(), a, bytes, cudaMemcpyDeviceToHost));
  std::vector<unsigned char> expected = data;
  std::memset(expected.data() + 3, 0x5a, 77);
  std::memcpy(expected.data() + 1001, data.data() + 7, 333);
  Report("odd offsets", back == expected);
  std::printf("checksum %016llx\n", (unsigned long long)Checksum(back.data(), bytes));
  CHECK(cudaFree(a));
  CHECK(cudaFree(b));
}

static void Pinned() {
  const size_t bytes = 65536;
  const std::vector<unsigned char> data = Bytes(bytes, 13);
  unsigned char *pinned, *device;
  cudaStream_t stream;
  CHECK(cudaHostAlloc(&pinned, 2 * bytes, cudaHostAllocDefault));
  CHECK(cudaMalloc(&device, bytes));
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::memcpy(pinned, data.data(), bytes);
  CHECK(cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice, stream));
  CHECK(cudaMemsetAsync(device + 100, 1, 50, stream));
  CHECK(cudaMemcpyAsync(pinned + bytes, device, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  std::vector<unsigned char> expected = data;
  std::memset(expected.data() + 100, 1, 50);
  Report("pinned and asynchronous", std::memcmp(pinned + bytes, expected.data(), bytes) == 0);

  cudaPointerAttributes of_device, of_pinned, of_pageable;
  CHECK(cudaPointerGetAttributes(&of_device, device));
  CHECK(cudaPointerGetAttributes(&of_pinned, pinned));
  CHECK(cudaPointerGetAttributes(&of_pageable, data.data()));
  Report("pointer attributes", of_device.type == cudaMemoryTypeDevice && of_device.device == 0 &&
                                   of_device.devicePointer == device &&
                                   of_pinned.type == cudaMemoryTypeHost &&
                                   of_pageable.type == cudaMemoryTypeUnregistered);
  CHECK(cudaStreamDestroy(stream));
  CHECK(cudaFree(device));
  CHECK(cudaFreeHost(pinned));
}

static void TwoDimensions() {
  const size_t width = 133, height = 37;
  const std::vector<unsigned char> data = Bytes(width * height, 14);
  unsigned char *a, *b;
  size_t pitch_a, pitch_b;
  CHECK(cudaMallocPitch(&a, &pitch_a, width, height));
  CHECK(cudaMallocPitch(&b, &pitch_b, width + 300, height));
  CHECK(cudaMemset2D(a, pitch_a, 7, width, height));
  CHECK(
      cudaMemcpy2D(a, pitch_a, data.data(), width, width - 10, height - 5, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy2D(b, pitch_b, a, pitch_a, width, height, cudaMemcpyDeviceToDevice));
  std::vector<unsigned char> back(width * height);
  CHECK(cudaMemcpy2D(back.data(), width, b, pitch_b, width, height, cudaMemcpyDeviceToHost));
  bool ok = true;
  for (size_t y = 0; y < height; ++y) {
    for (size_t x = 0; x < width; ++x) {
      const unsigned expected = x < width - 10 && y < height - 5 ? data[y * width + x] : 7;
      ok = ok && back[y * width + x] == expected;
    }
  }
  Report("rows with a pitch", ok);
  std::printf("checksum %016llx\n", (unsigned long long)Checksum(back.data(), back.size()));
  CHECK(cudaFree(a));
  CHECK(cudaFree(b));
}

static void ThreeDimensions() {
  const cudaExtent extent = make_cudaExtent(48, 10, 6);
  const size_t bytes = extent.width * extent.height * extent.depth;
  std::vector<unsigned char> data = Bytes(bytes, 15), back(bytes);
  cudaPitchedPtr box;
  CHECK(cudaMalloc3D(&box, extent));
  CHECK(cudaMemset3D(box, 3, extent));
  cudaMemcpy3DParms copy = {};
  copy.srcPtr = make_cudaPitchedPtr(data.data(), extent.width, extent.width, extent.height);
  copy.dstPtr = box;
  copy.dstPos = make_cudaPos(8, 2, 1);
  copy.extent = make_cudaExtent(32, 5, 4);
  copy.kind = cudaMemcpyHostToDevice;
  CHECK(cudaMemcpy3D(&copy));
  cudaMemcpy3DParms all = {};
  all.srcPtr = box;
  all.dstPtr = make_cudaPitchedPtr(back.data(), extent.width, extent.width, extent.height);
  all.extent = extent;
  all.kind = cudaMemcpyDeviceToHost;
  CHECK(cudaMemcpy3D(&all));
  bool ok = true;
  for (size_t z = 0; z < extent.depth; ++z) {
    for (size_t y = 0; y < extent.height; ++y) {
      for (size_t x = 0; x < extent.width; ++x) {
        const bool inside = x >= 8 && x < 40 && y >= 2 && y < 7 && z >= 1 && z < 5;
        const size_t from = ((z - 1) * extent.height + (y - 2)) * extent.width + (x - 8);
        const unsigned expected = inside ? data[from] : 3;
        ok = ok && back[(z * extent.height + y) * extent.width + x] == expected;
      }
    }
  }
  Report("boxes", ok);
  std::printf("checksum %016llx\n", (unsigned long long)Checksum(back.data(), back.size()));
  CHECK(cudaFree(box.ptr));
}

static void Accounting() {
  size_t before = 0, during = 0, after = 0, total = 0;
  void* memory = nullptr;
  CHECK(cudaMemGetInfo(&before, &total));
  CHECK(cudaMalloc(&memory, 32 << 20));
  CHECK(cudaMemGetInfo(&during, &total));
  CHECK(cudaFree(memory));
  CHECK(cudaMemGetInfo(&after, &total));
  Report("free memory goes down and up again",
         before >= during + (32 << 20) && after == before && total >= before);
}

int main() {
  OneDimension();
  Pinned();
  TwoDimensions();
  ThreeDimensions();
  Accounting();
  return Finish("memoryWays", all_ok);
}
