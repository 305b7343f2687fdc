// Stream-ordered allocation: the device's own pool, a pool with a threshold, attributes, order across streams, reuse, and misuse.
#include <vector>

#include "common.h"

__global__ void Fill(int* data, int n, int value) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) data[i] = value + i;
}
__global__ void AddTo(int* into, const int* from, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) into[i] += from[i];
}

static uint64_t Attribute(cudaMemPool_t pool, cudaMemPoolAttr which) {
  uint64_t value = 0;
  CHECK(cudaMemPoolGetAttribute(pool, which, &value));
  return value;
}

int main() {
  const int n = 10000, rounds = 8;
  const size_t bytes = n * sizeof(int);
  int supported = 0;
  CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
  if (!supported) {
    std::printf("no pools\n");
    return Finish("memoryPools", true);
  }
  cudaStream_t stream, other;
  cudaEvent_t ready;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  CHECK(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
  std::vector<int> out(n);
  bool ok = true;

  // Temporaries come and go in the order of the stream.
  int* sum;
  CHECK(cudaMallocAsync(&sum, bytes, stream));
  CHECK(cudaMemsetAsync(sum, 0, bytes, stream));
  for (int round = 0; round < rounds; ++round) {
    int* temporary;
    CHECK(cudaMallocAsync(&temporary, bytes, stream));
    Fill<<<8, 128, 0, stream>>>(temporary, n, round);
    AddTo<<<8, 128, 0, stream>>>(sum, temporary, n);
    CHECK(cudaFreeAsync(temporary, stream));
  }
  // Another stream reads behind an event, and frees what it did not allocate.
  CHECK(cudaEventRecord(ready, stream));
  CHECK(cudaStreamWaitEvent(other, ready, 0));
  CHECK(cudaMemcpyAsync(out.data(), sum, bytes, cudaMemcpyDeviceToHost, other));
  CHECK(cudaFreeAsync(sum, other));
  CHECK(cudaStreamSynchronize(other));
  for (int i = 0; i < n; ++i) ok = ok && out[i] == rounds * i + rounds * (rounds - 1) / 2;
  std::printf("sum %016llx\n", (unsigned long long)Checksum(out.data(), bytes));

  cudaMemPool_t standard, own;
  CHECK(cudaDeviceGetDefaultMemPool(&standard, 0));
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = 0;
  CHECK(cudaMemPoolCreate(&own, &properties));
  uint64_t threshold = 64 << 20;
  CHECK(cudaMemPoolSetAttribute(own, cudaMemPoolAttrReleaseThreshold, &threshold));
  ok = ok && Attribute(own, cudaMemPoolAttrReleaseThreshold) == threshold && Attribute(own, cudaMemPoolAttrUsedMemCurrent) == 0;

  int *a, *b;
  CHECK(cudaMallocFromPoolAsync(&a, 1 << 20, own, stream));
  CHECK(cudaMallocFromPoolAsync(&b, 3 << 20, own, stream));
  Fill<<<4, 64, 0, stream>>>(a, 1000, 1);
  Fill<<<4, 64, 0, stream>>>(b, 1000, 2);
  AddTo<<<4, 64, 0, stream>>>(a, b, 1000);
  CHECK(cudaMemcpyAsync(out.data(), a, 1000 * sizeof(int), cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  for (int i = 0; i < 1000; ++i) ok = ok && out[i] == 2 * i + 3;
  const uint64_t used = Attribute(own, cudaMemPoolAttrUsedMemCurrent);
  ok = ok && used >= 4 << 20 && Attribute(own, cudaMemPoolAttrReservedMemCurrent) >= used;
  std::printf("used: %s\n", used >= 4 << 20 ? "both" : "too little");
  CHECK(cudaFreeAsync(a, stream));
  CHECK(cudaFreeAsync(b, stream));
  CHECK(cudaStreamSynchronize(stream));
  ok = ok && Attribute(own, cudaMemPoolAttrUsedMemCurrent) == 0 && Attribute(own, cudaMemPoolAttrUsedMemHigh) >= used;
  // Below the threshold the pool keeps its memory until it is trimmed.
  std::printf("kept after freeing: %s\n", Attribute(own, cudaMemPoolAttrReservedMemCurrent) >= 4 << 20 ? "yes" : "no");
  CHECK(cudaMemPoolTrimTo(own, 0));
  std::printf("reserved after trimming: %llu\n", (unsigned long long)Attribute(own, cudaMemPoolAttrReservedMemCurrent));
  ok = ok && Attribute(own, cudaMemPoolAttrReservedMemCurrent) == 0;

  // The pool of the device can be changed, and cudaMallocAsync follows.
  CHECK(cudaDeviceSetMemPool(0, own));
  cudaMemPool_t current;
  CHECK(cudaDeviceGetMemPool(&current, 0));
  CHECK(cudaMallocAsync(&a, 1 << 20, stream));
  CHECK(cudaStreamSynchronize(stream));
  ok = ok && current == own && Attribute(own, cudaMemPoolAttrUsedMemCurrent) >= 1 << 20;
  CHECK(cudaFree(a));  // The synchronous call frees it as well.
  ok = ok && Attribute(own, cudaMemPoolAttrUsedMemCurrent) == 0;
  CHECK(cudaDeviceSetMemPool(0, standard));

  int* never = reinterpret_cast<int*>(8);
  const cudaError_t too_much = cudaMallocAsync(&never, size_t{1} << 50, stream);
  std::printf("too much: %s\n", cudaGetErrorName(too_much));
  ok = ok && too_much == cudaErrorMemoryAllocation;
  cudaGetLastError();
  CHECK(cudaMemPoolDestroy(own));
  CHECK(cudaStreamDestroy(stream));
  CHECK(cudaStreamDestroy(other));
  CHECK(cudaEventDestroy(ready));
  return Finish("memoryPools", ok);
}
