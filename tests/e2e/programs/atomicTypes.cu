// Atomics of every type and operation, on global and on shared memory; sums are exact whatever the order.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <vector>

#include "common.h"

struct Totals {
  int add, sub, smallest, largest, bits_and, bits_or, bits_xor, increments, decrements;
  unsigned unsigned_largest;
  long long wide_smallest;
  unsigned long long wide_add, wide_or, wide_xor, compare_loop, exchange;
  float real;
  double wide_real;
  __half2 halves;
  __half half;
};

__device__ void Apply(Totals* t, int value) {
  atomicAdd(&t->add, value);
  atomicSub(&t->sub, value);
  atomicMin(&t->smallest, value);
  atomicMax(&t->largest, value);
  atomicAnd(&t->bits_and, value | 0x1000);
  atomicOr(&t->bits_or, value);
  atomicXor(&t->bits_xor, value);
  atomicInc(reinterpret_cast<unsigned*>(&t->increments), 999);
  atomicDec(reinterpret_cast<unsigned*>(&t->decrements), 499);
  atomicMax(&t->unsigned_largest, static_cast<unsigned>(value));
  atomicMin(&t->wide_smallest, static_cast<long long>(value) << 20);
  atomicAdd(&t->wide_add, static_cast<unsigned long long>(value) << 8);
  atomicOr(&t->wide_or, 1ull << (value & 63));
  atomicXor(&t->wide_xor, static_cast<unsigned long long>(value) << 31);
  atomicAdd(&t->real, static_cast<float>(value % 8) * 0.25f);
  atomicAdd(&t->wide_real, value * 0.5);
  if ((value & 63) == 0) {
    atomicAdd(&t->halves, __floats2half2_rn(1.0f, 0.5f));
    atomicAdd(&t->half, __float2half(0.25f));
  }
  // A sum of squares by compare-and-swap.
  unsigned long long seen = t->compare_loop, assumed;
  do {
    assumed = seen;
    seen = atomicCAS(&t->compare_loop, assumed, assumed + static_cast<unsigned long long>(static_cast<long long>(value) * value));
  } while (seen != assumed);
  // A chain of exchanges loses nothing: what is handed back is put into the sum of another.
  const unsigned long long before = atomicExch(&t->exchange, static_cast<unsigned long long>(value) | 1ull << 40);
  atomicAdd(&t->wide_add, before == 0 ? 0ull : 1ull << 60);
}

__global__ void Global(Totals* totals, const int* in) { Apply(totals, in[blockIdx.x * blockDim.x + threadIdx.x]); }

__global__ void Shared(Totals* totals, const int* in, const Totals* initial) {
  __shared__ Totals mine;
  if (threadIdx.x == 0) mine = *initial;
  __syncthreads();
  for (int i = threadIdx.x; i < 4096; i += blockDim.x) Apply(&mine, in[i]);
  __syncthreads();
  if (threadIdx.x == 0) *totals = mine;
}

// Scoped atomics mean the same here, only with fewer promises.
__global__ void Scoped(unsigned* counters) {
  atomicAdd_block(&counters[0], 1u);
  atomicAdd_system(&counters[1], 2u);
  atomicMax_system(&counters[2], blockIdx.x * blockDim.x + threadIdx.x);
  __threadfence();
  __threadfence_block();
  __threadfence_system();
}

int main() {
  const int n = 4096;
  Random random(23);
  std::vector<int> in(n);
  for (int& value : in) value = static_cast<int>(random.Next() % 4001) - 1000;
  Totals initial = {};
  initial.smallest = 1 << 30;
  initial.largest = -(1 << 30);
  initial.bits_and = -1;
  initial.wide_smallest = 1ll << 60;
  Totals e = initial;
  double sum = 0, quarter = 0;
  int sixty_fourths = 0;
  for (int v : in) {
    e.add += v;
    e.sub -= v;
    e.smallest = v < e.smallest ? v : e.smallest;
    e.largest = v > e.largest ? v : e.largest;
    e.bits_and &= v | 0x1000;
    e.bits_or |= v;
    e.bits_xor ^= v;
    e.increments = e.increments >= 999 ? 0 : e.increments + 1;
    e.decrements = e.decrements == 0 || e.decrements > 499 ? 499 : e.decrements - 1;
    e.unsigned_largest = static_cast<unsigned>(v) > e.unsigned_largest ? static_cast<unsigned>(v) : e.unsigned_largest;
    e.wide_smallest = v * (1ll << 20) < e.wide_smallest ? v * (1ll << 20) : e.wide_smallest;
    e.wide_add += static_cast<unsigned long long>(v) << 8;
    e.wide_or |= 1ull << (v & 63);
    e.wide_xor ^= static_cast<unsigned long long>(v) << 31;
    e.compare_loop += static_cast<unsigned long long>(static_cast<long long>(v) * v);
    quarter += v % 8 * 0.25;
    sum += v * 0.5;
    sixty_fourths += (v & 63) == 0;
  }
  e.wide_add += static_cast<unsigned long long>(n - 1) << 60;

  int* d_in;
  Totals *d_initial, *d_totals;
  CHECK(cudaMalloc(&d_in, n * sizeof(int)));
  CHECK(cudaMalloc(&d_initial, sizeof(Totals)));
  CHECK(cudaMalloc(&d_totals, sizeof(Totals)));
  CHECK(cudaMemcpy(d_in, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_initial, &initial, sizeof initial, cudaMemcpyHostToDevice));
  bool ok = true;
  for (const bool shared : {false, true}) {
    CHECK(cudaMemcpy(d_totals, &initial, sizeof initial, cudaMemcpyHostToDevice));
    if (shared) Shared<<<1, 256>>>(d_totals, d_in, d_initial);
    else Global<<<n / 256, 256>>>(d_totals, d_in);
    Totals g;
    CHECK(cudaMemcpy(&g, d_totals, sizeof g, cudaMemcpyDeviceToHost));
    const bool last_known = g.exchange >> 40 != 0;  // Which one came last is not fixed.
    const bool integers = g.add == e.add && g.sub == e.sub && g.smallest == e.smallest && g.largest == e.largest &&
        g.bits_and == e.bits_and && g.bits_or == e.bits_or && g.bits_xor == e.bits_xor && g.increments == e.increments &&
        g.decrements == e.decrements && g.unsigned_largest == e.unsigned_largest && g.wide_smallest == e.wide_smallest &&
        g.wide_add == e.wide_add && g.wide_or == e.wide_or && g.wide_xor == e.wide_xor && g.compare_loop == e.compare_loop;
    const bool reals = g.real == static_cast<float>(quarter) && g.wide_real == sum &&
        __low2float(g.halves) == sixty_fourths && __high2float(g.halves) == sixty_fourths * 0.5f &&
        __half2float(g.half) == sixty_fourths * 0.25f;
    std::printf("%s: integers %s, reals %s: %d %llx %g %g %g\n", shared ? "shared" : "global", integers ? "ok" : "WRONG",
                reals ? "ok" : "WRONG", g.add, g.compare_loop, g.real, g.wide_real, __high2float(g.halves));
    ok = ok && integers && reals && last_known;
  }
  unsigned counters[3] = {};
  CHECK(cudaMemset(d_totals, 0, sizeof counters));
  Scoped<<<1, 320>>>(reinterpret_cast<unsigned*>(d_totals));
  CHECK(cudaMemcpy(counters, d_totals, sizeof counters, cudaMemcpyDeviceToHost));
  std::printf("scoped: %u %u %u\n", counters[0], counters[1], counters[2]);
  ok = ok && counters[0] == 320 && counters[1] == 640 && counters[2] == 319;
  return Finish("atomicTypes", ok);
}
