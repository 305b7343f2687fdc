// Adds two vectors: the first program everybody writes.
#include <vector>

#include "common.h"

__global__ void VectorAdd(const float* a, const float* b, float* c, int n) {
  const int i = blockDim.x * blockIdx.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

int main() {
  const int n = 50000;
  const size_t bytes = n * sizeof(float);
  std::vector<float> a(n), b(n), c(n);
  Random random(1);
  for (int i = 0; i < n; ++i) {
    a[i] = random.Uniform(0.0f, 1.0f);
    b[i] = random.Uniform(0.0f, 1.0f);
  }

  float *device_a, *device_b, *device_c;
  CHECK(cudaMalloc(&device_a, bytes));
  CHECK(cudaMalloc(&device_b, bytes));
  CHECK(cudaMalloc(&device_c, bytes));
  CHECK(cudaMemcpy(device_a, a.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_b, b.data(), bytes, cudaMemcpyHostToDevice));

  const int threads = 256;
  const int blocks = (n + threads - 1) / threads;
  std::printf("vectorAdd: %d elements, %d blocks of %d threads\n", n, blocks, threads);
  VectorAdd<<<blocks, threads>>>(device_a, device_b, device_c, n);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(c.data(), device_c, bytes, cudaMemcpyDeviceToHost));

  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));

  bool ok = true;
  for (int i = 0; i < n; ++i) ok = ok && c[i] == a[i] + b[i];
  std::printf("checksum %016llx\n", (unsigned long long)Checksum(c.data(), bytes));
  return Finish("vectorAdd", ok);
}
