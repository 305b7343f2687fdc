// Stream capture as frameworks use it: work of several streams, forked and joined by events, becomes
// one graph that is launched many times; and what capture forbids.
#include <vector>

#include "common.h"

__global__ void scale(float* data, float factor, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] *= factor;
}
__global__ void add(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

static int host_calls = 0;
static void CUDART_CB countCall(void* data) { ++*static_cast<int*>(data); }

static void expect(const char* what, cudaError_t got, cudaError_t wanted) {
  printf("%s: %s%s\n", what, cudaGetErrorName(got), got == wanted ? "" : " UNEXPECTED");
  cudaGetLastError();
}

int main() {
  const int n = 1 << 14;
  const size_t bytes = n * sizeof(float);
  std::vector<float> in(n), out(n);
  for (int i = 0; i < n; ++i) in[i] = (i % 97) * 0.5f;
  float *pinned_in, *pinned_out, *a, *b, *c;
  CHECK(cudaMallocHost(&pinned_in, bytes));
  CHECK(cudaMallocHost(&pinned_out, bytes));
  CHECK(cudaMalloc(&a, bytes));
  CHECK(cudaMalloc(&b, bytes));
  CHECK(cudaMalloc(&c, bytes));
  cudaStream_t main_stream, side;
  cudaEvent_t forked, copied, joined;
  CHECK(cudaStreamCreateWithFlags(&main_stream, cudaStreamNonBlocking));
  CHECK(cudaStreamCreate(&side));
  CHECK(cudaEventCreateWithFlags(&forked, cudaEventDisableTiming));
  CHECK(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
  CHECK(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));

  // The kernels' first use before capture, as programs do.
  scale<<<1, 1, 0, main_stream>>>(a, 1.0f, 0);
  add<<<1, 1, 0, main_stream>>>(a, b, c, 0);
  CHECK(cudaStreamSynchronize(main_stream));

  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
  CHECK(cudaMemcpyAsync(a, pinned_in, bytes, cudaMemcpyHostToDevice, main_stream));
  CHECK(cudaEventRecord(forked, main_stream));
  CHECK(cudaStreamWaitEvent(side, forked, 0));
  CHECK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, side));
  CHECK(cudaEventRecord(copied, side));
  scale<<<(n + 255) / 256, 256, 0, side>>>(b, 3.0f, n);
  CHECK(cudaEventRecord(joined, side));
  CHECK(cudaStreamWaitEvent(main_stream, copied, 0));
  scale<<<(n + 255) / 256, 256, 0, main_stream>>>(a, 2.0f, n);
  CHECK(cudaMemsetAsync(c, 0, bytes, main_stream));
  CHECK(cudaStreamWaitEvent(main_stream, joined, 0));
  add<<<(n + 255) / 256, 256, 0, main_stream>>>(a, b, c, n);
  CHECK(cudaMemcpyAsync(pinned_out, c, bytes, cudaMemcpyDeviceToHost, main_stream));
  CHECK(cudaLaunchHostFunc(main_stream, countCall, &host_calls));
  cudaStreamCaptureStatus status;
  CHECK(cudaStreamIsCapturing(side, &status));
  printf("side stream captures: %d\n", status == cudaStreamCaptureStatusActive);
  cudaGraph_t graph;
  CHECK(cudaStreamEndCapture(main_stream, &graph));
  CHECK(cudaStreamIsCapturing(side, &status));
  printf("side stream captures: %d\n", status == cudaStreamCaptureStatusActive);

  size_t nodes = 0, roots = 0, edges = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
  CHECK(cudaGraphGetRootNodes(graph, nullptr, &roots));
  CHECK(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  printf("%zu nodes, %zu roots, %zu edges\n", nodes, roots, edges);
  std::vector<cudaGraphNode_t> list(nodes);
  CHECK(cudaGraphGetNodes(graph, list.data(), &nodes));
  for (size_t i = 0; i < nodes; ++i) {
    cudaGraphNodeType type;
    size_t before = 0;
    CHECK(cudaGraphNodeGetType(list[i], &type));
    CHECK(cudaGraphNodeGetDependencies(list[i], nullptr, nullptr, &before));
    printf("node %zu: type %d after %zu\n", i, static_cast<int>(type), before);
  }

  cudaGraphExec_t exec;
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  CHECK(cudaGraphDestroy(graph));
  double sum = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < n; ++i) pinned_in[i] = in[i] + round;
    CHECK(cudaGraphLaunch(exec, main_stream));
    CHECK(cudaStreamSynchronize(main_stream));
    for (int i = 0; i < n; i += 111) sum += pinned_out[i];
    for (int i = 0; i < n; ++i) {
      if (pinned_out[i] != 5.0f * (in[i] + round)) {
        printf("round %d: element %d is %g\n", round, i, pinned_out[i]);
        return 1;
      }
    }
  }
  printf("sum %.1f, host calls %d\n", sum, host_calls);
  CHECK(cudaGraphExecDestroy(exec));

  // What capture forbids, and how it ends.
  void* memory = nullptr;
  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
  expect("malloc", cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  expect("end", cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeRelaxed));
  expect("malloc, relaxed", cudaMalloc(&memory, 16), cudaSuccess);
  expect("synchronize", cudaStreamSynchronize(main_stream), cudaErrorStreamCaptureUnsupported);
  expect("launch", cudaMemsetAsync(a, 0, 4, main_stream), cudaErrorStreamCaptureInvalidated);
  expect("end", cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(cudaFree(memory));
  CHECK(cudaStreamBeginCapture(side, cudaStreamCaptureModeThreadLocal));
  expect("legacy stream", cudaMemsetAsync(a, 0, 4, 0), cudaErrorStreamCaptureImplicit);
  expect("end", cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
  CHECK(cudaEventRecord(forked, main_stream));
  CHECK(cudaStreamWaitEvent(side, forked, 0));
  CHECK(cudaMemsetAsync(a, 0, 4, side));
  expect("end elsewhere", cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureUnmatched);
  expect("end", cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
  CHECK(cudaEventRecord(forked, main_stream));
  CHECK(cudaStreamWaitEvent(side, forked, 0));
  CHECK(cudaMemsetAsync(a, 0, 4, side));
  expect("event query", cudaEventQuery(forked), cudaErrorCapturedEvent);
  expect("end unjoined", cudaStreamEndCapture(main_stream, &graph),
         cudaErrorStreamCaptureUnjoined);
  CHECK(cudaEventRecord(joined, side));
  CHECK(cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeGlobal));
  expect("wait for work outside", cudaStreamWaitEvent(main_stream, joined, 0),
         cudaErrorStreamCaptureIsolation);
  expect("end", cudaStreamEndCapture(main_stream, &graph), cudaErrorStreamCaptureInvalidated);
  expect("end again", cudaStreamEndCapture(main_stream, &graph), cudaErrorIllegalState);
  CHECK(cudaDeviceSynchronize());
  return 0;
}
