// Dynamic shared memory: several arrays carved out of one, more than the default limit by opting in, and requests that fail.
#include <vector>

#include "common.h"

// Bytes of a block's dynamic memory: n doubles, n ints, then n chars.
__global__ void Carve(const double* in, double* out, int n) {
  extern __shared__ double doubles[];
  int* ints = reinterpret_cast<int*>(doubles + n);
  char* chars = reinterpret_cast<char*>(ints + n);
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    doubles[i] = in[blockIdx.x * n + i];
    ints[i] = i * 3;
    chars[i] = static_cast<char>(i % 100);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const int j = n - 1 - i;
    out[blockIdx.x * n + i] = doubles[j] + ints[j] + chars[j];
  }
}

// Static and dynamic memory side by side must not overlap.
__global__ void Both(int* out, int n) {
  __shared__ int fixed[64];
  extern __shared__ double raw[];
  int* dynamic = reinterpret_cast<int*>(raw);
  for (int i = threadIdx.x; i < n; i += blockDim.x) dynamic[i] = -1;
  __syncthreads();
  if (threadIdx.x < 64) fixed[threadIdx.x] = 1000 + threadIdx.x;
  __syncthreads();
  int sum = threadIdx.x < 64 ? fixed[threadIdx.x] : 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += dynamic[i];
  atomicAdd(out, sum);
}

int main() {
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  const int blocks = 3, large = static_cast<int>(properties.sharedMemPerBlockOptin / 13 / 8 * 8);
  std::vector<double> in(blocks * large), got(blocks * large);
  Random random(2);
  for (double& value : in) value = random.Uniform(-1.0f, 1.0f);
  double *d_in, *d_out;
  CHECK(cudaMalloc(&d_in, in.size() * sizeof(double)));
  CHECK(cudaMalloc(&d_out, in.size() * sizeof(double)));
  CHECK(cudaMemcpy(d_in, in.data(), in.size() * sizeof(double), cudaMemcpyHostToDevice));
  bool ok = true;
  for (const int n : {1, 33, 1000, large}) {
    const size_t bytes = n * (sizeof(double) + sizeof(int) + 1);
    if (bytes > properties.sharedMemPerBlock) {
      Carve<<<blocks, 128, bytes>>>(d_in, d_out, n);
      const cudaError_t refused = cudaGetLastError();
      std::printf("without opting in: %s\n", cudaGetErrorName(refused));
      ok = ok && refused == cudaErrorInvalidValue;
      CHECK(cudaFuncSetAttribute(Carve, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
    }
    Carve<<<blocks, 128, bytes>>>(d_in, d_out, n);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(got.data(), d_out, blocks * n * sizeof(double), cudaMemcpyDeviceToHost));
    int wrong = 0;
    for (int i = 0; i < blocks * n; ++i) {
      const int j = n - 1 - i % n;
      wrong += got[i] != in[i / n * n + j] + j * 3 + j % 100;
    }
    std::printf("%d elements: %d wrong, checksum %016llx\n", n, wrong,
                (unsigned long long)Checksum(got.data(), blocks * n * sizeof(double)));
    ok = ok && wrong == 0;
  }
  int* sum = reinterpret_cast<int*>(d_out);
  CHECK(cudaMemset(sum, 0, sizeof(int)));
  Both<<<2, 96, 500 * sizeof(int)>>>(sum, 500);
  int total = 0;
  CHECK(cudaMemcpy(&total, sum, sizeof total, cudaMemcpyDeviceToHost));
  std::printf("static beside dynamic: %d\n", total);
  ok = ok && total == 2 * (64 * 1000 + 63 * 32 - 500);
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, Both));
  std::printf("static %zu\n", attributes.sharedSizeBytes);
  ok = ok && attributes.sharedSizeBytes == 256;
  ok = ok && cudaFuncSetAttribute(Carve, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(properties.sharedMemPerBlockOptin) + 1) != cudaSuccess;
  cudaGetLastError();
  return Finish("dynamicShared", ok);
}
