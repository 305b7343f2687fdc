// A graph built node by node, queried, cloned, updated in its executable form, with a child graph.
#include <vector>

#include "common.h"

__global__ void axpy(float a, const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
__global__ void square(float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] *= x[i];
}

static std::vector<int> calls;
static void CUDART_CB remember(void* data) {
  calls.push_back(static_cast<int>(reinterpret_cast<size_t>(data)));
}

int main() {
  const int n = 5000;
  const size_t bytes = n * sizeof(float);
  std::vector<float> x(n), y(n, -1.0f);
  for (int i = 0; i < n; ++i) x[i] = i % 31;
  float *dx, *dy;
  CHECK(cudaMalloc(&dx, bytes));
  CHECK(cudaMalloc(&dy, bytes));
  cudaGraph_t graph;
  CHECK(cudaGraphCreate(&graph, 0));

  cudaGraphNode_t upload, fill, multiply, child_node, download, host_node, empty;
  CHECK(cudaGraphAddMemcpyNode1D(&upload, graph, nullptr, 0, dx, x.data(), bytes,
                                 cudaMemcpyHostToDevice));
  cudaMemsetParams fill_params = {};
  fill_params.dst = dy;
  fill_params.elementSize = 4;
  fill_params.width = n;
  fill_params.height = 1;
  CHECK(cudaGraphAddMemsetNode(&fill, graph, nullptr, 0, &fill_params));
  float a = 2.0f;
  int count = n;
  void* arguments[] = {&a, &dx, &dy, &count};
  cudaKernelNodeParams kernel = {};
  kernel.func = reinterpret_cast<void*>(axpy);
  kernel.gridDim = dim3((n + 127) / 128);
  kernel.blockDim = dim3(128);
  kernel.kernelParams = arguments;
  cudaGraphNode_t both[] = {upload, fill};
  CHECK(cudaGraphAddKernelNode(&multiply, graph, both, 2, &kernel));

  cudaGraph_t child;
  CHECK(cudaGraphCreate(&child, 0));
  cudaGraphNode_t inner;
  void* square_arguments[] = {&dy, &count};
  cudaKernelNodeParams square_kernel = kernel;
  square_kernel.func = reinterpret_cast<void*>(square);
  square_kernel.kernelParams = square_arguments;
  CHECK(cudaGraphAddKernelNode(&inner, child, nullptr, 0, &square_kernel));
  CHECK(cudaGraphAddChildGraphNode(&child_node, graph, &multiply, 1, child));
  CHECK(cudaGraphAddEmptyNode(&empty, graph, nullptr, 0));
  CHECK(cudaGraphAddDependencies(graph, &child_node, &empty, nullptr, 1));
  CHECK(cudaGraphAddMemcpyNode1D(&download, graph, &empty, 1, y.data(), dy, bytes,
                                 cudaMemcpyDeviceToHost));
  cudaHostNodeParams host = {};
  host.fn = remember;
  host.userData = reinterpret_cast<void*>(1);
  CHECK(cudaGraphAddHostNode(&host_node, graph, &download, 1, &host));

  size_t nodes = 0, roots = 0, edges = 0, after = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
  CHECK(cudaGraphGetRootNodes(graph, nullptr, &roots));
  CHECK(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  CHECK(cudaGraphNodeGetDependentNodes(upload, nullptr, nullptr, &after));
  printf("%zu nodes %zu roots %zu edges, %zu behind the upload\n", nodes, roots, edges, after);
  cudaKernelNodeParams read = {};
  CHECK(cudaGraphKernelNodeGetParams(multiply, &read));
  printf("kernel: grid %u block %u, a = %g, n = %d\n", read.gridDim.x, read.blockDim.x,
         *static_cast<float*>(read.kernelParams[0]), *static_cast<int*>(read.kernelParams[3]));

  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  cudaGraphExec_t exec;
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  const auto run = [&](const char* what) {
    CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaStreamSynchronize(stream));
    double sum = 0;
    for (float value : y) sum += value;
    printf("%s: y[7] = %g, y[30] = %g, sum %.1f, host calls", what, y[7], y[30], sum);
    for (int call : calls) printf(" %d", call);
    printf("\n");
  };
  run("first");
  run("again");

  // Changed parameters reach the executable graph, not the graph.
  a = -1.0f;
  CHECK(cudaGraphExecKernelNodeSetParams(exec, multiply, &kernel));
  run("a = -1");
  host.userData = reinterpret_cast<void*>(2);
  CHECK(cudaGraphExecHostNodeSetParams(exec, host_node, &host));
  fill_params.value = 0x40000000;  // 2.0f
  CHECK(cudaGraphExecMemsetNodeSetParams(exec, fill, &fill_params));
  run("fill 2");
  std::vector<float> other(n, 3.0f);
  CHECK(cudaGraphExecMemcpyNodeSetParams1D(exec, upload, dx, other.data(), bytes,
                                           cudaMemcpyHostToDevice));
  run("x = 3");
  CHECK(cudaGraphNodeSetEnabled(exec, multiply, 0));
  run("no axpy");
  unsigned enabled = 1;
  CHECK(cudaGraphNodeGetEnabled(exec, multiply, &enabled));
  printf("enabled %u\n", enabled);
  CHECK(cudaGraphNodeSetEnabled(exec, multiply, 1));

  // A whole update from a clone whose node was changed; then one whose shape differs.
  cudaGraph_t clone;
  CHECK(cudaGraphClone(&clone, graph));
  cudaGraphNode_t in_clone;
  CHECK(cudaGraphNodeFindInClone(&in_clone, multiply, clone));
  a = 0.5f;
  CHECK(cudaGraphKernelNodeSetParams(in_clone, &kernel));
  cudaGraphExecUpdateResultInfo info;
  CHECK(cudaGraphExecUpdate(exec, clone, &info));
  run("updated");
  cudaGraphNode_t extra;
  CHECK(cudaGraphAddEmptyNode(&extra, clone, nullptr, 0));
  const cudaError_t refused = cudaGraphExecUpdate(exec, clone, &info);
  printf("other shape: %s, result %d\n", cudaGetErrorName(refused), static_cast<int>(info.result));
  cudaGetLastError();
  run("unchanged");
  CHECK(cudaGraphDestroyNode(extra));

  // Cycles cannot be instantiated.
  CHECK(cudaGraphAddDependencies(clone, &in_clone, &in_clone + 0, nullptr, 0));
  cudaGraphNode_t first, second;
  CHECK(cudaGraphAddEmptyNode(&first, clone, nullptr, 0));
  CHECK(cudaGraphAddEmptyNode(&second, clone, &first, 1));
  CHECK(cudaGraphAddDependencies(clone, &second, &first, nullptr, 1));
  cudaGraphExec_t cyclic;
  printf("cycle: %s\n", cudaGetErrorName(cudaGraphInstantiate(&cyclic, clone, 0)));
  cudaGetLastError();
  CHECK(cudaGraphExecDestroy(exec));
  CHECK(cudaGraphDestroy(clone));
  CHECK(cudaGraphDestroy(child));
  CHECK(cudaGraphDestroy(graph));
  CHECK(cudaFree(dx));
  CHECK(cudaFree(dy));
  return 0;
}
