// Pipelines chunks through four streams with pinned memory and asynchronous copies, orders them
// with events, times them, and joins them in one more stream.
#include <atomic>
#include <vector>

#include "common.h"

constexpr int kStreams = 4, kRounds = 3, kChunk = 16384;
constexpr int kTotal = kStreams * kChunk;

__global__ void Transform(const int* in, int* out, int n, int round) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = in[i] * 3 + round;
}

__global__ void Combine(const int* in, unsigned* sums, int chunk, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= chunk) return;
  unsigned sum = 0;
  for (int part = 0; part < count; ++part) sum += static_cast<unsigned>(in[part * chunk + i]);
  sums[i] = sum;
}

static void CUDART_CB CountDone(void* counter) {
  ++*static_cast<std::atomic<int>*>(counter);
}

int main() {
  int *input, *output;
  CHECK(cudaMallocHost(&input, kTotal * sizeof(int)));
  CHECK(cudaHostAlloc(&output, kTotal * sizeof(int), cudaHostAllocDefault));
  Random random(9);
  for (int i = 0; i < kTotal; ++i) input[i] = static_cast<int>(random.Next() % 100000);

  int *device_in, *device_out;
  unsigned* device_sums;
  CHECK(cudaMalloc(&device_in, kTotal * sizeof(int)));
  CHECK(cudaMalloc(&device_out, kTotal * sizeof(int)));
  CHECK(cudaMalloc(&device_sums, kChunk * sizeof(unsigned)));

  cudaStream_t streams[kStreams], join;
  cudaEvent_t done[kStreams], start, stop;
  for (int s = 0; s < kStreams; ++s) {
    CHECK(cudaStreamCreateWithFlags(&streams[s], cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&done[s], cudaEventDisableTiming));
  }
  CHECK(cudaStreamCreate(&join));
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));

  std::atomic<int> chunks_done{0};
  CHECK(cudaEventRecord(start, join));
  for (int s = 0; s < kStreams; ++s) CHECK(cudaStreamWaitEvent(streams[s], start, 0));
  for (int round = 0; round < kRounds; ++round) {
    for (int s = 0; s < kStreams; ++s) {
      const size_t offset = static_cast<size_t>(s) * kChunk;
      const int* source = round == 0 ? input + offset : output + offset;
      CHECK(cudaMemcpyAsync(device_in + offset, source, kChunk * sizeof(int),
                            cudaMemcpyHostToDevice, streams[s]));
      Transform<<<kChunk / 256, 256, 0, streams[s]>>>(device_in + offset, device_out + offset,
                                                      kChunk, round);
      CHECK(cudaGetLastError());
      CHECK(cudaMemcpyAsync(output + offset, device_out + offset, kChunk * sizeof(int),
                            cudaMemcpyDeviceToHost, streams[s]));
      CHECK(cudaLaunchHostFunc(streams[s], CountDone, &chunks_done));
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    CHECK(cudaEventRecord(done[s], streams[s]));
    CHECK(cudaStreamWaitEvent(join, done[s], 0));
  }
  Combine<<<kChunk / 128, 128, 0, join>>>(device_out, device_sums, kChunk, kStreams);
  CHECK(cudaGetLastError());
  std::vector<unsigned> sums(kChunk);
  CHECK(cudaMemcpyAsync(sums.data(), device_sums, kChunk * sizeof(unsigned), cudaMemcpyDeviceToHost,
                        join));
  CHECK(cudaEventRecord(stop, join));

  cudaError_t state;
  while ((state = cudaEventQuery(stop)) == cudaErrorNotReady) {
  }
  CHECK(state);
  CHECK(cudaEventSynchronize(stop));
  float milliseconds = -1.0f;
  CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
  CHECK(cudaDeviceSynchronize());

  bool ok = milliseconds >= 0.0f && chunks_done == kStreams * kRounds;
  for (int i = 0; i < kTotal; ++i) {
    int expected = input[i];
    for (int round = 0; round < kRounds; ++round) expected = expected * 3 + round;
    ok = ok && output[i] == expected;
  }
  for (int i = 0; i < kChunk; ++i) {
    unsigned expected = 0;
    for (int s = 0; s < kStreams; ++s) expected += static_cast<unsigned>(output[s * kChunk + i]);
    ok = ok && sums[i] == expected;
  }
  std::printf("streams: %d streams, %d rounds, %d chunks done, elapsed time measured: %s\n",
              kStreams, kRounds, chunks_done.load(), milliseconds >= 0.0f ? "yes" : "no");
  std::printf("checksum %016llx %016llx\n",
              (unsigned long long)Checksum(output, kTotal * sizeof(int)),
              (unsigned long long)Checksum(sums.data(), kChunk * sizeof(unsigned)));

  for (int s = 0; s < kStreams; ++s) {
    CHECK(cudaStreamDestroy(streams[s]));
    CHECK(cudaEventDestroy(done[s]));
  }
  CHECK(cudaStreamDestroy(join));
  CHECK(cudaEventDestroy(start));
  CHECK(cudaEventDestroy(stop));
  CHECK(cudaFreeHost(input));
  CHECK(cudaFreeHost(output));
  CHECK(cudaFree(device_in));
  CHECK(cudaFree(device_out));
  CHECK(cudaFree(device_sums));
  return Finish("streams", ok);
}
