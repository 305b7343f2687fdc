// Recursion on the device: Ackermann, Hanoi with a stack of its own, quicksort of slices, and a tree that recursion walks.
#include <algorithm>
#include <vector>

#include "common.h"

__host__ __device__ unsigned Ackermann(unsigned m, unsigned n) {
  if (m == 0) return n + 1;
  if (n == 0) return Ackermann(m - 1, 1);
  return Ackermann(m - 1, Ackermann(m, n - 1));
}

__global__ void Ackermanns(unsigned* out) { out[threadIdx.x] = Ackermann(threadIdx.x % 3, threadIdx.x / 3); }

struct Towers {
  int pegs[3][8];
  int heights[3];
  int moves;
};

__host__ __device__ void Move(Towers& t, int disks, int from, int to, int spare) {
  if (disks == 0) return;
  Move(t, disks - 1, from, spare, to);
  t.pegs[to][t.heights[to]++] = t.pegs[from][--t.heights[from]];
  ++t.moves;
  Move(t, disks - 1, spare, to, from);
}

__global__ void Hanoi(int* moves, int* tops) {
  Towers t = {};
  const int disks = 1 + static_cast<int>(threadIdx.x) % 8;  // Lanes go to different depths.
  for (int i = 0; i < disks; ++i) t.pegs[0][t.heights[0]++] = disks - i;
  Move(t, disks, 0, 2, 1);
  moves[threadIdx.x] = t.moves;
  tops[threadIdx.x] = t.heights[2] * 100 + t.pegs[2][0] * 10 + t.pegs[2][disks - 1];
}

__device__ void Quicksort(int* data, int low, int high) {
  if (low >= high) return;
  const int pivot = data[(low + high) / 2];
  int i = low, j = high;
  while (i <= j) {
    while (data[i] < pivot) ++i;
    while (data[j] > pivot) --j;
    if (i <= j) {
      const int held = data[i];
      data[i++] = data[j];
      data[j--] = held;
    }
  }
  Quicksort(data, low, j);
  Quicksort(data, i, high);
}

__global__ void SortSlices(int* data, int each) {
  const int slice = blockIdx.x * blockDim.x + threadIdx.x;
  Quicksort(data + slice * each, 0, each - 1);
}

struct Node {
  int value, left, right;
};

// Mutual recursion: even and odd levels of a tree count differently.
__host__ __device__ long long Odd(const Node* tree, int at);
__host__ __device__ long long Even(const Node* tree, int at) {
  return at < 0 ? 0 : tree[at].value + Odd(tree, tree[at].left) + Odd(tree, tree[at].right);
}
__host__ __device__ long long Odd(const Node* tree, int at) {
  return at < 0 ? 1 : Even(tree, tree[at].left) - 2 * tree[at].value + Even(tree, tree[at].right);
}

__global__ void Walk(const Node* tree, long long* out) { out[threadIdx.x] = Even(tree, static_cast<int>(threadIdx.x)); }

int main() {
  CHECK(cudaDeviceSetLimit(cudaLimitStackSize, 16 << 10));
  size_t stack = 0;
  CHECK(cudaDeviceGetLimit(&stack, cudaLimitStackSize));
  bool ok = stack >= 16 << 10;
  unsigned* d_words;
  int* d_ints;
  CHECK(cudaMalloc(&d_words, 4096 * sizeof(unsigned)));
  CHECK(cudaMalloc(&d_ints, 8192 * sizeof(int)));
  Ackermanns<<<1, 60>>>(d_words);
  unsigned words[60];
  CHECK(cudaMemcpy(words, d_words, sizeof words, cudaMemcpyDeviceToHost));
  for (unsigned i = 0; i < 60; ++i) ok = ok && words[i] == Ackermann(i % 3, i / 3);
  std::printf("Ackermann(2, 19) = %u\n", words[59]);

  Hanoi<<<1, 64>>>(d_ints, d_ints + 64);
  int towers[128];
  CHECK(cudaMemcpy(towers, d_ints, sizeof towers, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; ++i) {
    const int disks = 1 + i % 8;
    ok = ok && towers[i] == (1 << disks) - 1 && towers[64 + i] == disks * 100 + disks * 10 + 1;
  }
  std::printf("Hanoi of 8: %d moves\n", towers[7]);

  const int slices = 96, each = 40;
  Random random(8);
  std::vector<int> data(slices * each), sorted(slices * each);
  for (int& value : data) value = static_cast<int>(random.Next() % 500);
  CHECK(cudaMemcpy(d_ints, data.data(), data.size() * sizeof(int), cudaMemcpyHostToDevice));
  SortSlices<<<3, 32>>>(d_ints, each);
  CHECK(cudaMemcpy(sorted.data(), d_ints, data.size() * sizeof(int), cudaMemcpyDeviceToHost));
  for (int i = 0; i < slices; ++i) std::sort(data.begin() + i * each, data.begin() + (i + 1) * each);
  ok = ok && sorted == data;
  std::printf("quicksort %016llx\n", (unsigned long long)Checksum(sorted.data(), sorted.size() * sizeof(int)));

  std::vector<Node> tree(200);
  for (int i = 0; i < 200; ++i) {
    tree[i] = {static_cast<int>(random.Next() % 100), 2 * i + 1 < 200 ? 2 * i + 1 : -1, i % 7 && 2 * i + 2 < 200 ? 2 * i + 2 : -1};
  }
  Node* d_tree;
  long long *d_sums, sums[32];
  CHECK(cudaMalloc(&d_tree, tree.size() * sizeof(Node)));
  CHECK(cudaMalloc(&d_sums, sizeof sums));
  CHECK(cudaMemcpy(d_tree, tree.data(), tree.size() * sizeof(Node), cudaMemcpyHostToDevice));
  Walk<<<1, 32>>>(d_tree, d_sums);
  CHECK(cudaMemcpy(sums, d_sums, sizeof sums, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 32; ++i) ok = ok && sums[i] == Even(tree.data(), i);
  std::printf("tree %lld\n", sums[0]);
  return Finish("recursion", ok);
}
