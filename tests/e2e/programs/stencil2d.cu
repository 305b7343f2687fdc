// Iterates a 5 x 5 stencil whose weights lie in constant memory over a pitched image.
#include <cmath>
#include <utility>
#include <vector>

#include "common.h"

constexpr int kRadius = 2;
constexpr int kSide = 2 * kRadius + 1;
constexpr int kWidth = 203, kHeight = 117, kSteps = 3;

__constant__ float weights[kSide * kSide];

__device__ __host__ inline int Clamp(int value, int last) {
  return value < 0 ? 0 : value > last ? last : value;
}

__global__ void Stencil(const char* in, char* out, size_t pitch) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= kWidth || y >= kHeight) return;
  float sum = 0.0f;
  for (int dy = -kRadius; dy <= kRadius; ++dy) {
    const float* row = reinterpret_cast<const float*>(in + Clamp(y + dy, kHeight - 1) * pitch);
    for (int dx = -kRadius; dx <= kRadius; ++dx) {
      sum += weights[(dy + kRadius) * kSide + dx + kRadius] * row[Clamp(x + dx, kWidth - 1)];
    }
  }
  reinterpret_cast<float*>(out + y * pitch)[x] = sum;
}

int main() {
  float host_weights[kSide * kSide];
  float total = 0.0f;
  for (int i = 0; i < kSide * kSide; ++i) {
    const int dx = i % kSide - kRadius, dy = i / kSide - kRadius;
    host_weights[i] = 1.0f / (1.0f + dx * dx + dy * dy);
    total += host_weights[i];
  }
  for (float& weight : host_weights) weight /= total;
  CHECK(cudaMemcpyToSymbol(weights, host_weights, sizeof(host_weights)));

  std::vector<float> image(kWidth * kHeight);
  Random random(7);
  for (float& pixel : image) pixel = random.Uniform(0.0f, 255.0f);
  char *current, *next;
  size_t pitch, next_pitch;
  const size_t row_bytes = kWidth * sizeof(float);
  CHECK(cudaMallocPitch(&current, &pitch, row_bytes, kHeight));
  CHECK(cudaMallocPitch(&next, &next_pitch, row_bytes, kHeight));
  CHECK(cudaMemcpy2D(current, pitch, image.data(), row_bytes, row_bytes, kHeight,
                     cudaMemcpyHostToDevice));

  const dim3 block(32, 8);
  const dim3 grid((kWidth + block.x - 1) / block.x, (kHeight + block.y - 1) / block.y);
  for (int step = 0; step < kSteps; ++step) {
    Stencil<<<grid, block>>>(current, next, pitch);
    CHECK(cudaGetLastError());
    std::swap(current, next);
  }
  std::vector<float> result(kWidth * kHeight);
  CHECK(cudaMemcpy2D(result.data(), row_bytes, current, pitch, row_bytes, kHeight,
                     cudaMemcpyDeviceToHost));
  CHECK(cudaFree(current));
  CHECK(cudaFree(next));

  std::vector<double> expected(image.begin(), image.end()), other(image.size());
  for (int step = 0; step < kSteps; ++step) {
    for (int y = 0; y < kHeight; ++y) {
      for (int x = 0; x < kWidth; ++x) {
        double sum = 0.0;
        for (int i = 0; i < kSide * kSide; ++i) {
          const int from_x = Clamp(x + i % kSide - kRadius, kWidth - 1);
          const int from_y = Clamp(y + i / kSide - kRadius, kHeight - 1);
          sum += static_cast<double>(host_weights[i]) * expected[from_y * kWidth + from_x];
        }
        other[y * kWidth + x] = sum;
      }
    }
    std::swap(expected, other);
  }
  double worst = 0.0;
  for (size_t i = 0; i < result.size(); ++i) {
    worst = std::fmax(worst, std::fabs(result[i] - expected[i]));
  }
  const bool ok = worst < 1e-2 && pitch >= row_bytes && pitch == next_pitch;
  std::printf("stencil2d: %d x %d, %d steps, largest error below 1e-2: %s\n", kWidth, kHeight,
              kSteps, worst < 1e-2 ? "yes" : "no");
  std::printf("checksum %016llx\n",
              (unsigned long long)Checksum(result.data(), result.size() * sizeof(float)));
  return Finish("stencil2d", ok);
}
