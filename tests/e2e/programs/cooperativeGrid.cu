// Cooperative launches: a reduction whose blocks meet at grid barriers, through each way there is to
// launch it, and the launches that must be refused.
#include <cooperative_groups.h>

#include <vector>

#include "common.h"

namespace cg = cooperative_groups;

__global__ void reduce(const int* in, int* partial, int* out, int n) {
  cg::grid_group grid = cg::this_grid();
  int sum = 0;
  for (int i = static_cast<int>(grid.thread_rank()); i < n; i += static_cast<int>(grid.size())) {
    sum += in[i];
  }
  partial[grid.thread_rank()] = sum;
  grid.sync();
  for (int half = static_cast<int>(grid.size()) / 2; half > 0; half /= 2) {
    if (static_cast<int>(grid.thread_rank()) < half) {
      partial[grid.thread_rank()] += partial[grid.thread_rank() + half];
    }
    grid.sync();
  }
  if (grid.thread_rank() == 0) *out = partial[0];
}

int main() {
  int supported = 0, processors = 0, per_processor = 0;
  CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrCooperativeLaunch, 0));
  CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, reduce, 64, 0));
  printf("cooperative launch: %d\n", supported);
  int n = 20000, blocks = 4;
  std::vector<int> in(n);
  long long expected = 0;
  for (int i = 0; i < n; ++i) expected += in[i] = i % 101 - 50;
  int *data, *partial, *out;
  CHECK(cudaMalloc(&data, n * sizeof(int)));
  CHECK(cudaMalloc(&partial, 4096 * sizeof(int)));
  CHECK(cudaMalloc(&out, sizeof(int)));
  CHECK(cudaMemcpy(data, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  void* arguments[] = {&data, &partial, &out, &n};
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  bool ok = true;
  const auto check = [&](const char* how) {
    int result = 0;
    CHECK(cudaMemcpyAsync(&result, out, sizeof result, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    printf("%s: %d\n", how, result);
    ok = ok && result == expected;
    CHECK(cudaMemsetAsync(out, 0, sizeof(int), stream));
  };
  CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(reduce), dim3(blocks), dim3(64),
                                    arguments, 0, stream));
  check("cooperative");

  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(64);
  config.stream = stream;
  cudaLaunchAttribute attribute[2] = {};
  attribute[0].id = cudaLaunchAttributeCooperative;
  attribute[0].val.cooperative = 1;
  attribute[1].id = cudaLaunchAttributePriority;
  attribute[1].val.priority = 0;
  config.attrs = attribute;
  config.numAttrs = 2;
  CHECK(cudaLaunchKernelExC(&config, reinterpret_cast<void*>(reduce), arguments));
  check("by attribute");

  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(reduce), dim3(blocks), dim3(64),
                                    arguments, 0, stream));
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; ++i) {
    CHECK(cudaGraphLaunch(exec, stream));
    check("in a graph");
  }

  // More blocks than can be resident at once cannot meet.
  const cudaError_t large = cudaLaunchCooperativeKernel(
      reinterpret_cast<void*>(reduce), dim3(processors * per_processor + 1), dim3(64), arguments, 0,
      stream);
  const cudaError_t at_wait = cudaStreamSynchronize(stream);
  const cudaError_t either = large != cudaSuccess ? large : at_wait;
  printf("too large: %s\n", cudaGetErrorName(either));
  cudaGetLastError();
  ok = ok && either == cudaErrorCooperativeLaunchTooLarge;

  // Blocks of a cluster of one are ordinary blocks; other clusters depend on the device.
  attribute[0].id = cudaLaunchAttributeClusterDimension;
  attribute[0].val.clusterDim = {1, 1, 1};
  attribute[1].id = cudaLaunchAttributeCooperative;
  attribute[1].val.cooperative = 1;
  CHECK(cudaLaunchKernelExC(&config, reinterpret_cast<void*>(reduce), arguments));
  check("cluster of one");
  CHECK(cudaGraphExecDestroy(exec));
  CHECK(cudaGraphDestroy(graph));
  return Finish("cooperativeGrid", ok);
}
