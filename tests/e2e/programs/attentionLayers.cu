// The kernels of a small transformer: layer norm, row softmax, GELU, attention by an online softmax, each against double precision.
#include <cfloat>
#include <cmath>
#include <vector>

#include "common.h"

__device__ float BlockSum(float value) {
  __shared__ float partial[32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : 0.0f;
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

__global__ void LayerNorm(const float* in, const float* gain, float* out, int width) {
  const float* row = in + blockIdx.x * width;
  float sum = 0.0f, squares = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += row[i];
  const float mean = BlockSum(sum) / width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) squares += (row[i] - mean) * (row[i] - mean);
  const float scale = rsqrtf(BlockSum(squares) / width + 1e-5f);
  for (int i = threadIdx.x; i < width; i += blockDim.x) out[blockIdx.x * width + i] = (row[i] - mean) * scale * gain[i];
}

// A warp per row.
__global__ void Softmax(const float* in, float* out, int width) {
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  float largest = -FLT_MAX, sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += 32) largest = fmaxf(largest, in[row * width + i]);
  for (int offset = 16; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
  for (int i = threadIdx.x; i < width; i += 32) sum += __expf(in[row * width + i] - largest);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  for (int i = threadIdx.x; i < width; i += 32) out[row * width + i] = __fdividef(__expf(in[row * width + i] - largest), sum);
}

__global__ void Gelu(const float4* in, float4* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const auto gelu = [](float x) { return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); };
  const float4 v = in[i];
  out[i] = make_float4(gelu(v.x), gelu(v.y), gelu(v.z), 0.5f * v.w * erfcf(-v.w * 0.70710678f));
}

// A thread per query; keys and values come in tiles through shared memory.
template <int kWidth, int kTile>
__global__ void Attention(const float* q, const float* k, const float* v, float* out, int length) {
  __shared__ float keys[kTile][kWidth], values[kTile][kWidth];
  const int query = blockIdx.x * blockDim.x + threadIdx.x;
  float mine[kWidth], sum[kWidth] = {}, largest = -FLT_MAX, total = 0.0f;
  for (int d = 0; d < kWidth; ++d) mine[d] = q[query * kWidth + d] * rsqrtf(kWidth);
  for (int begin = 0; begin < length; begin += kTile) {
    for (int i = threadIdx.x; i < kTile * kWidth; i += blockDim.x) {
      (&keys[0][0])[i] = k[begin * kWidth + i];
      (&values[0][0])[i] = v[begin * kWidth + i];
    }
    __syncthreads();
    for (int j = 0; j < kTile && begin + j <= query; ++j) {  // Causal: each lane stops elsewhere.
      float score = 0.0f;
      for (int d = 0; d < kWidth; ++d) score = fmaf(mine[d], keys[j][d], score);
      const float next = fmaxf(largest, score), old = expf(largest - next), weight = expf(score - next);
      total = total * old + weight;
      for (int d = 0; d < kWidth; ++d) sum[d] = sum[d] * old + weight * values[j][d];
      largest = next;
    }
    __syncthreads();
  }
  for (int d = 0; d < kWidth; ++d) out[query * kWidth + d] = sum[d] / total;
}

static bool Close(const char* what, const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  double worst = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) worst = std::fmax(worst, std::fabs(got[i] - expected[i]));
  std::printf("%s: %s, checksum %016llx\n", what, worst <= tolerance ? "close" : "too far",
              (unsigned long long)Checksum(got.data(), expected.size() * sizeof(float)));
  return worst <= tolerance;
}

int main() {
  constexpr int length = 128, width = 32, n = length * width;
  Random random(101);
  std::vector<float> q(n), k(n), v(n), out(n);
  for (int i = 0; i < n; ++i) q[i] = random.Uniform(-2, 2), k[i] = random.Uniform(-2, 2), v[i] = random.Uniform(-1, 1);
  float *d_q, *d_k, *d_v, *d_out;
  for (float** p : {&d_q, &d_k, &d_v, &d_out}) CHECK(cudaMalloc(p, n * sizeof(float)));
  CHECK(cudaMemcpy(d_q, q.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_k, k.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_v, v.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  std::vector<double> expected(n);
  const auto read = [&] { CHECK(cudaMemcpy(out.data(), d_out, n * sizeof(float), cudaMemcpyDeviceToHost)); };

  const int wide = 512, rows = n / wide;
  LayerNorm<<<rows, 128>>>(d_q, d_k, d_out, wide);
  read();
  for (int r = 0; r < rows; ++r) {
    double mean = 0.0, variance = 0.0;
    for (int i = 0; i < wide; ++i) mean += q[r * wide + i] / wide;
    for (int i = 0; i < wide; ++i) variance += (q[r * wide + i] - mean) * (q[r * wide + i] - mean) / wide;
    for (int i = 0; i < wide; ++i) expected[r * wide + i] = (q[r * wide + i] - mean) / std::sqrt(variance + 1e-5) * k[i];
  }
  bool ok = Close("layer norm", out, expected, 2e-5);

  Softmax<<<rows / 4, dim3(32, 4)>>>(d_q, d_out, wide);
  read();
  for (int r = 0; r < rows; ++r) {
    double sum = 0.0;
    for (int i = 0; i < wide; ++i) sum += std::exp(double{q[r * wide + i]});
    for (int i = 0; i < wide; ++i) expected[r * wide + i] = std::exp(double{q[r * wide + i]}) / sum;
  }
  ok &= Close("softmax", out, expected, 1e-7);

  Gelu<<<n / 4 / 128, 128>>>(reinterpret_cast<float4*>(d_q), reinterpret_cast<float4*>(d_out), n / 4);
  read();
  for (int i = 0; i < n; ++i) {
    const double x = q[i];
    expected[i] = i % 4 == 3 ? 0.5 * x * std::erfc(-x * std::sqrt(0.5))
                             : 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
  }
  ok &= Close("gelu", out, expected, 2e-6);

  Attention<width, 16><<<length / 64, 64>>>(d_q, d_k, d_v, d_out, length);
  read();
  for (int i = 0; i < length; ++i) {
    std::vector<double> weights(i + 1);
    double total = 0.0;
    for (int j = 0; j <= i; ++j) {
      double score = 0.0;
      for (int d = 0; d < width; ++d) score += double{q[i * width + d]} * k[j * width + d] / std::sqrt(double{width});
      total += weights[j] = std::exp(score);
    }
    for (int d = 0; d < width; ++d) {
      double sum = 0.0;
      for (int j = 0; j <= i; ++j) sum += weights[j] / total * v[j * width + d];
      expected[i * width + d] = sum;
    }
  }
  ok &= Close("attention", out, expected, 1e-5);
  return Finish("attentionLayers", ok);
}
