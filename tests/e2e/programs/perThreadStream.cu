// Compiled with --default-stream per-thread: each host thread's default stream is its own.
#include <thread>
#include <vector>

#include "common.h"

constexpr int kThreads = 4, kElements = 4096, kRounds = 8;

__global__ void Step(unsigned* data, int n, unsigned add) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] = data[i] * 1664525u + add;
}

struct Outcome {
  uint64_t checksum = 0;
  unsigned long long stream_id = 0;
  bool ok = false;
};

static void Work(unsigned index, Outcome* outcome) {
  std::vector<unsigned> data(kElements, index), expected(kElements, index);
  const size_t bytes = kElements * sizeof(unsigned);
  unsigned* device = nullptr;
  CHECK(cudaMalloc(&device, bytes));
  CHECK(cudaMemcpyAsync(device, data.data(), bytes, cudaMemcpyHostToDevice));
  for (unsigned round = 0; round < kRounds; ++round) {
    Step<<<kElements / 256, 256>>>(device, kElements, round + index);
    CHECK(cudaGetLastError());
    for (unsigned& x : expected) x = x * 1664525u + round + index;
  }
  CHECK(cudaMemcpyAsync(data.data(), device, bytes, cudaMemcpyDeviceToHost));
  CHECK(cudaStreamSynchronize(0));

  // The null stream and cudaStreamPerThread are the same stream here.
  unsigned long long null_id = 0, named_id = 1;
  CHECK(cudaStreamGetId(0, &null_id));
  CHECK(cudaStreamGetId(cudaStreamPerThread, &named_id));
  CHECK(cudaFree(device));
  outcome->stream_id = null_id;
  outcome->checksum = Checksum(data.data(), bytes);
  outcome->ok = data == expected && null_id == named_id;
}

int main() {
  Outcome outcomes[kThreads];
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back(Work, static_cast<unsigned>(i), &outcomes[i]);
  }
  for (std::thread& thread : threads) thread.join();
  bool ok = true, distinct = true;
  for (int i = 0; i < kThreads; ++i) {
    std::printf("perThreadStream: thread %d, checksum %016llx, %s\n", i,
                (unsigned long long)outcomes[i].checksum, outcomes[i].ok ? "right" : "wrong");
    ok = ok && outcomes[i].ok;
    for (int j = 0; j < i; ++j) {
      distinct = distinct && outcomes[i].stream_id != outcomes[j].stream_id;
    }
  }
  std::printf("perThreadStream: every thread has a stream of its own: %s\n",
              distinct ? "yes" : "no");
  return Finish("perThreadStream", ok && distinct);
}
