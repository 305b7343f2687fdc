// Hand-written algorithms: bitonic sort, radix sort by ballots, the game of life, PCG Monte-Carlo and k-means.
#include <algorithm>
#include <utility>
#include <vector>

#include "common.h"

__global__ void Bitonic(unsigned* data) {  // 1024 per block.
  __shared__ unsigned s[1024];
  data += blockIdx.x * 1024;
  for (unsigned i = threadIdx.x; i < 1024; i += blockDim.x) s[i] = data[i];
  for (unsigned size = 2; size <= 1024; size *= 2) {
    for (unsigned stride = size / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (unsigned i = threadIdx.x; i < 1024; i += blockDim.x) {
        const unsigned j = i ^ stride;
        if (j > i && (s[i] > s[j]) == ((i & size) == 0)) {
          const unsigned held = s[i];
          s[i] = s[j];
          s[j] = held;
        }
      }
    }
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 1024; i += blockDim.x) data[i] = s[i];
}

__global__ void RadixWarp(unsigned* data) {  // 32 per warp, a bit at a time.
  unsigned value = data[blockIdx.x * blockDim.x + threadIdx.x];
  __shared__ unsigned s[128];
  const unsigned lane = threadIdx.x % 32, base = threadIdx.x - lane;
  for (int bit = 0; bit < 32; ++bit) {
    const unsigned ones = __ballot_sync(~0u, value >> bit & 1), below = (1u << lane) - 1;
    const bool one = value >> bit & 1;
    const unsigned place = one ? __popc(~ones) + __popc(ones & below) : __popc(~ones & below);
    s[base + place] = value;
    __syncwarp();
    value = s[threadIdx.x];
    __syncwarp();
  }
  data[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

__host__ __device__ int LifeRule(const unsigned char* cells, int x, int y, int n) {
  int alive = 0;
  for (int dy = n - 1; dy <= n + 1; ++dy) {
    for (int dx = n - 1; dx <= n + 1; ++dx) alive += (dx != n || dy != n) && cells[(y + dy) % n * n + (x + dx) % n];
  }
  return alive == 3 || (alive == 2 && cells[y * n + x]);
}
__global__ void Life(const unsigned char* in, unsigned char* out, int n) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  out[y * n + x] = static_cast<unsigned char>(LifeRule(in, x, y, n));
}

struct Pcg {
  unsigned long long state, increment;
  __host__ __device__ unsigned Next() {
    const unsigned long long old = state;
    state = old * 6364136223846793005ull + increment;
    const unsigned mixed = static_cast<unsigned>((old >> 18 ^ old) >> 27), turn = static_cast<unsigned>(old >> 59);
    return mixed >> turn | mixed << (-turn & 31);
  }
};
__host__ __device__ unsigned Hits(unsigned thread, int draws) {
  Pcg random = {thread * 977ull + 1, thread * 2ull + 1};
  unsigned hits = 0;
  for (int i = 0; i < draws; ++i) {
    const unsigned long long x = random.Next() >> 1, y = random.Next() >> 1;
    hits += x * x + y * y < 1ull << 62;
  }
  return hits;
}
__global__ void Pi(int draws, unsigned* hits) { atomicAdd(hits, Hits(blockIdx.x * blockDim.x + threadIdx.x, draws)); }

__host__ __device__ int Nearest(int2 point, const int2* centres, int k) {
  int best = 0;
  long long nearest = 1ll << 62;
  for (int c = 0; c < k; ++c) {
    const long long dx = point.x - centres[c].x, dy = point.y - centres[c].y;
    if (dx * dx + dy * dy < nearest) nearest = dx * dx + dy * dy, best = c;
  }
  return best;
}
__global__ void Assign(const int2* points, int n, const int2* centres, int k, int3* sums) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int3& sum = sums[Nearest(points[i], centres, k)];
  atomicAdd(&sum.x, points[i].x);
  atomicAdd(&sum.y, points[i].y);
  atomicAdd(&sum.z, 1);
}
__global__ void Recentre(int2* centres, int3* sums) {
  const int3 sum = sums[threadIdx.x];
  if (sum.z) centres[threadIdx.x] = make_int2(sum.x / sum.z, sum.y / sum.z);
  sums[threadIdx.x] = make_int3(0, 0, 0);
}

int main() {
  const int n = 4096;
  Random random(29);
  std::vector<unsigned> words(n), got(n);
  for (unsigned& word : words) word = random.Next() << 8 ^ random.Next();
  void *a, *b;
  CHECK(cudaMalloc(&a, 1 << 16));
  CHECK(cudaMalloc(&b, 1 << 16));
  bool ok = true;
  for (const int each : {1024, 32}) {
    CHECK(cudaMemcpy(a, words.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    if (each == 1024) Bitonic<<<n / 1024, 256>>>(static_cast<unsigned*>(a));
    else RadixWarp<<<n / 128, 128>>>(static_cast<unsigned*>(a));
    CHECK(cudaMemcpy(got.data(), a, n * sizeof(int), cudaMemcpyDeviceToHost));
    std::vector<unsigned> expected(words);
    for (int i = 0; i < n; i += each) std::sort(expected.begin() + i, expected.begin() + i + each);
    ok = ok && got == expected;
    std::printf("sorted by %d: %016llx\n", each, (unsigned long long)Checksum(got.data(), n * sizeof(int)));
  }

  const int side = 64;
  std::vector<unsigned char> cells(side * side), next(side * side);
  for (auto& cell : cells) cell = random.Next() % 3 == 0;
  CHECK(cudaMemcpy(a, cells.data(), cells.size(), cudaMemcpyHostToDevice));
  for (int step = 0; step < 20; ++step) {
    Life<<<dim3(2, 8), dim3(32, 8)>>>(static_cast<unsigned char*>(a), static_cast<unsigned char*>(b), side);
    std::swap(a, b);
    for (int i = 0; i < side * side; ++i) next[i] = static_cast<unsigned char>(LifeRule(cells.data(), i % side, i / side, side));
    cells.swap(next);
  }
  CHECK(cudaMemcpy(next.data(), a, next.size(), cudaMemcpyDeviceToHost));
  ok = ok && next == cells;
  std::printf("life %016llx\n", (unsigned long long)Checksum(next.data(), next.size()));

  unsigned hits = 0, expected_hits = 0;
  CHECK(cudaMemset(a, 0, sizeof hits));
  Pi<<<4, 128>>>(200, static_cast<unsigned*>(a));
  CHECK(cudaMemcpy(&hits, a, sizeof hits, cudaMemcpyDeviceToHost));
  for (unsigned thread = 0; thread < 512; ++thread) expected_hits += Hits(thread, 200);
  ok = ok && hits == expected_hits && hits > 79000 && hits < 82000;
  std::printf("pi from %u hits: %.3f\n", hits, 4.0 * hits / (512 * 200));

  const int k = 5;
  std::vector<int2> points(2000), centres(k), moved(k);
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] = make_int2(static_cast<int>(i % 5 * 3000 + random.Next() % 2000), static_cast<int>(i % 3 * 2500 + random.Next() % 2000));
  }
  for (int c = 0; c < k; ++c) centres[c] = points[c * 7];
  int2* d_centres = static_cast<int2*>(b);
  int3* d_sums = reinterpret_cast<int3*>(d_centres + k);
  CHECK(cudaMemcpy(a, points.data(), points.size() * sizeof(int2), cudaMemcpyHostToDevice));
  CHECK(cudaMemset(b, 0, 4096));
  CHECK(cudaMemcpy(b, centres.data(), k * sizeof(int2), cudaMemcpyHostToDevice));
  for (int step = 0; step < 10; ++step) {
    Assign<<<16, 128>>>(static_cast<int2*>(a), static_cast<int>(points.size()), d_centres, k, d_sums);
    Recentre<<<1, k>>>(d_centres, d_sums);
    std::vector<int3> sums(k, make_int3(0, 0, 0));
    for (const int2& point : points) {
      int3& sum = sums[Nearest(point, centres.data(), k)];
      sum.x += point.x, sum.y += point.y, ++sum.z;
    }
    for (int c = 0; c < k; ++c) if (sums[c].z) centres[c] = make_int2(sums[c].x / sums[c].z, sums[c].y / sums[c].z);
  }
  CHECK(cudaMemcpy(moved.data(), b, k * sizeof(int2), cudaMemcpyDeviceToHost));
  for (int c = 0; c < k; ++c) {
    ok = ok && moved[c].x == centres[c].x && moved[c].y == centres[c].y;
    std::printf("centre %d %d\n", moved[c].x, moved[c].y);
  }
  return Finish("sortsAndSimulations", ok);
}
