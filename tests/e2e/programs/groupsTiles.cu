// Cooperative groups below the grid: tiles of each size, coalesced and labelled groups, their reductions and scans.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include <vector>

#include "common.h"

namespace cg = cooperative_groups;

template <int kSize>
__global__ void TileSums(const int* in, int* sums, int* scans) {
  const cg::thread_block block = cg::this_thread_block();
  const auto tile = cg::tiled_partition<kSize>(block);
  const unsigned i = cg::this_grid().thread_rank();
  const int total = cg::reduce(tile, in[i], cg::plus<int>());
  scans[i] = cg::exclusive_scan(tile, in[i]);
  if (tile.thread_rank() == 0) sums[blockIdx.x * tile.meta_group_size() + tile.meta_group_rank()] = total;
}

// Each lane adds one to the counter of its label, one atomic per group of equal labels.
__global__ void CountLabels(const int* in, int labels, int* counts, int* places) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const int label = in[i] % labels;
  const cg::coalesced_group active = cg::coalesced_threads();
  const auto group = cg::labeled_partition(active, label);
  int base = 0;
  if (group.thread_rank() == 0) base = atomicAdd(&counts[label], static_cast<int>(group.size()));
  places[i] = group.shfl(base, 0) + static_cast<int>(group.thread_rank());
}

// Every third thread: the group is what the branch left.
__global__ void Coalesced(int* sizes, int* maxima) {
  if (threadIdx.x % 3 != 1) return;
  const cg::coalesced_group group = cg::coalesced_threads();
  const int largest = cg::reduce(group, static_cast<int>(threadIdx.x), cg::greater<int>());
  if (group.thread_rank() == 0) {
    sizes[threadIdx.x / 32] = static_cast<int>(group.size());
    maxima[threadIdx.x / 32] = largest;
  }
}

// A block-wide barrier split into arrival and wait, and a dynamic partition.
__global__ void SplitBarrier(const int* in, int* out) {
  __shared__ int staged[128];
  const cg::thread_block block = cg::this_thread_block();
  staged[block.thread_rank()] = in[block.thread_rank()];
  auto token = block.barrier_arrive();
  const int own = in[block.thread_rank()] * 3;
  block.barrier_wait(std::move(token));
  const cg::thread_group quad = cg::tiled_partition(block, 4);
  out[block.thread_rank()] = own + staged[block.size() - 1 - block.thread_rank()] + static_cast<int>(quad.thread_rank());
}

template <int kSize>
bool CheckTiles(const std::vector<int>& in, const int* d_in, int* d_sums, int* d_scans) {
  const int n = static_cast<int>(in.size());
  TileSums<kSize><<<n / 128, 128>>>(d_in, d_sums, d_scans);
  std::vector<int> sums(n / kSize), scans(n);
  CHECK(cudaMemcpy(sums.data(), d_sums, sums.size() * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(scans.data(), d_scans, scans.size() * sizeof(int), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0, sum = 0; i < n; ++i) {
    if (i % kSize == 0) sum = 0;
    ok = ok && scans[i] == sum;
    sum += in[i];
    if (i % kSize == kSize - 1) ok = ok && sums[i / kSize] == sum;
  }
  std::printf("tiles of %d: %s\n", kSize, ok ? "ok" : "wrong");
  return ok;
}

int main() {
  const int n = 1024, labels = 6;
  Random random(17);
  std::vector<int> in(n), got(n), counts(labels), expected(labels);
  for (int& value : in) value = static_cast<int>(random.Next() % 1000);
  for (int value : in) ++expected[value % labels];
  int *d_in, *d_a, *d_b;
  CHECK(cudaMalloc(&d_in, n * sizeof(int)));
  CHECK(cudaMalloc(&d_a, n * sizeof(int)));
  CHECK(cudaMalloc(&d_b, n * sizeof(int)));
  CHECK(cudaMemcpy(d_in, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  bool ok = CheckTiles<1>(in, d_in, d_a, d_b) && CheckTiles<4>(in, d_in, d_a, d_b) && CheckTiles<16>(in, d_in, d_a, d_b) &&
            CheckTiles<32>(in, d_in, d_a, d_b);

  CHECK(cudaMemset(d_a, 0, n * sizeof(int)));
  CountLabels<<<n / 256, 256>>>(d_in, labels, d_a, d_b);
  CHECK(cudaMemcpy(counts.data(), d_a, labels * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(got.data(), d_b, n * sizeof(int), cudaMemcpyDeviceToHost));
  // Every place of every label is given out once.
  std::vector<std::vector<bool>> taken(labels);
  for (int i = 0; i < labels; ++i) taken[i].resize(expected[i]);
  for (int i = 0; i < n; ++i) {
    const int label = in[i] % labels;
    if (got[i] < 0 || got[i] >= expected[label] || taken[label][got[i]]) ok = false;
    else taken[label][got[i]] = true;
  }
  ok = ok && counts == expected;
  for (int i = 0; i < labels; ++i) std::printf("label %d: %d\n", i, counts[i]);

  Coalesced<<<1, 96>>>(d_a, d_b);
  int sizes[3], maxima[3];
  CHECK(cudaMemcpy(sizes, d_a, sizeof sizes, cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(maxima, d_b, sizeof maxima, cudaMemcpyDeviceToHost));
  for (int warp = 0; warp < 3; ++warp) {
    int size = 0, largest = 0;
    for (int i = warp * 32; i < warp * 32 + 32; ++i) {
      if (i % 3 == 1) ++size, largest = i;
    }
    std::printf("warp %d: %d threads, largest %d\n", warp, sizes[warp], maxima[warp]);
    ok = ok && sizes[warp] == size && maxima[warp] == largest;
  }

  SplitBarrier<<<1, 128>>>(d_in, d_a);
  CHECK(cudaMemcpy(got.data(), d_a, 128 * sizeof(int), cudaMemcpyDeviceToHost));
  for (int i = 0; i < 128; ++i) ok = ok && got[i] == in[i] * 3 + in[127 - i] + i % 4;
  std::printf("split barrier %016llx\n", (unsigned long long)Checksum(got.data(), 128 * sizeof(int)));
  return Finish("groupsTiles", ok);
}
