// Global variables on the device: initialised and zeroed, written and read through symbols, with
// offsets, asynchronously, by kernels, and by address.
#include <cstring>
#include <vector>

#include "common.h"

struct Settings {
  int scale;
  double bias;
  char name[16];
};

__device__ int table[64] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ unsigned counter;
__constant__ Settings settings;
__device__ double results[64];
static __device__ int hidden = 42;

__global__ void Compute() {
  const int i = threadIdx.x;
  results[i] = table[i] * settings.scale + settings.bias + settings.name[i % 8];
  atomicAdd(&counter, static_cast<unsigned>(table[i] + hidden));
}

int main() {
  int host_table[64];
  CHECK(cudaMemcpyFromSymbol(host_table, table, sizeof(host_table)));
  const int first[8] = {3, 1, 4, 1, 5, 9, 2, 6};
  bool ok = std::memcmp(host_table, first, sizeof(first)) == 0 && host_table[8] == 0;

  // The second half is replaced through an offset.
  for (int i = 32; i < 64; ++i) host_table[i] = i * i;
  CHECK(cudaMemcpyToSymbol(table, host_table + 32, 32 * sizeof(int), 32 * sizeof(int)));

  Settings host_settings = {7, 0.5, "farther"};
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  CHECK(cudaMemcpyToSymbolAsync(settings, &host_settings, sizeof(host_settings), 0,
                                cudaMemcpyHostToDevice, stream));
  Compute<<<1, 64, 0, stream>>>();
  CHECK(cudaGetLastError());
  double host_results[64];
  CHECK(cudaMemcpyFromSymbolAsync(host_results, results, sizeof(host_results), 0,
                                  cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));

  unsigned expected_counter = 0;
  for (int i = 0; i < 64; ++i) {
    const double expected = host_table[i] * 7 + 0.5 + host_settings.name[i % 8];
    ok = ok && host_results[i] == expected;
    expected_counter += static_cast<unsigned>(host_table[i] + 42);
  }
  unsigned host_counter = 0;
  CHECK(cudaMemcpyFromSymbol(&host_counter, counter, sizeof(host_counter)));
  ok = ok && host_counter == expected_counter;

  // The symbol's address is an ordinary device pointer.
  size_t bytes = 0;
  void* address = nullptr;
  CHECK(cudaGetSymbolSize(&bytes, table));
  CHECK(cudaGetSymbolAddress(&address, table));
  ok = ok && bytes == sizeof(host_table);
  CHECK(cudaMemset(address, 0, bytes / 2));
  int again[64];
  CHECK(cudaMemcpy(again, address, sizeof(again), cudaMemcpyDeviceToHost));
  ok = ok && again[0] == 0 && again[31] == 0 && again[32] == 1024 && again[63] == 63 * 63;
  CHECK(cudaStreamDestroy(stream));

  // A copy that would leave the symbol is refused.
  const cudaError_t beyond = cudaMemcpyToSymbol(counter, host_table, sizeof(host_table));
  ok = ok && beyond == cudaErrorInvalidValue && cudaGetLastError() == cudaErrorInvalidValue;

  std::printf("deviceGlobals: counter %u, symbol of %zu bytes, beyond its end: %s\n", host_counter,
              bytes, cudaGetErrorName(beyond));
  std::printf("checksum %016llx %016llx\n",
              (unsigned long long)Checksum(host_results, sizeof(host_results)),
              (unsigned long long)Checksum(again, sizeof(again)));
  return Finish("deviceGlobals", ok);
}
