// What the demo runs: adds two vectors on every GPU that CUDA shows, checks the sums, and prints
// what it computed on. An ordinary CUDA program; nothing in it knows about Farwarp.
#include <cuda_runtime.h>

#include <cstdio>
#include <vector>

#define CHECK(call)                                                       \
  do {                                                                    \
    const cudaError_t error = (call);                                     \
    if (error != cudaSuccess) {                                           \
      std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error)); \
      return 1;                                                           \
    }                                                                     \
  } while (0)

__global__ void VectorAdd(const float* a, const float* b, float* sum, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) sum[i] = a[i] + b[i];
}

static int AddOn(int device, int count) {
  cudaDeviceProp properties;
  CHECK(cudaSetDevice(device));
  CHECK(cudaGetDeviceProperties(&properties, device));

  std::vector<float> a(count), b(count), sum(count);
  for (int i = 0; i < count; ++i) a[i] = 0.5f * i, b[i] = 1.0f + device;
  const size_t bytes = count * sizeof(float);
  float *device_a, *device_b, *device_sum;
  CHECK(cudaMalloc(&device_a, bytes));
  CHECK(cudaMalloc(&device_b, bytes));
  CHECK(cudaMalloc(&device_sum, bytes));
  CHECK(cudaMemcpy(device_a, a.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_b, b.data(), bytes, cudaMemcpyHostToDevice));
  VectorAdd<<<(count + 255) / 256, 256>>>(device_a, device_b, device_sum, count);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(sum.data(), device_sum, bytes, cudaMemcpyDeviceToHost));
  for (int i = 0; i < count; ++i) {
    if (sum[i] != a[i] + b[i]) {
      std::fprintf(stderr, "device %d: element %d is %g, should be %g\n", device, i, sum[i],
                   a[i] + b[i]);
      return 1;
    }
  }
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_sum));
  std::printf("device %d (%s, %zu MiB): added %d elements, all correct, last sum %.1f\n", device,
              properties.name, properties.totalGlobalMem >> 20, count, sum[count - 1]);
  return 0;
}

int main() {
  int devices = 0;
  CHECK(cudaGetDeviceCount(&devices));
  std::printf("%d CUDA device%s\n", devices, devices == 1 ? "" : "s");
  for (int device = 0; device < devices; ++device) {
    if (AddOn(device, 1 << 20) != 0) return 1;
  }
  return 0;
}
