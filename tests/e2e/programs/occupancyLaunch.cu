// The occupancy calculator, launch bounds and function attributes: what it says must be launchable and consistent.
#include <vector>

#include "common.h"

__global__ void Plain(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = in[i] * 2.0f;
}

__global__ void __launch_bounds__(256, 2) Bounded(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = in[i] + 1.0f;
}

// Many values live at once.
template <int kValues>
__global__ void Heavy(const float* in, float* out, int n) {
  float values[kValues];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
#pragma unroll
  for (int k = 0; k < kValues; ++k) values[k] = in[(i + k) % n];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < kValues; ++k) sum += values[k] * values[(k * 7 + 3) % kValues];
  out[i] = sum;
}

__global__ void Sharing(const float* in, float* out, int n) {
  extern __shared__ float staged[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  staged[threadIdx.x] = i < n ? in[i] : 0.0f;
  __syncthreads();
  if (i < n) out[i] = staged[blockDim.x - 1 - threadIdx.x];
}

static size_t FloatEach(int threads) { return threads * sizeof(float); }

template <typename Kernel>
static bool Examine(const char* name, Kernel kernel, size_t each, const float* in, float* out, int n) {
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, kernel));
  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  bool ok = attributes.maxThreadsPerBlock >= 32 && attributes.maxThreadsPerBlock <= device.maxThreadsPerBlock && attributes.numRegs > 0;
  int minimum = 0, best = 0;
  if (each != 0) {
    CHECK(cudaOccupancyMaxPotentialBlockSizeVariableSMem(&minimum, &best, kernel, FloatEach));
  } else {
    CHECK(cudaOccupancyMaxPotentialBlockSize(&minimum, &best, kernel, 0, 0));
  }
  ok = ok && best > 0 && best <= attributes.maxThreadsPerBlock && minimum >= device.multiProcessorCount;
  int previous = 1 << 30;
  for (int threads = 32; threads <= attributes.maxThreadsPerBlock; threads *= 2) {
    int blocks = -1;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, threads * each));
    ok = ok && blocks >= 1 && blocks <= previous && blocks * threads <= device.maxThreadsPerMultiProcessor;
    previous = blocks;
    kernel<<<(n + threads - 1) / threads, threads, threads * each>>>(in, out, n);  // What fits must run.
    CHECK(cudaGetLastError());
  }
  CHECK(cudaDeviceSynchronize());
  kernel<<<(n + best - 1) / best, best, best * each>>>(in, out, n);
  CHECK(cudaDeviceSynchronize());
  int none = -1;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&none, kernel, attributes.maxThreadsPerBlock, device.sharedMemPerMultiprocessor));
  std::printf("%s: at most %d threads, static %zu, too much shared memory %d blocks: %s\n", name, attributes.maxThreadsPerBlock,
              attributes.sharedSizeBytes, none, ok ? "ok" : "wrong");
  return ok && none == 0;
}

int main() {
  const int n = 5000;
  std::vector<float> in(n), got(n);
  Random random(6);
  for (float& value : in) value = random.Uniform(0.0f, 1.0f);
  float *d_in, *d_out;
  CHECK(cudaMalloc(&d_in, n * sizeof(float)));
  CHECK(cudaMalloc(&d_out, n * sizeof(float)));
  CHECK(cudaMemcpy(d_in, in.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  bool ok = Examine("plain", Plain, 0, d_in, d_out, n);
  CHECK(cudaMemcpy(got.data(), d_out, n * sizeof(float), cudaMemcpyDeviceToHost));
  for (int i = 0; i < n; ++i) ok = ok && got[i] == in[i] * 2.0f;
  ok &= Examine("bounded", Bounded, 0, d_in, d_out, n);
  ok &= Examine("heavy", Heavy<60>, 0, d_in, d_out, n);
  CHECK(cudaMemcpy(got.data(), d_out, n * sizeof(float), cudaMemcpyDeviceToHost));
  std::printf("heavy %016llx\n", (unsigned long long)Checksum(got.data(), n * sizeof(float)));
  ok &= Examine("sharing", Sharing, sizeof(float), d_in, d_out, n);
  size_t dynamic = 0;
  CHECK(cudaOccupancyAvailableDynamicSMemPerBlock(&dynamic, Sharing, 2, 128));
  int blocks = 0;
  CHECK(cudaFuncSetAttribute(Sharing, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic)));
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, Sharing, 128, dynamic));
  ok = ok && blocks >= 2;
  Bounded<<<1, 512>>>(d_in, d_out, n);
  const cudaError_t beyond = cudaGetLastError();
  std::printf("beyond the bounds: %s\n", cudaGetErrorName(beyond));
  ok = ok && beyond == cudaErrorLaunchOutOfResources;
  return Finish("occupancyLaunch", ok);
}
