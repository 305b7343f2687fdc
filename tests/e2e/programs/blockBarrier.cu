// cuda::barrier in shared memory: a ring of buffers between producing and consuming warps, threads
// that drop out, waits by parity and with a time limit, and bulk copies that a barrier counts.
#include <cuda/barrier>
#include <cuda/ptx>
#include <vector>

#include "common.h"

// Barriers are initialised by init, not by their constructors.
#pragma nv_diag_suppress static_var_with_dynamic_init
using Barrier = cuda::barrier<cuda::thread_scope_block>;
namespace cde = cuda::device::experimental;

constexpr int kSlots = 4;
constexpr int kWarp = 32;

// Warps 0 and 1 produce, warps 2 to 5 consume and each keep a sum.
__global__ void ring(const int* in, long long* out, int rounds) {
  __shared__ int buffers[kSlots][2 * kWarp];
  __shared__ Barrier full[kSlots], empty[kSlots];
  if (threadIdx.x == 0) {
    for (int k = 0; k < kSlots; ++k) {
      init(&full[k], blockDim.x);
      init(&empty[k], blockDim.x);
    }
  }
  __syncthreads();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (warp < 2) {
    for (int round = 0; round < rounds; ++round) {
      const int slot = round % kSlots;
      if (round >= kSlots) empty[slot].arrive_and_wait();
      buffers[slot][threadIdx.x] = in[round * 2 * kWarp + threadIdx.x];
      (void)full[slot].arrive();
    }
  } else {
    long long sum = 0;
    for (int round = 0; round < rounds; ++round) {
      const int slot = round % kSlots;
      full[slot].arrive_and_wait();
      const int weight = warp - 1;
      sum += static_cast<long long>(weight) * buffers[slot][lane] - buffers[slot][kWarp + lane];
      if (round + kSlots < rounds) (void)empty[slot].arrive();
    }
    out[threadIdx.x - 2 * kWarp] = sum;
  }
}

// In each round the thread with the highest number leaves; the others count who is left.
__global__ void dropping(int* out) {
  __shared__ Barrier barrier;
  __shared__ int here[65];
  if (threadIdx.x == 0) init(&barrier, blockDim.x);
  if (threadIdx.x <= 64) here[threadIdx.x] = 0;
  __syncthreads();
  const int n = blockDim.x;
  for (int round = 0; round < n; ++round) {
    atomicAdd(&here[round], 1);
    if (static_cast<int>(threadIdx.x) == n - 1 - round) {
      barrier.arrive_and_drop();
      break;
    }
    barrier.wait(barrier.arrive());
  }
  if (threadIdx.x == 0) {
    for (int round = 0; round < n; ++round) out[round] = here[round];
  }
}

// The second half sets values one after the other; the first waits for each phase by its parity,
// with a limit that is longer than anything here takes, and in vain for one that does not come.
__global__ void parity(int* out) {
  __shared__ Barrier barrier;
  __shared__ volatile int value;
  if (threadIdx.x == 0) init(&barrier, kWarp);
  __syncthreads();
  int seen = 0;
  if (threadIdx.x >= kWarp) {
    for (int phase = 0; phase < 8; ++phase) {
      if (threadIdx.x == kWarp) value = phase * phase;
      __syncwarp();
      (void)barrier.arrive();
      __syncthreads();
    }
  } else {
    for (int phase = 0; phase < 8; ++phase) {
      while (!barrier.try_wait_parity_for(phase % 2, cuda::std::chrono::seconds(20))) {
      }
      seen = seen * 3 + value;
      __syncthreads();
    }
    const bool came = barrier.try_wait_parity_for(false, cuda::std::chrono::microseconds(300));
    seen = seen * 2 + (came ? 1 : 0);
    out[threadIdx.x] = seen;
  }
}

// Tiles come by bulk copies, are doubled, and go out by bulk copies, where the target has them.
__global__ void bulk(const int* in, int* out, int tiles) {
  constexpr int kTile = 512;
#if __CUDA_ARCH__ >= 900
  __shared__ alignas(128) int tile[2][kTile];
  __shared__ Barrier barrier[2];
  if (threadIdx.x == 0) {
    init(&barrier[0], blockDim.x);
    init(&barrier[1], blockDim.x);
    cde::fence_proxy_async_shared_cta();
  }
  __syncthreads();
  for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int slot = (t / gridDim.x) % 2;
    Barrier::arrival_token token;
    if (threadIdx.x == 0) {
      cde::cp_async_bulk_wait_group_read<0>();
      cde::cp_async_bulk_global_to_shared(tile[slot], in + t * kTile, sizeof(tile[0]),
                                          barrier[slot]);
      token = cuda::device::barrier_arrive_tx(barrier[slot], 1, sizeof(tile[0]));
    } else {
      token = barrier[slot].arrive();
    }
    barrier[slot].wait(std::move(token));
    for (int k = threadIdx.x; k < kTile; k += blockDim.x) tile[slot][k] = 2 * tile[slot][k] + k;
    cde::fence_proxy_async_shared_cta();
    __syncthreads();
    if (threadIdx.x == 0) {
      cde::cp_async_bulk_shared_to_global(out + t * kTile, tile[slot], sizeof(tile[0]));
      cde::cp_async_bulk_commit_group();
    }
  }
  if (threadIdx.x == 0) cde::cp_async_bulk_wait_group_read<0>();
#else
  for (int k = blockIdx.x * blockDim.x + threadIdx.x; k < tiles * kTile;
       k += gridDim.x * blockDim.x) {
    out[k] = 2 * in[k] + k % kTile;
  }
#endif
}

template <typename T>
std::vector<T> Fetch(const T* from, size_t count) {
  std::vector<T> values(count);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

int main() {
  bool ok = true;
  const auto say = [&](const char* name, const void* data, size_t bytes, bool right) {
    std::printf("%s: %016llx %s\n", name, static_cast<unsigned long long>(Checksum(data, bytes)),
                right ? "right" : "WRONG");
    ok = ok && right;
  };
  const int rounds = 40, tiles = 13, n = 512 * tiles;
  std::vector<int> in(n);
  Random random(3);
  for (int& x : in) x = static_cast<int>(random.Next() % 20001) - 10000;
  int *from, *to;
  CHECK(cudaMalloc(&from, n * sizeof(int)));
  CHECK(cudaMalloc(&to, n * sizeof(int)));
  CHECK(cudaMemcpy(from, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));

  long long* sums;
  CHECK(cudaMalloc(&sums, 128 * sizeof(long long)));
  ring<<<1, 6 * kWarp>>>(from, sums, rounds);
  std::vector<long long> expected(128);
  for (int t = 0; t < 128; ++t) {
    for (int round = 0; round < rounds; ++round) {
      expected[t] += static_cast<long long>(t / 32 + 1) * in[round * 64 + t % 32] -
                     in[round * 64 + 32 + t % 32];
    }
  }
  const auto got = Fetch(sums, 128);
  say("ring", got.data(), 128 * sizeof(long long), got == expected);

  dropping<<<1, 64>>>(to);
  const auto left = Fetch(to, 64);
  bool right = true;
  for (int k = 0; k < 64; ++k) right = right && left[k] == 64 - k;
  say("dropping", left.data(), 64 * sizeof(int), right);

  parity<<<1, 2 * kWarp>>>(to);
  const auto seen = Fetch(to, kWarp);
  int value = 0;
  for (int phase = 0; phase < 8; ++phase) value = value * 3 + phase * phase;
  right = true;
  for (int x : seen) right = right && x == value * 2;
  say("parity", seen.data(), kWarp * sizeof(int), right);

  bulk<<<4, 128>>>(from, to, tiles);
  const auto doubled = Fetch(to, n);
  right = true;
  for (int k = 0; k < n; ++k) right = right && doubled[k] == 2 * in[k] + k % 512;
  say("bulk", doubled.data(), n * sizeof(int), right);
  return Finish("blockBarrier", ok);
}
