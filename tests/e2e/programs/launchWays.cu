// Launches the same kernel in every way the runtime offers, and asks what is known about it.
#include <cuda.h>

#include <vector>

#include "common.h"

constexpr int kElements = 10000;

__global__ void Affine(const int* in, int* out, int n, int scale, int add) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = in[i] * scale + add;
}

// Reverses each block's part through dynamic shared memory.
__global__ void Reverse(int* data) {
  extern __shared__ int part[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  part[threadIdx.x] = data[i];
  __syncthreads();
  data[i] = part[blockDim.x - 1 - threadIdx.x];
}

struct Point {
  float x, y;
  short tag[3];
};
__global__ void ByValue(Point point, double factor, char letter, long long* out) {
  out[threadIdx.x] = static_cast<long long>((point.x + point.y) * factor) + point.tag[2] + letter;
}

static std::vector<int> input(kElements);
static int *device_in, *device_out;
static bool all_ok = true;

static void Report(const char* what, bool ok) {
  std::printf("launchWays: %s: %s\n", what, ok ? "right" : "wrong");
  all_ok = all_ok && ok;
}

// Checks and clears the output.
static bool Result(int scale, int add) {
  std::vector<int> output(kElements);
  CHECK(cudaMemcpy(output.data(), device_out, kElements * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaMemset(device_out, 0, kElements * sizeof(int)));
  for (int i = 0; i < kElements; ++i) {
    if (output[i] != input[i] * scale + add) return false;
  }
  return true;
}

static void LaunchInEveryWay() {
  const dim3 block(128), grid((kElements + 127) / 128);
  int n = kElements, scale = 2, add = 1;
  void* arguments[] = {&device_in, &device_out, &n, &scale, &add};

  Affine<<<grid, block>>>(device_in, device_out, n, scale, add);
  CHECK(cudaGetLastError());
  Report("triple brackets", Result(2, 1));

  scale = 3;
  CHECK(cudaLaunchKernel(reinterpret_cast<const void*>(&Affine), grid, block, arguments, 0, 0));
  Report("cudaLaunchKernel", Result(3, 1));

  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  CHECK(cudaLaunchKernelEx(&config, Affine, (const int*)device_in, device_out, n, 5, 7));
  CHECK(cudaStreamSynchronize(stream));
  Report("cudaLaunchKernelEx", Result(5, 7));

  add = 9;
  CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(&Affine), dim3(2), dim3(32),
                                    arguments, 0, stream));
  CHECK(cudaStreamSynchronize(stream));
  std::vector<int> some(64);
  CHECK(cudaMemcpy(some.data(), device_out, 64 * sizeof(int), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0; i < 64; ++i) ok = ok && some[i] == input[i] * 3 + 9;
  Report("cudaLaunchCooperativeKernel", ok);

  // The driver launches the runtime's kernel.
  cudaFunction_t function;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(&Affine)));
  CHECK(
      cudaGetDriverEntryPointByVersion("cuLaunchKernel", &entry, 12000, cudaEnableDefault, &found));
  ok = found == cudaDriverEntryPointSuccess && entry != nullptr;
  scale = 11;
  if (ok) {
    const auto launch = reinterpret_cast<decltype(&cuLaunchKernel)>(entry);
    ok = launch(function, grid.x, 1, 1, block.x, 1, 1, 0, nullptr, arguments, nullptr) ==
         CUDA_SUCCESS;
  }
  Report("cuLaunchKernel by its entry point", ok && Result(11, 9));
  CHECK(cudaStreamDestroy(stream));
}

static void SharedMemory() {
  std::vector<int> data(1024);
  CHECK(cudaMemcpy(device_out, input.data(), 1024 * sizeof(int), cudaMemcpyHostToDevice));
  Reverse<<<4, 256, 256 * sizeof(int)>>>(device_out);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(data.data(), device_out, 1024 * sizeof(int), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0; i < 1024; ++i) ok = ok && data[i] == input[i / 256 * 256 + 255 - i % 256];
  Report("dynamic shared memory", ok);
}

static void Parameters() {
  long long values[32], *device;
  CHECK(cudaMalloc(&device, sizeof(values)));
  const Point point = {1.5f, 2.25f, {1, 2, 3}};
  ByValue<<<1, 32>>>(point, 8.0, 'A', device);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(values, device, sizeof(values), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device));
  bool ok = true;
  for (long long value : values) ok = ok && value == 30 + 3 + 'A';
  Report("structures and small types by value", ok);
}

static void Facts() {
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, Reverse));
  Report("function attributes", attributes.maxThreadsPerBlock >= 256 && attributes.numRegs > 0 &&
                                    attributes.sharedSizeBytes == 0 && attributes.ptxVersion > 0);
  CHECK(cudaFuncSetAttribute(Reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 32 << 10));
  CHECK(cudaFuncGetAttributes(&attributes, Reverse));
  Report("dynamic shared memory limit", attributes.maxDynamicSharedSizeBytes >= 32 << 10);

  int blocks = 0, least_grid = 0, best_block = 0;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, Reverse, 256, 1024));
  CHECK(cudaOccupancyMaxPotentialBlockSize(&least_grid, &best_block, Affine));
  Report("occupancy", blocks >= 1 && least_grid >= 1 && best_block >= 32 && best_block % 32 == 0);

  const char* name = nullptr;
  CHECK(cudaFuncGetName(&name, reinterpret_cast<const void*>(&Affine)));
  std::printf("launchWays: the kernel is called %s\n", name);
}

int main() {
  Random random(11);
  for (int& x : input) x = static_cast<int>(random.Next() % 10000);
  const size_t bytes = kElements * sizeof(int);
  CHECK(cudaMalloc(&device_in, bytes));
  CHECK(cudaMalloc(&device_out, bytes));
  CHECK(cudaMemcpy(device_in, input.data(), bytes, cudaMemcpyHostToDevice));
  LaunchInEveryWay();
  SharedMemory();
  Parameters();
  Facts();
  CHECK(cudaFree(device_in));
  CHECK(cudaFree(device_out));
  return Finish("launchWays", all_ok);
}
