// What transformers do to rows: softmax and layer normalisation, a block for each row.
#include "device_array.h"
#include "formulas.h"
#include "harness.h"
#include "loops.h"

namespace farwarp::bench {
namespace {

constexpr int kRows = 4096;
constexpr int kWidth = 1024;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

struct Largest {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

// Over all threads of the block; all of them get the result.
template <typename Operation>
__device__ float BlockReduce(float value, Operation operation) {
  __shared__ float partial[kWarps];
  for (int step = 16; step > 0; step /= 2)
    value = operation(value, __shfl_xor_sync(~0u, value, step));
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = partial[0];
  for (int i = 1; i < kWarps; ++i) value = operation(value, partial[i]);
  __syncthreads();
  return value;
}

__global__ void Softmax(const float* from, float* to) {
  const float* const in = from + blockIdx.x * kWidth;
  float* const out = to + blockIdx.x * kWidth;
  float largest = in[threadIdx.x];
  for (int i = threadIdx.x + kThreads; i < kWidth; i += kThreads) largest = fmaxf(largest, in[i]);
  largest = BlockReduce(largest, Largest());
  float sum = 0.0f;
  for (int i = threadIdx.x; i < kWidth; i += kThreads) {
    const float value = expf(in[i] - largest);
    out[i] = value;
    sum += value;
  }
  const float scale = 1.0f / BlockReduce(sum, Sum());
  for (int i = threadIdx.x; i < kWidth; i += kThreads) out[i] *= scale;
}

__global__ void Layernorm(const float* from, float* to) {
  const float* const in = from + blockIdx.x * kWidth;
  float* const out = to + blockIdx.x * kWidth;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < kWidth; i += kThreads) sum += in[i];
  const float mean = BlockReduce(sum, Sum()) / kWidth;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < kWidth; i += kThreads) squares += (in[i] - mean) * (in[i] - mean);
  const float scale = 1.0f / sqrtf(BlockReduce(squares, Sum()) / kWidth + kLayernormEpsilon);
  for (int i = threadIdx.x; i < kWidth; i += kThreads) out[i] = (in[i] - mean) * scale;
}

template <typename Kernel, typename Loop>
void MeasureRowsOf(const char* name, Kernel kernel, Loop loop, float tolerance) {
  auto values = RandomFloats(kRows * kWidth, 12);
  for (float& value : values) value = 8.0f * value - 4.0f;
  std::vector<float> results(values.size());
  const DeviceArray<float> device_values(values), device_results(values.size());
  Measure({name,
           [&] {
             kernel<<<kRows, kThreads>>>(device_values.get(), device_results.get());
             Finish();
           },
           [&](unsigned cores) {
             Spread(cores, kRows, [&](unsigned, size_t begin, size_t end) {
               loop(values.data(), results.data(), kWidth, begin, end);
             });
           },
           [&] { return Close(device_results.Values(), results, tolerance); }});
}

}  // namespace

void MeasureRows() {
  // Softmax gives small numbers: a thousandth of the average is 1e-6.
  MeasureRowsOf("softmax 4096 x 1024", Softmax, SoftmaxLoop, 1e-6f);
  MeasureRowsOf("layernorm 4096 x 1024", Layernorm, LayernormLoop, 1e-4f);
}

}  // namespace farwarp::bench
