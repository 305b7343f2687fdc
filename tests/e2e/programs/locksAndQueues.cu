// Threads that wait for each other: a spin lock taken by every lane, a ticket lock, a persistent kernel with a work queue, flags
// between blocks, and an aggregated append.
#include <algorithm>
#include <vector>

#include "common.h"

// Every lane of a warp takes the same lock: independent scheduling must let each through.
__global__ void SpinLock(int* lock, volatile int* counter, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    bool done = false;
    while (!done) {
      if (atomicCAS(lock, 0, 1) == 0) {
        __threadfence();
        *counter = *counter + 1;
        __threadfence();
        atomicExch(lock, 0);
        done = true;
      }
    }
  }
}

struct Tickets {
  unsigned next, serving;
};

__global__ void TicketLock(Tickets* tickets, volatile unsigned* order, volatile unsigned* count) {
  const unsigned mine = atomicAdd(&tickets->next, 1u);
  while (*reinterpret_cast<volatile unsigned*>(&tickets->serving) != mine) __nanosleep(20);
  __threadfence();
  order[*count] = mine;  // Nobody else is in here.
  *count = *count + 1;
  __threadfence();
  atomicAdd(&tickets->serving, 1u);
}

// Blocks take numbers from a queue and put their Collatz successors back until all have reached 1.
struct Queue {
  unsigned head, tail, pending, finished;
};

__global__ void Persistent(Queue* queue, volatile unsigned* items, unsigned capacity, unsigned* steps) {
  __shared__ unsigned item;
  while (true) {
    if (threadIdx.x == 0) {
      item = 0;
      while (true) {
        const unsigned head = *reinterpret_cast<volatile unsigned*>(&queue->head);
        if (head < *reinterpret_cast<volatile unsigned*>(&queue->tail)) {
          if (atomicCAS(&queue->head, head, head + 1) != head) continue;
          while ((item = items[head]) == 0) __nanosleep(10);
          break;
        }
        if (atomicAdd(&queue->pending, 0u) == 0) break;
        __nanosleep(50);
      }
    }
    __syncthreads();
    const unsigned taken = item;
    __syncthreads();
    if (taken == 0) return;
    if (threadIdx.x == 0) {
      atomicAdd(steps, 1u);
      if (taken > 1) {
        const unsigned at = atomicAdd(&queue->tail, 1u);
        if (at < capacity) items[at] = taken % 2 ? 3 * taken + 1 : taken / 2;
      } else {
        atomicAdd(&queue->finished, 1u);
        __threadfence();
        atomicSub(&queue->pending, 1u);
      }
    }
  }
}

// A chain: each block waits for the sum of the one before it.
__global__ void Chain(volatile int* flags, volatile int* sums, const int* in) {
  __shared__ int partial;
  if (threadIdx.x == 0) partial = 0;
  __syncthreads();
  atomicAdd(&partial, in[blockIdx.x * blockDim.x + threadIdx.x]);
  __syncthreads();
  if (threadIdx.x != 0) return;
  int before = 0;
  if (blockIdx.x > 0) {
    while (flags[blockIdx.x - 1] == 0) {
    }
    __threadfence();
    before = sums[blockIdx.x - 1];
  }
  sums[blockIdx.x] = before + partial;
  __threadfence();
  flags[blockIdx.x] = 1;
}

// One atomic per warp for all lanes that append.
__global__ void Append(const int* in, int n, int* out, int* count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n || in[i] % 3 != 0) return;
  const unsigned mask = __activemask(), lane = threadIdx.x % 32;
  const int leader = __ffs(mask) - 1;
  int base = 0;
  if (static_cast<int>(lane) == leader) base = atomicAdd(count, __popc(mask));
  base = __shfl_sync(mask, base, leader);
  out[base + __popc(mask & ((1u << lane) - 1))] = in[i];
}

int main() {
  int* d;
  const size_t bytes = 1 << 20;
  CHECK(cudaMalloc(&d, bytes));
  const auto clear = [&] { CHECK(cudaMemset(d, 0, bytes)); };
  bool ok = true;

  clear();
  SpinLock<<<4, 64>>>(d, d + 1, 3);
  int locked[2];
  CHECK(cudaMemcpy(locked, d, sizeof locked, cudaMemcpyDeviceToHost));
  std::printf("spin lock: %d\n", locked[1]);
  ok = ok && locked[1] == 4 * 64 * 3 && locked[0] == 0;

  clear();
  TicketLock<<<3, 32>>>(reinterpret_cast<Tickets*>(d), reinterpret_cast<unsigned*>(d + 4), reinterpret_cast<unsigned*>(d + 2));
  unsigned tickets[100];
  CHECK(cudaMemcpy(tickets, d, sizeof tickets, cudaMemcpyDeviceToHost));
  ok = ok && tickets[1] == 96 && tickets[2] == 96;
  for (unsigned i = 0; i < 96; ++i) ok = ok && tickets[4 + i] == i;
  std::printf("tickets served: %u\n", tickets[1]);

  clear();
  const unsigned starts = 20, capacity = 4000;
  std::vector<unsigned> begin(8 + starts);
  unsigned expected = 0;
  for (unsigned i = 0; i < starts; ++i) {
    unsigned x = begin[8 + i] = 3 + 2 * i;
    for (++expected; x > 1; ++expected) x = x % 2 ? 3 * x + 1 : x / 2;
  }
  begin[1] = begin[2] = starts;
  CHECK(cudaMemcpy(d, begin.data(), begin.size() * sizeof(int), cudaMemcpyHostToDevice));
  Persistent<<<6, 64>>>(reinterpret_cast<Queue*>(d), reinterpret_cast<unsigned*>(d + 8), capacity, reinterpret_cast<unsigned*>(d + 4));
  unsigned queue[5];
  CHECK(cudaMemcpy(queue, d, sizeof queue, cudaMemcpyDeviceToHost));
  std::printf("queue: %u steps, %u finished\n", queue[4], queue[3]);
  ok = ok && queue[4] == expected && queue[3] == starts && queue[2] == 0;

  clear();
  const int n = 64 * 100;
  std::vector<int> in(n), appended;
  Random random(1);
  for (int& value : in) value = static_cast<int>(random.Next() % 1000);
  int* d_in = d + 20000;
  CHECK(cudaMemcpy(d_in, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  Chain<<<100, 64>>>(d, d + 100, d_in);
  int last = 0, total = 0;
  CHECK(cudaMemcpy(&last, d + 199, sizeof last, cudaMemcpyDeviceToHost));
  for (int value : in) total += value;
  std::printf("chain of blocks: %d\n", last);
  ok = ok && last == total;

  CHECK(cudaMemset(d, 0, sizeof(int)));
  Append<<<n / 128, 128>>>(d_in, n, d + 1, d);
  std::vector<int> multiples;
  for (int value : in) if (value % 3 == 0) multiples.push_back(value);
  int count = 0;
  CHECK(cudaMemcpy(&count, d, sizeof count, cudaMemcpyDeviceToHost));
  appended.resize(multiples.size());
  CHECK(cudaMemcpy(appended.data(), d + 1, appended.size() * sizeof(int), cudaMemcpyDeviceToHost));
  std::sort(appended.begin(), appended.end());
  std::sort(multiples.begin(), multiples.end());
  std::printf("appended %d, sorted %016llx\n", count, (unsigned long long)Checksum(appended.data(), appended.size() * sizeof(int)));
  ok = ok && count == static_cast<int>(multiples.size()) && appended == multiples;
  return Finish("locksAndQueues", ok);
}
