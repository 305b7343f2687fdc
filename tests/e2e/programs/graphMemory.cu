// Stream-ordered allocation: pools, reuse in stream order, and allocations inside of graphs.
#include <vector>

#include "common.h"

__global__ void fill(int* data, int base, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] = base + i;
}
__global__ void accumulate(const int* data, int* sum, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(sum, data[i] % 7);
}

int main() {
  const int n = 10000;
  const size_t bytes = n * sizeof(int);
  cudaStream_t stream, other;
  CHECK(cudaStreamCreate(&stream));
  CHECK(cudaStreamCreate(&other));
  int* sum;
  CHECK(cudaMallocAsync(&sum, sizeof(int), stream));
  CHECK(cudaMemsetAsync(sum, 0, sizeof(int), stream));
  for (int round = 0; round < 50; ++round) {
    int* scratch;
    CHECK(cudaMallocAsync(&scratch, bytes, stream));
    fill<<<(n + 255) / 256, 256, 0, stream>>>(scratch, round, n);
    accumulate<<<(n + 255) / 256, 256, 0, stream>>>(scratch, sum, n);
    CHECK(cudaFreeAsync(scratch, stream));
  }
  int total = 0;
  CHECK(cudaMemcpyAsync(&total, sum, sizeof total, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  printf("total %d\n", total);

  // Freed in one stream, used in another behind an event.
  int *first, *second;
  cudaEvent_t event;
  CHECK(cudaEventCreate(&event));
  CHECK(cudaMallocAsync(&first, bytes, stream));
  fill<<<(n + 255) / 256, 256, 0, stream>>>(first, 5, n);
  CHECK(cudaEventRecord(event, stream));
  CHECK(cudaStreamWaitEvent(other, event, 0));
  CHECK(cudaMallocAsync(&second, bytes, other));
  CHECK(cudaMemcpyAsync(second, first, bytes, cudaMemcpyDeviceToDevice, other));
  CHECK(cudaFreeAsync(first, other));
  std::vector<int> host(n);
  CHECK(cudaMemcpyAsync(host.data(), second, bytes, cudaMemcpyDeviceToHost, other));
  CHECK(cudaStreamSynchronize(other));
  printf("%d %d\n", host[0], host[n - 1]);
  CHECK(cudaFreeAsync(second, other));

  // A pool of one's own.
  cudaMemPool_t pool, default_pool, current;
  cudaMemPoolProps props = {};
  props.allocType = cudaMemAllocationTypePinned;
  props.location.type = cudaMemLocationTypeDevice;
  props.location.id = 0;
  CHECK(cudaMemPoolCreate(&pool, &props));
  unsigned long long threshold = 1 << 20, read = 0;
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &read));
  CHECK(cudaDeviceGetDefaultMemPool(&default_pool, 0));
  CHECK(cudaDeviceGetMemPool(&current, 0));
  printf("threshold %llu, current is default: %d\n", read, current == default_pool);
  int* from_pool;
  CHECK(cudaMallocFromPoolAsync(&from_pool, bytes, pool, stream));
  fill<<<(n + 255) / 256, 256, 0, stream>>>(from_pool, 9, n);
  CHECK(cudaMemcpyAsync(host.data(), from_pool, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  unsigned long long used = 0;
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
  printf("%d, used at least what was asked for: %d\n", host[1], used >= bytes);
  CHECK(cudaFreeAsync(from_pool, stream));
  CHECK(cudaStreamSynchronize(stream));
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
  printf("used after: %llu\n", used);
  CHECK(cudaMemPoolTrimTo(pool, 0));
  CHECK(cudaMemPoolDestroy(pool));

  // Memory that lives inside of a graph.
  CHECK(cudaMemsetAsync(sum, 0, sizeof(int), stream));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  int* inside;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  CHECK(cudaMallocAsync(&inside, bytes, stream));
  fill<<<(n + 255) / 256, 256, 0, stream>>>(inside, 3, n);
  accumulate<<<(n + 255) / 256, 256, 0, stream>>>(inside, sum, n);
  CHECK(cudaFreeAsync(inside, stream));
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  for (int round = 0; round < 10; ++round) CHECK(cudaGraphLaunch(exec, stream));
  CHECK(cudaMemcpyAsync(&total, sum, sizeof total, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  printf("total of graphs %d\n", total);
  CHECK(cudaGraphExecDestroy(exec));
  CHECK(cudaGraphDestroy(graph));

  // Memory that outlives its graph's launch must be freed before the next.
  cudaGraphNode_t node;
  cudaMemAllocNodeParams alloc = {};
  alloc.poolProps = props;
  alloc.bytesize = bytes;
  CHECK(cudaGraphCreate(&graph, 0));
  CHECK(cudaGraphAddMemAllocNode(&node, graph, nullptr, 0, &alloc));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  CHECK(cudaGraphLaunch(exec, stream));
  fill<<<(n + 255) / 256, 256, 0, stream>>>(static_cast<int*>(alloc.dptr), 1, n);
  printf("again: %s\n", cudaGetErrorName(cudaGraphLaunch(exec, stream)));
  cudaGetLastError();
  CHECK(cudaFreeAsync(alloc.dptr, stream));
  CHECK(cudaGraphLaunch(exec, stream));
  CHECK(cudaFree(alloc.dptr));
  CHECK(cudaStreamSynchronize(stream));
  CHECK(cudaGraphExecDestroy(exec));
  CHECK(cudaGraphDestroy(graph));
  CHECK(cudaFreeAsync(sum, stream));
  CHECK(cudaDeviceSynchronize());
  return 0;
}
