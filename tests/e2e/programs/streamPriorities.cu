// Streams with priorities and flags, events with and without times, host functions between kernels, queries, and waiting orders.
#include <atomic>
#include <vector>

#include "common.h"

__global__ void Step(int* value, int factor, int addend) {
  if (threadIdx.x == 0) *value = *value * factor + addend;
}

__global__ void Busy(long long cycles, int* out) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
  if (threadIdx.x == 0) *out = 1;
}

struct Log {
  std::atomic<int> calls{0};
  int order[16] = {};
};
struct Entry {
  Log* log;
  int name;
};
static void CUDART_CB Note(void* data) {
  Entry* entry = static_cast<Entry*>(data);
  entry->log->order[entry->log->calls++] = entry->name;
}
static void CUDART_CB Callback(cudaStream_t, cudaError_t status, void* data) {
  if (status == cudaSuccess) Note(data);
}

int main() {
  int least = 0, greatest = 0, priority = 0;
  unsigned flags = 0;
  CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  bool ok = least >= greatest;
  std::vector<cudaStream_t> streams;
  for (int p = greatest; p <= least; ++p) {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, p));
    CHECK(cudaStreamGetPriority(stream, &priority));
    CHECK(cudaStreamGetFlags(stream, &flags));
    ok = ok && priority == p && flags == cudaStreamNonBlocking;
    streams.push_back(stream);
  }
  // Priorities outside the range are moved into it.
  cudaStream_t clamped;
  CHECK(cudaStreamCreateWithPriority(&clamped, cudaStreamDefault, greatest - 100));
  CHECK(cudaStreamGetPriority(clamped, &priority));
  ok = ok && priority == greatest;
  std::printf("priorities: %s\n", ok ? "ok" : "wrong");

  // Each stream has its own chain; the results do not depend on how they are interleaved.
  int *values, *flag;
  CHECK(cudaMalloc(&values, 64 * sizeof(int)));
  CHECK(cudaMalloc(&flag, sizeof(int)));
  CHECK(cudaMemset(values, 0, 64 * sizeof(int)));
  CHECK(cudaDeviceSynchronize());
  for (int round = 1; round <= 20; ++round) {
    for (size_t s = 0; s < streams.size(); ++s) Step<<<1, 32, 0, streams[s]>>>(values + s, 3, round);
  }
  CHECK(cudaDeviceSynchronize());
  int expected = 0, got[64];
  for (int round = 1; round <= 20; ++round) expected = static_cast<int>(static_cast<unsigned>(expected) * 3u + static_cast<unsigned>(round));
  CHECK(cudaMemcpy(got, values, sizeof got, cudaMemcpyDeviceToHost));
  for (size_t s = 0; s < streams.size(); ++s) ok = ok && got[s] == expected;
  std::printf("chains: %d\n", got[0]);

  // Host functions run between what is before and after them, one at a time.
  Log log;
  Entry entries[6];
  cudaStream_t first = streams.front(), second;
  CHECK(cudaStreamCreate(&second));
  cudaEvent_t done;
  CHECK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
  for (int i = 0; i < 3; ++i) {
    entries[i] = {&log, i};
    Step<<<1, 32, 0, first>>>(values + 10, 2, i);
    CHECK(cudaLaunchHostFunc(first, Note, &entries[i]));
  }
  CHECK(cudaEventRecord(done, first));
  CHECK(cudaStreamWaitEvent(second, done, 0));
  for (int i = 3; i < 6; ++i) {
    entries[i] = {&log, i};
    CHECK(cudaStreamAddCallback(second, Callback, &entries[i], 0));
  }
  CHECK(cudaStreamSynchronize(second));
  ok = ok && log.calls == 6;
  std::printf("host functions:");
  for (int i = 0; i < 6; ++i) {
    std::printf(" %d", log.order[i]);
    ok = ok && log.order[i] == i;
  }
  std::printf("\n");

  // A query tells what is still running; times grow along a stream.
  cudaEvent_t begin, middle, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&middle));
  CHECK(cudaEventCreate(&end));
  ok = ok && cudaEventQuery(begin) == cudaSuccess;  // Never recorded.
  CHECK(cudaEventRecord(begin, first));
  Busy<<<1, 32, 0, first>>>(2000000, flag);
  CHECK(cudaEventRecord(middle, first));
  Busy<<<1, 32, 0, first>>>(4000000, flag);
  CHECK(cudaEventRecord(end, first));
  const cudaError_t early = cudaStreamQuery(first);
  ok = ok && (early == cudaErrorNotReady || early == cudaSuccess);
  cudaGetLastError();
  CHECK(cudaEventSynchronize(end));
  float one = 0, both = 0;
  CHECK(cudaEventElapsedTime(&one, begin, middle));
  CHECK(cudaEventElapsedTime(&both, begin, end));
  ok = ok && one > 0.0f && both > one && cudaStreamQuery(first) == cudaSuccess;
  std::printf("times: %s\n", one > 0.0f && both > one ? "in order" : "wrong");
  const cudaError_t untimed = cudaEventElapsedTime(&one, begin, done);
  std::printf("without timing: %s\n", cudaGetErrorName(untimed));
  ok = ok && untimed == cudaErrorInvalidResourceHandle;
  cudaGetLastError();
  for (cudaStream_t stream : streams) CHECK(cudaStreamDestroy(stream));
  CHECK(cudaStreamDestroy(clamped));
  CHECK(cudaStreamDestroy(second));
  return Finish("streamPriorities", ok);
}
