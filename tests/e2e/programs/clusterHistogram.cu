// Thread block clusters: a histogram whose bins are spread over the shared memories of a cluster,
// a reduction through cluster_group, sizes given by the kernel and by the launch, and launches that
// cannot be.
#include <cooperative_groups.h>

#include <vector>

#include "common.h"

namespace cg = cooperative_groups;

constexpr int kBins = 1024;

__global__ void histogram(const unsigned* in, int n, unsigned* bins, int bins_per_block) {
  extern __shared__ unsigned own[];
  cg::cluster_group cluster = cg::this_cluster();
  for (int k = threadIdx.x; k < bins_per_block; k += blockDim.x) own[k] = 0;
  cluster.sync();
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += stride) {
    const int bin = static_cast<int>(in[i] % kBins);
    unsigned* theirs = cluster.map_shared_rank(own, bin / bins_per_block);
    atomicAdd(theirs + bin % bins_per_block, 1u);
  }
  cluster.sync();
  const unsigned first = cluster.block_rank() * bins_per_block;
  for (int k = threadIdx.x; k < bins_per_block; k += blockDim.x)
    atomicAdd(bins + first + k, own[k]);
}

// Each block sums its part; the first of a cluster of 2 by 2 adds what the others have.
__global__ void __cluster_dims__(2, 2, 1) reduce(const int* in, long long* out, int per_block) {
  __shared__ long long sum;
  cg::cluster_group cluster = cg::this_cluster();
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const int block = static_cast<int>(blockIdx.y * gridDim.x + blockIdx.x);
  long long mine = 0;
  for (int k = threadIdx.x; k < per_block; k += blockDim.x) mine += in[block * per_block + k];
  atomicAdd(reinterpret_cast<unsigned long long*>(&sum), static_cast<unsigned long long>(mine));
  auto token = cluster.barrier_arrive();
  cluster.barrier_wait(std::move(token));
  if (cluster.thread_rank() == 0) {
    long long total = 0;
    for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
      total += *cluster.map_shared_rank(&sum, rank);
    }
    const int cluster_number = static_cast<int>(blockIdx.y / 2 * (gridDim.x / 2) + blockIdx.x / 2);
    out[cluster_number] = total;
  }
  cluster.sync();
}

// Passes a token round the blocks of a cluster through each other's memory.
__global__ void relay(int* out) {
  __shared__ int token;
  cg::cluster_group cluster = cg::this_cluster();
  const unsigned rank = cluster.block_rank(), blocks = cluster.num_blocks();
  token = rank == 0 ? 1 : 0;
  cluster.sync();
  for (unsigned turn = 0; turn + 1 < blocks; ++turn) {
    if (turn == rank && threadIdx.x == 0) {
      *cluster.map_shared_rank(&token, (rank + 1) % blocks) = 2 * token + static_cast<int>(rank);
    }
    cluster.sync();
  }
  if (threadIdx.x == 0) {
    int* at = out + 4 * blockIdx.x;
    at[0] = token;
    at[1] = static_cast<int>(cluster.query_shared_rank(&token));
    at[2] = static_cast<int>(cluster.dim_blocks().x * 100 + cluster.block_index().x);
    at[3] = static_cast<int>(cluster.num_threads());
  }
  cluster.sync();
}

int main() {
  int clusters = 0;
  CHECK(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, 0));
  std::printf("cluster launch: %d\n", clusters);
  bool ok = clusters == 1;

  const int n = 50000;
  std::vector<unsigned> in(n);
  std::vector<unsigned> expected(kBins);
  Random random(23);
  for (unsigned& x : in) ++expected[(x = random.Next()) % kBins];
  unsigned *from, *bins;
  CHECK(cudaMalloc(&from, n * sizeof(unsigned)));
  CHECK(cudaMalloc(&bins, kBins * sizeof(unsigned)));
  CHECK(cudaMemcpy(from, in.data(), n * sizeof(unsigned), cudaMemcpyHostToDevice));
  for (const int size : {1, 2, 4, 8}) {
    CHECK(cudaMemset(bins, 0, kBins * sizeof(unsigned)));
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(16);
    config.blockDim = dim3(128);
    config.dynamicSmemBytes = kBins / size * sizeof(unsigned);
    cudaLaunchAttribute attribute[1];
    attribute[0].id = cudaLaunchAttributeClusterDimension;
    attribute[0].val.clusterDim.x = static_cast<unsigned>(size);
    attribute[0].val.clusterDim.y = 1;
    attribute[0].val.clusterDim.z = 1;
    config.attrs = attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, histogram, static_cast<const unsigned*>(from), n, bins,
                             kBins / size));
    std::vector<unsigned> got(kBins);
    CHECK(cudaMemcpy(got.data(), bins, kBins * sizeof(unsigned), cudaMemcpyDeviceToHost));
    std::printf("histogram over %d: %016llx %s\n", size,
                static_cast<unsigned long long>(Checksum(got.data(), kBins * sizeof(unsigned))),
                got == expected ? "right" : "WRONG");
    ok = ok && got == expected;
  }

  long long* sums;
  CHECK(cudaMalloc(&sums, 6 * sizeof(long long)));
  reduce<<<dim3(6, 4), 64>>>(reinterpret_cast<const int*>(from), sums, 2000);
  CHECK(cudaGetLastError());
  std::vector<long long> got(6), want(6);
  CHECK(cudaMemcpy(got.data(), sums, 6 * sizeof(long long), cudaMemcpyDeviceToHost));
  for (int block = 0; block < 24; ++block) {
    for (int k = 0; k < 2000; ++k) {
      want[block / 6 / 2 * 3 + block % 6 / 2] += static_cast<int>(in[block * 2000 + k]);
    }
  }
  for (int k = 0; k < 6; ++k) std::printf("cluster %d: %lld\n", k, got[k]);
  ok = ok && got == want;

  int* tokens;
  CHECK(cudaMalloc(&tokens, 32 * sizeof(int)));
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(8);
  config.blockDim = dim3(32);
  cudaLaunchAttribute attribute[1];
  attribute[0].id = cudaLaunchAttributeClusterDimension;
  attribute[0].val.clusterDim.x = 4;
  attribute[0].val.clusterDim.y = attribute[0].val.clusterDim.z = 1;
  config.attrs = attribute;
  config.numAttrs = 1;
  CHECK(cudaLaunchKernelEx(&config, relay, tokens));
  std::vector<int> relayed(32);
  CHECK(cudaMemcpy(relayed.data(), tokens, 32 * sizeof(int), cudaMemcpyDeviceToHost));
  for (int block = 0; block < 8; ++block) {
    int token = 1;
    for (int rank = 0; rank < block % 4; ++rank) token = 2 * token + rank;
    const int* at = &relayed[4 * block];
    std::printf("block %d: token %d, rank %d, %d, %d threads\n", block, at[0], at[1], at[2], at[3]);
    ok = ok && at[0] == token && at[1] == block % 4 && at[2] == 400 + block % 4 && at[3] == 128;
  }

  // More than 8 blocks only where a kernel allows it; the grid must be a multiple.
  config.gridDim = dim3(16);
  attribute[0].val.clusterDim.x = 16;
  const cudaError_t large = cudaLaunchKernelEx(&config, relay, tokens);
  std::printf("16 blocks: %s\n", cudaGetErrorName(large));
  ok = ok && large == cudaErrorInvalidClusterSize;
  config.gridDim = dim3(7);
  attribute[0].val.clusterDim.x = 2;
  const bool refused = cudaLaunchKernelEx(&config, relay, tokens) != cudaSuccess;
  std::printf("7 blocks in pairs: %s\n", refused ? "refused" : "launched");
  ok = ok && refused;
  CHECK(cudaDeviceSynchronize());
  return Finish("clusterHistogram", ok);
}
