// Eight host threads, each with a stream, memory and events of its own, all using the same kernels.
#include <thread>
#include <vector>

#include "common.h"

constexpr int kThreads = 8, kRounds = 5, kElements = 6000;

__global__ void Mix(unsigned* data, int n, unsigned salt) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  unsigned x = data[i] ^ salt;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  data[i] = x;
}

static unsigned HostMix(unsigned x, unsigned salt) {
  x ^= salt;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

struct Outcome {
  uint64_t checksum = 0;
  bool ok = false;
};

static void Work(int index, Outcome* outcome) {
  std::vector<unsigned> data(kElements), expected(kElements);
  Random random(100u + static_cast<unsigned>(index));
  for (int i = 0; i < kElements; ++i) expected[i] = data[i] = random.Next();
  const size_t bytes = kElements * sizeof(unsigned);

  cudaStream_t stream;
  cudaEvent_t event;
  unsigned* device;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  CHECK(cudaMalloc(&device, bytes));
  CHECK(cudaMemcpyAsync(device, data.data(), bytes, cudaMemcpyHostToDevice, stream));
  for (int round = 0; round < kRounds; ++round) {
    const unsigned salt = static_cast<unsigned>(index * 1000 + round);
    Mix<<<(kElements + 127) / 128, 128, 0, stream>>>(device, kElements, salt);
    CHECK(cudaGetLastError());
    for (unsigned& x : expected) x = HostMix(x, salt);
    if (round % 2 == 0) CHECK(cudaStreamSynchronize(stream));
  }
  CHECK(cudaMemcpyAsync(data.data(), device, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaEventRecord(event, stream));
  CHECK(cudaEventSynchronize(event));

  // An error of this thread is seen by this thread only, and only once.
  const bool odd = index % 2 == 1;
  if (odd) cudaFree(data.data());
  const cudaError_t last = cudaGetLastError();
  outcome->ok = data == expected && last == (odd ? cudaErrorInvalidValue : cudaSuccess) &&
                cudaGetLastError() == cudaSuccess;
  outcome->checksum = Checksum(data.data(), bytes);
  CHECK(cudaFree(device));
  CHECK(cudaEventDestroy(event));
  CHECK(cudaStreamDestroy(stream));
}

int main() {
  Outcome outcomes[kThreads];
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(Work, i, &outcomes[i]);
  for (std::thread& thread : threads) thread.join();
  bool ok = true;
  for (int i = 0; i < kThreads; ++i) {
    std::printf("multiThread: thread %d, checksum %016llx, %s\n", i,
                (unsigned long long)outcomes[i].checksum, outcomes[i].ok ? "right" : "wrong");
    ok = ok && outcomes[i].ok;
  }
  return Finish("multiThread", ok);
}
