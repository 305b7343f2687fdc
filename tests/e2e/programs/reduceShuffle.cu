// Sums and finds the maximum of an array: warps reduce with shuffles, blocks through shared memory,
// the grid with a second launch over the partial results.
#include <cmath>
#include <vector>

#include "common.h"

__device__ float WarpSum(float value) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, offset);
  }
  return value;
}

__device__ int WarpMax(int value) {
  for (int offset = warpSize / 2; offset > 0; offset /= 2) {
    value = max(value, __shfl_down_sync(0xffffffffu, value, offset));
  }
  return value;
}

__global__ void Sum(const float* in, float* out, int n) {
  __shared__ float partial[32];
  float sum = 0.0f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    sum += in[i];
  }
  sum = WarpSum(sum);
  const int lane = threadIdx.x % warpSize;
  const int warp = threadIdx.x / warpSize;
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = lane < blockDim.x / warpSize ? partial[lane] : 0.0f;
    sum = WarpSum(sum);
    if (lane == 0) out[blockIdx.x] = sum;
  }
}

__global__ void Max(const int* in, int* out, int n) {
  __shared__ int partial[32];
  int best = -2147483647 - 1;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    best = max(best, in[i]);
  }
  best = WarpMax(best);
  const int lane = threadIdx.x % warpSize;
  const int warp = threadIdx.x / warpSize;
  if (lane == 0) partial[warp] = best;
  __syncthreads();
  if (warp == 0) {
    best = lane < blockDim.x / warpSize ? partial[lane] : -2147483647 - 1;
    best = WarpMax(best);
    if (lane == 0) out[blockIdx.x] = best;
  }
}

int main() {
  const int n = 200003, blocks = 48, threads = 256;
  std::vector<float> floats(n);
  std::vector<int> ints(n);
  Random random(3);
  double expected_sum = 0.0;
  int expected_max = -2147483647 - 1;
  for (int i = 0; i < n; ++i) {
    floats[i] = random.Uniform(0.0f, 2.0f);
    ints[i] = static_cast<int>(random.Next()) - 8000000;
    expected_sum += floats[i];
    if (ints[i] > expected_max) expected_max = ints[i];
  }

  float *device_floats, *device_sums;
  int *device_ints, *device_maxima;
  CHECK(cudaMalloc(&device_floats, n * sizeof(float)));
  CHECK(cudaMalloc(&device_ints, n * sizeof(int)));
  CHECK(cudaMalloc(&device_sums, (blocks + 1) * sizeof(float)));
  CHECK(cudaMalloc(&device_maxima, (blocks + 1) * sizeof(int)));
  CHECK(cudaMemcpy(device_floats, floats.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_ints, ints.data(), n * sizeof(int), cudaMemcpyHostToDevice));

  Sum<<<blocks, threads>>>(device_floats, device_sums, n);
  Sum<<<1, 64>>>(device_sums, device_sums + blocks, blocks);
  Max<<<blocks, threads>>>(device_ints, device_maxima, n);
  Max<<<1, 64>>>(device_maxima, device_maxima + blocks, blocks);
  CHECK(cudaGetLastError());

  float sum = 0.0f;
  int maximum = 0;
  CHECK(cudaMemcpy(&sum, device_sums + blocks, sizeof(sum), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(&maximum, device_maxima + blocks, sizeof(maximum), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_floats));
  CHECK(cudaFree(device_ints));
  CHECK(cudaFree(device_sums));
  CHECK(cudaFree(device_maxima));

  std::printf("reduceShuffle: sum of %d = %.3f, maximum = %d\n", n, sum, maximum);
  std::printf("checksum %016llx %016llx\n", (unsigned long long)Checksum(&sum, sizeof(sum)),
              (unsigned long long)Checksum(&maximum, sizeof(maximum)));
  return Finish("reduceShuffle",
                std::fabs(sum - expected_sum) < 1e-4 * expected_sum && maximum == expected_max);
}
