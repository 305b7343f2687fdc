// Kernels that print: all conversions that CUDA's printf knows, and from where the text comes out.
#include "common.h"

__global__ void Print(const char* name) {
  if (threadIdx.x == 0) {
    printf("%s: int %d, unsigned %u, hex %08x, long %lld, char %c, percent %%\n", name, -7,
           4000000000u, 0xbeef, 1ll << 40, 'q');
    printf("precision %.2000000000f, width %05d\n", 0.25, 42);
    printf("double %.3f, exponent %e, general %g, float as double %5.1f|\n", 3.14159, 12345.678,
           0.5, 2.5f);
  }
}

__global__ void PrintEach() {
  printf("block %d thread %d\n", blockIdx.x, threadIdx.x);
}

int main() {
  char* name;
  CHECK(cudaMalloc(&name, 16));
  CHECK(cudaMemcpy(name, "device text", 12, cudaMemcpyHostToDevice));
  Print<<<1, 32>>>(name);
  CHECK(cudaDeviceSynchronize());
  PrintEach<<<1, 4>>>();
  CHECK(cudaDeviceSynchronize());
  CHECK(cudaFree(name));
  return Finish("kernelPrintf", true);
}
