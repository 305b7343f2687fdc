// Copies that overlap with work: cuda::pipeline with all threads and with a warp that only
// produces, and cooperative_groups::memcpy_async; each computes the same moving sum.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>

#include <cuda/pipeline>
#include <vector>

#include "common.h"

// The state of a pipeline is initialised when the pipeline is made.
#pragma nv_diag_suppress static_var_with_dynamic_init
namespace cg = cooperative_groups;

constexpr int kTile = 256;
constexpr int kStages = 3;

// One thread's part of a tile: its value weighted by the number of the tile.
__device__ float Weigh(const float* tile, int thread, int number) {
  return tile[thread] * static_cast<float>(number + 1) + tile[(thread + 1) % kTile];
}

__global__ void unified(const float* in, float* out, int tiles) {
  __shared__ float buffers[kStages][kTile];
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, kStages> state;
  auto block = cg::this_thread_block();
  auto pipeline = cuda::make_pipeline(block, &state);
  const float* mine = in + static_cast<size_t>(blockIdx.x) * tiles * kTile;
  const int thread = threadIdx.x;
  float sum = 0;
  int fetched = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    for (; fetched < tiles && fetched < tile + kStages; ++fetched) {
      pipeline.producer_acquire();
      cuda::memcpy_async(block, buffers[fetched % kStages], mine + fetched * kTile,
                         cuda::aligned_size_t<16>(kTile * sizeof(float)), pipeline);
      pipeline.producer_commit();
    }
    pipeline.consumer_wait();
    sum += Weigh(buffers[tile % kStages], thread, tile);
    pipeline.consumer_release();
  }
  out[blockIdx.x * kTile + thread] = sum;
}

// The first warp copies, all others compute.
__global__ void specialised(const float* in, float* out, int tiles) {
  __shared__ float buffers[2][kTile];
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
  auto block = cg::this_thread_block();
  const bool produces = threadIdx.x < 32;
  auto pipeline = cuda::make_pipeline(
      block, &state, produces ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer);
  const float* mine = in + static_cast<size_t>(blockIdx.x) * tiles * kTile;
  if (produces) {
    for (int tile = 0; tile < tiles; ++tile) {
      pipeline.producer_acquire();
      for (int k = threadIdx.x; k < kTile; k += 32) {
        cuda::memcpy_async(&buffers[tile % 2][k], mine + tile * kTile + k, sizeof(float), pipeline);
      }
      pipeline.producer_commit();
    }
  } else {
    const int thread = threadIdx.x - 32;
    float sum = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      pipeline.consumer_wait();
      sum += Weigh(buffers[tile % 2], thread, tile);
      pipeline.consumer_release();
    }
    out[blockIdx.x * kTile + thread] = sum;
  }
}

__global__ void grouped(const float* in, float* out, int tiles) {
  __shared__ float buffers[2][kTile];
  auto block = cg::this_thread_block();
  const float* mine = in + static_cast<size_t>(blockIdx.x) * tiles * kTile;
  const int thread = threadIdx.x, count = kTile;
  cg::memcpy_async(block, buffers[0], mine, sizeof(float) * kTile);
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      cg::memcpy_async(block, buffers[(tile + 1) % 2], count, mine + (tile + 1) * kTile, count);
      cg::wait_prior<1>(block);
    } else {
      cg::wait(block);
    }
    sum += Weigh(buffers[tile % 2], thread, tile);
    block.sync();
  }
  out[blockIdx.x * kTile + thread] = sum;
}

// A pipeline of one thread.
__global__ void single(const float* in, float* out, int tiles) {
  __shared__ float buffers[2][kTile];
  auto pipeline = cuda::make_pipeline();
  const float* mine = in + static_cast<size_t>(blockIdx.x) * tiles * kTile;
  const int thread = threadIdx.x;
  const int next = (thread + 1) % kTile;
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    __syncthreads();
    pipeline.producer_acquire();
    cuda::memcpy_async(&buffers[tile % 2][thread], mine + tile * kTile + thread, sizeof(float),
                       pipeline);
    pipeline.producer_commit();
    cuda::pipeline_consumer_wait_prior<0>(pipeline);
    __syncthreads();
    sum += buffers[tile % 2][thread] * static_cast<float>(tile + 1) + buffers[tile % 2][next];
    pipeline.consumer_release();
  }
  out[blockIdx.x * kTile + thread] = sum;
}

int main() {
  const int blocks = 6, tiles = 9;
  const size_t n = static_cast<size_t>(blocks) * tiles * kTile;
  std::vector<float> in(n), expected(blocks * kTile), out(blocks * kTile);
  Random random(11);
  for (float& x : in) x = static_cast<float>(random.Next() % 2001) - 1000.0f;  // Sums are exact.
  for (int block = 0; block < blocks; ++block) {
    for (int thread = 0; thread < kTile; ++thread) {
      float sum = 0;
      for (int tile = 0; tile < tiles; ++tile) {
        const float* values = &in[(static_cast<size_t>(block) * tiles + tile) * kTile];
        sum += values[thread] * static_cast<float>(tile + 1) + values[(thread + 1) % kTile];
      }
      expected[block * kTile + thread] = sum;
    }
  }
  float *from, *to;
  CHECK(cudaMalloc(&from, n * sizeof(float)));
  CHECK(cudaMalloc(&to, out.size() * sizeof(float)));
  CHECK(cudaMemcpy(from, in.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  bool ok = true;
  const auto check = [&](const char* name) {
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(out.data(), to, out.size() * sizeof(float), cudaMemcpyDeviceToHost));
    const bool same = out == expected;
    std::printf("%s: %016llx %s\n", name,
                static_cast<unsigned long long>(Checksum(out.data(), out.size() * sizeof(float))),
                same ? "right" : "WRONG");
    ok = ok && same;
    CHECK(cudaMemset(to, 0, out.size() * sizeof(float)));
  };
  unified<<<blocks, kTile>>>(from, to, tiles);
  check("unified");
  specialised<<<blocks, kTile + 32>>>(from, to, tiles);
  check("specialised");
  grouped<<<blocks, kTile>>>(from, to, tiles);
  check("grouped");
  single<<<blocks, kTile>>>(from, to, tiles);
  check("single");
  return Finish("asyncPipeline", ok);
}
