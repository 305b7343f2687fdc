// Multiplies matrices with tiles in shared memory; the sizes are no multiples of the tile.
#include <cmath>
#include <vector>

#include "common.h"

constexpr int kTile = 16;

// c (rows x columns) = a (rows x inner) * b (inner x columns), all row-major.
__global__ void MatMul(const float* a, const float* b, float* c, int rows, int inner, int columns) {
  __shared__ float tile_a[kTile][kTile];
  __shared__ float tile_b[kTile][kTile + 1];
  const int row = blockIdx.y * kTile + threadIdx.y;
  const int column = blockIdx.x * kTile + threadIdx.x;
  float sum = 0.0f;
  for (int start = 0; start < inner; start += kTile) {
    const int k_a = start + threadIdx.x;
    const int k_b = start + threadIdx.y;
    tile_a[threadIdx.y][threadIdx.x] = row < rows && k_a < inner ? a[row * inner + k_a] : 0.0f;
    tile_b[threadIdx.y][threadIdx.x] =
        k_b < inner && column < columns ? b[k_b * columns + column] : 0.0f;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kTile; ++k) sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
    __syncthreads();
  }
  if (row < rows && column < columns) c[row * columns + column] = sum;
}

int main() {
  const int rows = 150, inner = 131, columns = 170;
  std::vector<float> a(rows * inner), b(inner * columns), c(rows * columns);
  Random random(2);
  for (float& x : a) x = random.Uniform(-1.0f, 1.0f);
  for (float& x : b) x = random.Uniform(-1.0f, 1.0f);

  float *device_a, *device_b, *device_c;
  CHECK(cudaMalloc(&device_a, a.size() * sizeof(float)));
  CHECK(cudaMalloc(&device_b, b.size() * sizeof(float)));
  CHECK(cudaMalloc(&device_c, c.size() * sizeof(float)));
  CHECK(cudaMemcpy(device_a, a.data(), a.size() * sizeof(float), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_b, b.data(), b.size() * sizeof(float), cudaMemcpyHostToDevice));

  const dim3 block(kTile, kTile);
  const dim3 grid((columns + kTile - 1) / kTile, (rows + kTile - 1) / kTile);
  MatMul<<<grid, block>>>(device_a, device_b, device_c, rows, inner, columns);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  CHECK(cudaMemcpy(c.data(), device_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));

  double worst = 0.0;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      double expected = 0.0;
      for (int k = 0; k < inner; ++k) {
        expected += static_cast<double>(a[i * inner + k]) * b[k * columns + j];
      }
      worst = std::fmax(worst, std::fabs(expected - c[i * columns + j]));
    }
  }
  std::printf("matmulTiled: %d x %d x %d, largest error below 1e-4: %s\n", rows, inner, columns,
              worst < 1e-4 ? "yes" : "no");
  std::printf("checksum %016llx\n",
              (unsigned long long)Checksum(c.data(), c.size() * sizeof(float)));
  return Finish("matmulTiled", worst < 1e-4);
}
