// Histogram of bytes: private bins in shared memory with shared atomics, merged with global
// atomics; a second kernel does it with global atomics alone and must agree.
#include <cstring>
#include <vector>

#include "common.h"

constexpr int kBins = 256;

__global__ void HistogramShared(const unsigned char* data, int n, unsigned* bins) {
  __shared__ unsigned local[kBins];
  for (int i = threadIdx.x; i < kBins; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&local[data[i]], 1u);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kBins; i += blockDim.x) {
    if (local[i] != 0) atomicAdd(&bins[i], local[i]);
  }
}

__global__ void HistogramGlobal(const unsigned char* data, int n, unsigned* bins,
                                unsigned long long* total, int* largest) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(&bins[data[i]], 1u);
  atomicAdd(total, static_cast<unsigned long long>(data[i]));
  atomicMax(largest, static_cast<int>(data[i]));
}

int main() {
  const int n = 150000;
  std::vector<unsigned char> data(n);
  unsigned expected[kBins] = {};
  unsigned long long expected_total = 0;
  int expected_largest = 0;
  Random random(5);
  for (unsigned char& value : data) {
    // The sum of two draws: a triangle, so that bins differ and collide.
    value = static_cast<unsigned char>((random.Next() % 120) + (random.Next() % 120));
    ++expected[value];
    expected_total += value;
    if (value > expected_largest) expected_largest = value;
  }

  unsigned char* device_data;
  unsigned *shared_bins, *global_bins;
  unsigned long long* device_total;
  int* device_largest;
  CHECK(cudaMalloc(&device_data, n));
  CHECK(cudaMalloc(&shared_bins, sizeof(expected)));
  CHECK(cudaMalloc(&global_bins, sizeof(expected)));
  CHECK(cudaMalloc(&device_total, sizeof(*device_total)));
  CHECK(cudaMalloc(&device_largest, sizeof(*device_largest)));
  CHECK(cudaMemcpy(device_data, data.data(), n, cudaMemcpyHostToDevice));
  CHECK(cudaMemset(shared_bins, 0, sizeof(expected)));
  CHECK(cudaMemset(global_bins, 0, sizeof(expected)));
  CHECK(cudaMemset(device_total, 0, sizeof(*device_total)));
  CHECK(cudaMemset(device_largest, 0, sizeof(*device_largest)));

  HistogramShared<<<32, 256>>>(device_data, n, shared_bins);
  CHECK(cudaGetLastError());
  HistogramGlobal<<<(n + 255) / 256, 256>>>(device_data, n, global_bins, device_total,
                                            device_largest);
  CHECK(cudaGetLastError());

  unsigned from_shared[kBins], from_global[kBins];
  unsigned long long total = 0;
  int largest = 0;
  CHECK(cudaMemcpy(from_shared, shared_bins, sizeof(from_shared), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(from_global, global_bins, sizeof(from_global), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(&total, device_total, sizeof(total), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(&largest, device_largest, sizeof(largest), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_data));
  CHECK(cudaFree(shared_bins));
  CHECK(cudaFree(global_bins));
  CHECK(cudaFree(device_total));
  CHECK(cudaFree(device_largest));

  const bool ok = std::memcmp(from_shared, expected, sizeof(expected)) == 0 &&
                  std::memcmp(from_global, expected, sizeof(expected)) == 0 &&
                  total == expected_total && largest == expected_largest;
  std::printf("histogram: %d bytes, total %llu, largest %d, bin 119 holds %u\n", n, total, largest,
              from_shared[119]);
  std::printf("checksum %016llx %016llx\n",
              (unsigned long long)Checksum(from_shared, sizeof(from_shared)),
              (unsigned long long)Checksum(from_global, sizeof(from_global)));
  return Finish("histogram", ok);
}
