// A program of three files compiled for separate linking (-rdc=true): device functions and
// variables of other files, one of them managed, a table of device functions, a constant.
#include <cstdio>

#include "common.h"
#include "rdcParts.h"

__device__ Operation table[2] = {Twice, Square};

__global__ void Apply(int* values, int n, int which) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  values[i] = table[which](values[i]) + bias + weights[i % kWeights];
  atomicAdd(&calls, 1);
}

__global__ void Sum(const int* values, int n) {
  int sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += values[i];
  AddToTotal(sum);
}

int main() {
  constexpr int kCount = 1000;
  int host[kCount];
  for (int i = 0; i < kCount; ++i) host[i] = i;
  int* values = nullptr;
  CHECK(cudaMalloc(&values, sizeof host));
  CHECK(cudaMemcpy(values, host, sizeof host, cudaMemcpyHostToDevice));
  const int new_weights[kWeights] = {1, 20, 30, 40};
  CHECK(cudaMemcpyToSymbol(weights, new_weights, sizeof new_weights));
  Apply<<<(kCount + 127) / 128, 128>>>(values, kCount, 0);
  CHECK(cudaGetLastError());
  SetBias(7);  // In another file.
  Apply<<<(kCount + 127) / 128, 128>>>(values, kCount, 1);
  CHECK(cudaGetLastError());
  Sum<<<1, 256>>>(values, kCount);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(host, values, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(cudaDeviceSynchronize());
  long expected = 0;
  for (int i = 0; i < kCount; ++i) {
    const int once = 2 * i + 3 + new_weights[i % kWeights];
    const int twice = once * once + 7 + new_weights[i % kWeights];
    if (host[i] != twice) {
      std::printf("value %d is %d, not %d\n", i, host[i], twice);
      return 1;
    }
    expected += twice;
  }
  int total_now = 0;
  CHECK(cudaMemcpyFromSymbol(&total_now, total, sizeof total_now));
  std::printf("calls %d, total %d, expected %d\n", calls, total_now,
              static_cast<int>(expected));
  CHECK(cudaFree(values));
  return calls == 2 * kCount && total_now == static_cast<int>(expected) ? 0 : 1;
}
