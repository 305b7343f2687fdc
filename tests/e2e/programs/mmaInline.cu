// Tensor core instructions written by hand: a product of bytes and one of halves, with operands that
// come through ldmatrix, results that leave through stmatrix or movmatrix; sums with saturation.
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "common.h"

// D (16 x 8) = A (16 x 32, rows) * B (32 x 8, columns) + C, one warp.
__global__ void ByteTile(const signed char* a, const signed char* b, int* c, bool saturate) {
  const int lane = threadIdx.x, group = lane / 4, member = lane % 4;
  const auto word = [](const signed char* p) { return *reinterpret_cast<const unsigned*>(p); };
  unsigned ra[4], rb[2];
  for (int i = 0; i < 4; ++i) ra[i] = word(a + (group + i % 2 * 8) * 32 + i / 2 * 16 + member * 4);
  for (int i = 0; i < 2; ++i) rb[i] = word(b + group * 32 + i * 16 + member * 4);
  int d[4];
  for (int i = 0; i < 4; ++i) d[i] = c[(group + i / 2 * 8) * 8 + member * 2 + i % 2];
  if (saturate) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  }
  for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = d[i];
}

// C (m x n, float) = A (m x k, rows) * B (k x n, rows): each warp a 16 x 8 tile, operands through
// shared memory and ldmatrix, B transposed on the way.
__global__ void HalfGemm(const half* a, const half* b, float* c, int n, int k) {
  __shared__ __align__(16) half part_a[16][16];
  __shared__ __align__(16) half part_b[16][8];
  const int lane = threadIdx.x, row = blockIdx.y * 16, column = blockIdx.x * 8;
  float d[4] = {0, 0, 0, 0};
  for (int i = 0; i < k; i += 16) {
    for (int j = lane; j < 256; j += 32) part_a[j / 16][j % 16] = a[(row + j / 16) * k + i + j % 16];
    for (int j = lane; j < 128; j += 32) part_b[j / 8][j % 8] = b[(i + j / 8) * n + column + j % 8];
    __syncwarp();
    unsigned ra[4], rb[2];
    const unsigned at_a = __cvta_generic_to_shared(&part_a[lane % 16][lane / 16 * 8]);
    const unsigned at_b = __cvta_generic_to_shared(&part_b[lane % 16][0]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3])
                 : "r"(at_a));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(rb[0]), "=r"(rb[1]) : "r"(at_b));
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) c[(row + lane / 4 + i / 2 * 8) * n + column + lane % 4 * 2 + i % 2] = d[i];
}

// Transposes 8 x 8 tiles of 16 bits in registers.
__global__ void Transpose(const unsigned* in, unsigned* out) {
  unsigned value = in[threadIdx.x];
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(value));
  out[threadIdx.x] = value;
}

bool Bytes(bool saturate) {
  Random random(saturate ? 2 : 1);
  std::vector<signed char> a(16 * 32), b(8 * 32);
  std::vector<int> c(16 * 8), start;
  for (auto& x : a) x = static_cast<signed char>(random.Next());
  for (auto& x : b) x = static_cast<signed char>(random.Next());
  for (auto& x : c) x = saturate ? (random.Next() % 2 ? 2147483647 : -2147483647 - 1) : static_cast<int>(random.Next()) - 8000000;
  start = c;
  signed char *device_a, *device_b;
  int* device_c;
  CHECK(cudaMalloc(&device_a, a.size()));
  CHECK(cudaMalloc(&device_b, b.size()));
  CHECK(cudaMalloc(&device_c, c.size() * sizeof(int)));
  CHECK(cudaMemcpy(device_a, a.data(), a.size(), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_b, b.data(), b.size(), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_c, c.data(), c.size() * sizeof(int), cudaMemcpyHostToDevice));
  ByteTile<<<1, 32>>>(device_a, device_b, device_c, saturate);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(c.data(), device_c, c.size() * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));
  bool ok = true;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      long long expected = start[i * 8 + j];
      for (int k = 0; k < 32; ++k) expected += a[i * 32 + k] * b[j * 32 + k];
      if (saturate && expected > 2147483647ll) expected = 2147483647ll;
      if (saturate && expected < -2147483648ll) expected = -2147483648ll;
      ok &= c[i * 8 + j] == static_cast<int>(expected);
    }
  }
  std::printf("bytes%s: %s, checksum %016llx\n", saturate ? ", saturated" : "", ok ? "equal" : "DIFFERENT",
              (unsigned long long)Checksum(c.data(), c.size() * sizeof(int)));
  return ok;
}

bool Halves() {
  const int m = 48, n = 40, k = 64;
  Random random(7);
  std::vector<half> a(m * k), b(k * n);
  std::vector<float> c(m * n);
  for (half& x : a) x = __float2half(random.Uniform(-2.0f, 2.0f));
  for (half& x : b) x = __float2half(random.Uniform(-2.0f, 2.0f));
  half *device_a, *device_b;
  float* device_c;
  CHECK(cudaMalloc(&device_a, a.size() * sizeof(half)));
  CHECK(cudaMalloc(&device_b, b.size() * sizeof(half)));
  CHECK(cudaMalloc(&device_c, c.size() * sizeof(float)));
  CHECK(cudaMemcpy(device_a, a.data(), a.size() * sizeof(half), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device_b, b.data(), b.size() * sizeof(half), cudaMemcpyHostToDevice));
  HalfGemm<<<dim3(n / 8, m / 16), 32>>>(device_a, device_b, device_c, n, k);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(c.data(), device_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_a));
  CHECK(cudaFree(device_b));
  CHECK(cudaFree(device_c));
  double worst = 0;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      double expected = 0;
      for (int x = 0; x < k; ++x)
        expected += static_cast<double>(__half2float(a[i * k + x])) * static_cast<double>(__half2float(b[x * n + j]));
      worst = std::fmax(worst, std::fabs(expected - c[i * n + j]));
    }
  }
  std::printf("halves through ldmatrix: %s, checksum %016llx\n", worst < 1e-4 ? "close" : "FAR",
              (unsigned long long)Checksum(c.data(), c.size() * sizeof(float)));
  return worst < 1e-4;
}

bool Transposed() {
  unsigned short tile[64], result[64];
  for (int i = 0; i < 64; ++i) tile[i] = static_cast<unsigned short>(i * 259);
  unsigned *in, *out;
  CHECK(cudaMalloc(&in, sizeof(tile)));
  CHECK(cudaMalloc(&out, sizeof(tile)));
  CHECK(cudaMemcpy(in, tile, sizeof(tile), cudaMemcpyHostToDevice));
  Transpose<<<1, 32>>>(in, out);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(result, out, sizeof(tile), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(in));
  CHECK(cudaFree(out));
  bool ok = true;
  for (int i = 0; i < 64; ++i) ok &= result[i] == tile[i % 8 * 8 + i / 8];
  std::printf("transposed tile: %s\n", ok ? "equal" : "DIFFERENT");
  return ok;
}

int main() {
  bool ok = Bytes(false);
  ok &= Bytes(true);
  ok &= Halves();
  ok &= Transposed();
  return Finish("mmaInline", ok);
}
