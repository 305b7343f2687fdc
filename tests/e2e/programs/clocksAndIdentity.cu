// Special registers: indices in three dimensions, clocks that go forward, nanosleep, identities of warps, lanes and multiprocessors.
#include <vector>

#include "common.h"

__global__ void Indices(unsigned* linear, uint3* blocks) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned size = blockDim.x * blockDim.y * blockDim.z;
  unsigned lane, lanes_below;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  asm volatile("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes_below));
  linear[block * size + thread] = block * 1000 + thread + (lane == thread % 32 && lanes_below == (1u << lane) - 1 ? 0 : 1 << 30);
  if (thread == 0) blocks[block] = make_uint3(blockIdx.x, blockIdx.y, blockIdx.z);
}

__device__ unsigned long long GlobalTime() {
  unsigned long long time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

struct Times {
  long long clock, later, after_sleep;
  unsigned long long global, global_after_sleep;
  unsigned multiprocessor, multiprocessors;
};

__global__ void Clocks(Times* out) {
  Times t;
  t.clock = clock64();
  t.global = GlobalTime();
  unsigned work = threadIdx.x;
  for (int i = 0; i < 200; ++i) work = work * 1664525u + 1013904223u;
  t.later = clock64() + (work == 12345u);
  __nanosleep(20000);
  t.after_sleep = clock64();
  t.global_after_sleep = GlobalTime();
  asm volatile("mov.u32 %0, %%smid;" : "=r"(t.multiprocessor));
  asm volatile("mov.u32 %0, %%nsmid;" : "=r"(t.multiprocessors));
  out[blockIdx.x * blockDim.x + threadIdx.x] = t;
}

// A lane waits for another by the clock only: both must go on.
__global__ void Timeout(volatile int* flag, int* out) {
  if (threadIdx.x == 0) {
    const clock_t begin = clock();
    int seen = 0;
    while (!(seen = *flag) && static_cast<unsigned>(clock() - begin) < 2000000000u) {
    }
    *out = seen;
  } else if (threadIdx.x == 17) {
    *flag = 42;
  }
}

int main() {
  const dim3 grid(3, 4, 2), block(5, 3, 7);
  const unsigned blocks = grid.x * grid.y * grid.z, size = block.x * block.y * block.z;
  unsigned* d_linear;
  uint3* d_blocks;
  CHECK(cudaMalloc(&d_linear, blocks * size * sizeof(unsigned)));
  CHECK(cudaMalloc(&d_blocks, blocks * sizeof(uint3)));
  Indices<<<grid, block>>>(d_linear, d_blocks);
  std::vector<unsigned> linear(blocks * size);
  std::vector<uint3> places(blocks);
  CHECK(cudaMemcpy(linear.data(), d_linear, linear.size() * sizeof(unsigned), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(places.data(), d_blocks, blocks * sizeof(uint3), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (unsigned b = 0; b < blocks; ++b) {
    for (unsigned t = 0; t < size; ++t) ok = ok && linear[b * size + t] == b * 1000 + t;
    ok = ok && places[b].x == b % 3 && places[b].y == b / 3 % 4 && places[b].z == b / 12;
  }
  std::printf("indices %016llx %s\n", (unsigned long long)Checksum(linear.data(), linear.size() * sizeof(unsigned)), ok ? "ok" : "wrong");

  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  Times *d_times, times[128];
  CHECK(cudaMalloc(&d_times, sizeof times));
  Clocks<<<4, 32>>>(d_times);
  CHECK(cudaMemcpy(times, d_times, sizeof times, cudaMemcpyDeviceToHost));
  for (const Times& t : times) {
    ok = ok && t.later > t.clock && t.after_sleep > t.later && t.global_after_sleep > t.global;
    ok = ok && t.multiprocessor < t.multiprocessors && t.multiprocessors >= static_cast<unsigned>(device.multiProcessorCount);
  }
  std::printf("clocks %s\n", ok ? "ok" : "wrong");

  int *d_flag, seen = 0;
  CHECK(cudaMalloc(&d_flag, 2 * sizeof(int)));
  CHECK(cudaMemset(d_flag, 0, 2 * sizeof(int)));
  Timeout<<<1, 32>>>(d_flag, d_flag + 1);
  CHECK(cudaMemcpy(&seen, d_flag + 1, sizeof seen, cudaMemcpyDeviceToHost));
  std::printf("seen %d\n", seen);
  return Finish("clocksAndIdentity", ok && seen == 42);
}
