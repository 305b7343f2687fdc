// Matrix products on tensor cores through nvcuda::wmma: half and bfloat16 with float sums, half with
// half sums, and bytes, checked against the host.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <cmath>
#include <vector>

#include "common.h"

using namespace nvcuda;

// C = A * B + C with A row-major and B column-major; each warp computes one 16 x 16 tile.
template <typename T, typename Sum>
__global__ void Gemm(const T* a, const T* b, Sum* c, int m, int n, int k) {
  const int warp = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
  const int row = warp / (n / 16) * 16;
  const int column = warp % (n / 16) * 16;
  if (row >= m) return;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> tile_a;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, T, wmma::col_major> tile_b;
  wmma::fragment<wmma::accumulator, 16, 16, 16, Sum> sum;
  wmma::load_matrix_sync(sum, c + row * n + column, n, wmma::mem_row_major);
  for (int i = 0; i < k; i += 16) {
    wmma::load_matrix_sync(tile_a, a + row * k + i, k);
    wmma::load_matrix_sync(tile_b, b + column * k + i, k);
    wmma::mma_sync(sum, tile_a, tile_b, sum);
  }
  wmma::store_matrix_sync(c + row * n + column, sum, n, wmma::mem_row_major);
}

// The same through shared memory, with column-major tiles and scaled elements, in 32 x 8 tiles.
__global__ void GemmShared(const half* a, const half* b, float* c, int m, int n, int k, float scale) {
  __shared__ half part_a[32 * 16];
  __shared__ half part_b[16 * 8];
  const int row = blockIdx.y * 32;
  const int column = blockIdx.x * 8;
  wmma::fragment<wmma::matrix_a, 32, 8, 16, half, wmma::col_major> tile_a;
  wmma::fragment<wmma::matrix_b, 32, 8, 16, half, wmma::row_major> tile_b;
  wmma::fragment<wmma::accumulator, 32, 8, 16, float> sum;
  wmma::fill_fragment(sum, 0.0f);
  for (int i = 0; i < k; i += 16) {
    for (int j = threadIdx.x; j < 32 * 16; j += blockDim.x)
      part_a[j] = a[(row + j % 32) * k + i + j / 32];
    for (int j = threadIdx.x; j < 16 * 8; j += blockDim.x)
      part_b[j] = b[(column + j % 8) * k + i + j / 8];
    __syncwarp();
    wmma::load_matrix_sync(tile_a, part_a, 32);
    wmma::load_matrix_sync(tile_b, part_b, 8);
    wmma::mma_sync(sum, tile_a, tile_b, sum);
    __syncwarp();
  }
  for (int j = 0; j < sum.num_elements; ++j) sum.x[j] *= scale;
  wmma::store_matrix_sync(c + column * m + row, sum, m, wmma::mem_col_major);
}

template <typename T>
T* ToDevice(const std::vector<T>& host) {
  T* device;
  CHECK(cudaMalloc(&device, host.size() * sizeof(T)));
  CHECK(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  return device;
}

constexpr int kM = 64, kN = 48, kK = 80;

template <typename T, typename Sum>
bool Run(const char* name, double tolerance) {
  Random random(11);
  std::vector<T> a(kM * kK), b(kN * kK);
  std::vector<Sum> c(kM * kN);
  std::vector<double> fa(a.size()), fb(b.size()), fc(c.size());
  const bool whole = sizeof(T) == 1;
  const auto fill = [&](auto& values, std::vector<double>& numbers) {
    for (size_t i = 0; i < values.size(); ++i) {
      const float x = random.Uniform(whole ? -100.0f : -1.0f, whole ? 100.0f : 1.0f);
      values[i] = static_cast<std::remove_reference_t<decltype(values[0])>>(whole ? std::floor(x) : x);
      numbers[i] = static_cast<double>(static_cast<float>(values[i]));
    }
  };
  fill(a, fa);
  fill(b, fb);
  fill(c, fc);
  T* const device_a = ToDevice(a);
  T* const device_b = ToDevice(b);
  Sum* const device_c = ToDevice(c);
  Gemm<T, Sum><<<3, 128>>>(device_a, device_b, device_c, kM, kN, kK);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(c.data(), device_c, c.size() * sizeof(Sum), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));
  double worst = 0;
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) {
      double expected = fc[i * kN + j];
      for (int k = 0; k < kK; ++k) expected += fa[i * kK + k] * fb[j * kK + k];
      worst = std::fmax(worst, std::fabs(expected - static_cast<double>(static_cast<float>(c[i * kN + j]))));
    }
  }
  std::printf("%s: worst error %s %g, checksum %016llx\n", name, worst <= tolerance ? "below" : "ABOVE", tolerance,
              (unsigned long long)Checksum(c.data(), c.size() * sizeof(Sum)));
  return worst <= tolerance;
}

bool RunShared() {
  Random random(5);
  std::vector<half> a(kM * kK), b(kN * kK);
  for (half& x : a) x = __float2half(random.Uniform(-1.0f, 1.0f));
  for (half& x : b) x = __float2half(random.Uniform(-1.0f, 1.0f));
  std::vector<float> c(kM * kN);
  half* const device_a = ToDevice(a);
  half* const device_b = ToDevice(b);
  float* const device_c = ToDevice(c);
  GemmShared<<<dim3(kN / 8, kM / 32), 32>>>(device_a, device_b, device_c, kM, kN, kK, 0.5f);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(c.data(), device_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));
  double worst = 0;
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) {
      double expected = 0;
      for (int k = 0; k < kK; ++k)
        expected += static_cast<double>(__half2float(a[i * kK + k])) * static_cast<double>(__half2float(b[j * kK + k]));
      worst = std::fmax(worst, std::fabs(expected * 0.5 - c[j * kM + i]));
    }
  }
  std::printf("shared tiles: %s, checksum %016llx\n", worst < 1e-4 ? "close" : "FAR",
              (unsigned long long)Checksum(c.data(), c.size() * sizeof(float)));
  return worst < 1e-4;
}

int main() {
  bool ok = Run<half, float>("half to float", 1e-4);
  ok &= Run<half, half>("half to half", 0.05);
  ok &= Run<__nv_bfloat16, float>("bfloat16 to float", 1e-4);
  ok &= Run<signed char, int>("bytes to int", 0);
  ok &= RunShared();
  return Finish("wmmaGemm", ok);
}
