// What is bound by memory: vectorAdd, reduction, histogram, stencil.
#include "device_array.h"
#include "harness.h"
#include "loops.h"

namespace farwarp::bench {
namespace {

constexpr int kThreads = 256;

__global__ void Add(const float* a, const float* b, float* sum, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) sum[i] = a[i] + b[i];
}

__global__ void Reduce(const unsigned* values, unsigned* total, int count) {
  __shared__ unsigned partial[kThreads];
  unsigned sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    sum += values[i];
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) atomicAdd(total, partial[0]);
}

__global__ void Histogram(const unsigned char* values, unsigned* bins, int count) {
  __shared__ unsigned mine[256];
  mine[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    atomicAdd(&mine[values[i]], 1u);
  __syncthreads();
  atomicAdd(&bins[threadIdx.x], mine[threadIdx.x]);
}

__global__ void Stencil(const float* from, float* to, int width) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x;
  const int y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x < 1 || y < 1 || x >= width - 1 || y >= width - 1) return;
  const float* const at = from + y * width + x;
  to[y * width + x] = 0.5f * at[0] + 0.125f * (at[-1] + at[1] + at[-width] + at[width]);
}

void MeasureAdd() {
  constexpr int kCount = 16 << 20;
  const auto a = RandomFloats(kCount, 1), b = RandomFloats(kCount, 2);
  std::vector<float> sum(kCount);
  const DeviceArray<float> device_a(a), device_b(b), device_sum(kCount);
  Measure({"vectorAdd 16 M",
           [&] {
             Add<<<kCount / kThreads, kThreads>>>(device_a.get(), device_b.get(), device_sum.get(),
                                                  kCount);
             Finish();
           },
           [&](unsigned cores) {
             Spread(cores, kCount, [&](unsigned, size_t begin, size_t end) {
               AddLoop(a.data(), b.data(), sum.data(), begin, end);
             });
           },
           [&] { return device_sum.Values() == sum; }});
}

void MeasureReduction() {
  constexpr int kCount = 16 << 20;
  const auto values = RandomBits(kCount, 3);
  unsigned total = 0;
  const DeviceArray<unsigned> device_values(values), device_total(1);
  Measure({"reduction 16 M",
           [&] {
             SPEED_CHECK(cudaMemsetAsync(device_total.get(), 0, sizeof(unsigned)));
             Reduce<<<256, kThreads>>>(device_values.get(), device_total.get(), kCount);
             Finish();
           },
           [&](unsigned cores) {
             std::vector<unsigned> sums(cores);
             Spread(cores, kCount, [&](unsigned part, size_t begin, size_t end) {
               sums[part] = SumLoop(values.data(), begin, end);
             });
             total = 0;
             for (const unsigned sum : sums) total += sum;
           },
           [&] { return device_total.Values()[0] == total; }});
}

void MeasureHistogram() {
  constexpr int kCount = 16 << 20;
  std::vector<unsigned char> values(kCount);
  const auto bits = RandomBits(kCount, 4);
  for (int i = 0; i < kCount; ++i) values[i] = static_cast<unsigned char>(bits[i]);
  std::vector<unsigned> bins(256);
  const DeviceArray<unsigned char> device_values(values);
  const DeviceArray<unsigned> device_bins(256);
  Measure({"histogram 16 M",
           [&] {
             SPEED_CHECK(cudaMemsetAsync(device_bins.get(), 0, 256 * sizeof(unsigned)));
             Histogram<<<256, kThreads>>>(device_values.get(), device_bins.get(), kCount);
             Finish();
           },
           [&](unsigned cores) {
             std::vector<std::vector<unsigned>> parts(cores, std::vector<unsigned>(256));
             Spread(cores, kCount, [&](unsigned part, size_t begin, size_t end) {
               HistogramLoop(values.data(), parts[part].data(), begin, end);
             });
             for (int i = 0; i < 256; ++i) {
               bins[i] = 0;
               for (const auto& part : parts) bins[i] += part[i];
             }
           },
           [&] { return device_bins.Values() == bins; }});
}

void MeasureStencil() {
  constexpr int kWidth = 2048;
  constexpr int kSteps = 4;
  const auto start = RandomFloats(kWidth * kWidth, 5);
  std::vector<float> planes[2] = {start, start};
  const DeviceArray<float> device_planes[2] = {DeviceArray<float>(start),
                                               DeviceArray<float>(start)};
  // Steps go on from what the last run left; the comparison comes after one run of each.
  Measure({"stencil 2048 x 2048, 4 steps",
           [&] {
             const dim3 threads(32, 8), blocks(kWidth / 32, kWidth / 8);
             for (int step = 0; step < kSteps; ++step)
               Stencil<<<blocks, threads>>>(device_planes[step % 2].get(),
                                            device_planes[(step + 1) % 2].get(), kWidth);
             Finish();
           },
           [&](unsigned cores) {
             for (int step = 0; step < kSteps; ++step) {
               Spread(cores, kWidth, [&](unsigned, size_t begin, size_t end) {
                 StencilLoop(planes[step % 2].data(), planes[(step + 1) % 2].data(), kWidth, begin,
                             end);
               });
             }
           },
           [&] { return Close(device_planes[kSteps % 2].Values(), planes[kSteps % 2], 1e-5f); }});
}

}  // namespace

void MeasureStreaming() {
  MeasureAdd();
  MeasureReduction();
  MeasureHistogram();
  MeasureStencil();
}

}  // namespace farwarp::bench
