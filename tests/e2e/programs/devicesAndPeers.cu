// Every device of the machine: the same work on each, copies between each pair, peer access, and what belongs to one device only.
#include <thread>
#include <vector>

#include "common.h"

__global__ void Scale(int* data, int n, int factor) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) data[i] *= factor;
}
__global__ void Gather(int* out, const int* from, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) out[i] = from[n - 1 - i];
}
__device__ int counter;
__global__ void Count(int by) { atomicAdd(&counter, by); }

int main() {
  const int n = 4096;
  int devices = 0;
  CHECK(cudaGetDeviceCount(&devices));
  bool ok = devices > 0;
  std::vector<int> in(n), out(n);
  for (int i = 0; i < n; ++i) in[i] = i - 1000;
  std::vector<int*> data(devices);
  std::vector<cudaStream_t> streams(devices);
  for (int d = 0; d < devices; ++d) {
    CHECK(cudaSetDevice(d));
    CHECK(cudaStreamCreate(&streams[d]));
    CHECK(cudaMalloc(&data[d], n * sizeof(int)));
    CHECK(cudaMemcpyAsync(data[d], in.data(), n * sizeof(int), cudaMemcpyHostToDevice, streams[d]));
    Scale<<<4, 128, 0, streams[d]>>>(data[d], n, d + 2);
    Count<<<2, 32, 0, streams[d]>>>(d + 1);
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, data[d]));
    ok = ok && attributes.device == d && attributes.type == cudaMemoryTypeDevice;
  }
  for (int d = 0; d < devices; ++d) {
    CHECK(cudaSetDevice(d));
    CHECK(cudaStreamSynchronize(streams[d]));
    int count = 0;
    CHECK(cudaMemcpyFromSymbol(&count, counter, sizeof count));  // Each device has its own.
    CHECK(cudaMemcpy(out.data(), data[d], n * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; ++i) ok = ok && out[i] == in[i] * (d + 2);
    ok = ok && count == 64 * (d + 1);
  }
  // Copies between all pairs, without and with the devices named.
  for (int from = 0; from < devices; ++from) {
    for (int to = 0; to < devices; ++to) {
      CHECK(cudaSetDevice(to));
      int* copy;
      CHECK(cudaMalloc(&copy, n * sizeof(int)));
      CHECK(cudaMemcpyPeer(copy, to, data[from], from, n * sizeof(int)));
      CHECK(cudaMemcpy(out.data(), copy, n * sizeof(int), cudaMemcpyDefault));
      for (int i = 0; i < n; ++i) ok = ok && out[i] == in[i] * (from + 2);
      CHECK(cudaMemset(copy, 0, n * sizeof(int)));
      CHECK(cudaMemcpyPeerAsync(copy, to, data[from], from, n / 2 * sizeof(int), streams[to]));
      CHECK(cudaMemcpyAsync(copy + n / 2, data[from] + n / 2, n / 2 * sizeof(int), cudaMemcpyDefault, streams[to]));
      CHECK(cudaMemcpyAsync(out.data(), copy, n * sizeof(int), cudaMemcpyDeviceToHost, streams[to]));
      CHECK(cudaStreamSynchronize(streams[to]));
      for (int i = 0; i < n; ++i) ok = ok && out[i] == in[i] * (from + 2);
      int can = 0;
      CHECK(cudaDeviceCanAccessPeer(&can, to, from));
      ok = ok && (from != to || can == 0);  // A device is no peer of itself.
      if (can) {
        CHECK(cudaDeviceEnablePeerAccess(from, 0));
        ok = ok && cudaDeviceEnablePeerAccess(from, 0) == cudaErrorPeerAccessAlreadyEnabled;
        cudaGetLastError();
        Gather<<<4, 128, 0, streams[to]>>>(copy, data[from], n);
        CHECK(cudaMemcpyAsync(out.data(), copy, n * sizeof(int), cudaMemcpyDeviceToHost, streams[to]));
        CHECK(cudaStreamSynchronize(streams[to]));
        for (int i = 0; i < n; ++i) ok = ok && out[i] == in[n - 1 - i] * (from + 2);
        CHECK(cudaDeviceDisablePeerAccess(from));
      }
      CHECK(cudaFree(copy));
    }
  }
  // Threads begin at device 0, whatever others chose.
  CHECK(cudaSetDevice(devices - 1));
  int seen = -1;
  std::thread([&] { CHECK(cudaGetDevice(&seen)); }).join();
  ok = ok && seen == 0;
  const cudaError_t none = cudaSetDevice(devices);
  std::printf("one too many: %s\n", cudaGetErrorName(none));
  ok = ok && none == cudaErrorInvalidDevice;
  cudaGetLastError();
  CHECK(cudaSetDevice(0));
  const cudaError_t self = cudaDeviceEnablePeerAccess(0, 0);
  std::printf("its own peer: %s\n", cudaGetErrorName(self));
  ok = ok && self == cudaErrorInvalidDevice;
  cudaGetLastError();
  return Finish("devicesAndPeers", ok);
}
