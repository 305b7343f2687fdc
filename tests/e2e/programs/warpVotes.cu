// Warp intrinsics: votes, match, reductions and every shuffle, for full, partial and diverged warps.
#include <vector>

#include "common.h"

constexpr int kResults = 14;

__host__ __device__ unsigned Mix(unsigned x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  return x * 0x846ca68bu;
}

__device__ void Store(unsigned* out, int slot, unsigned value) {
  out[(blockIdx.x * kResults + slot) * blockDim.x + threadIdx.x] = value;
}

// One warp per block: every lane of the given mask takes part.
__global__ void Intrinsics(unsigned mask, unsigned* out) {
  const unsigned lane = threadIdx.x;
  const unsigned value = Mix(blockIdx.x * 977 + lane);
  if (!(mask >> lane & 1)) return;
  Store(out, 0, __ballot_sync(mask, value & 1));
  Store(out, 1, __any_sync(mask, (value & 0xff) == 0) * 2 + __all_sync(mask, value > 1000));
  Store(out, 2, __match_any_sync(mask, value % 5));
  int same = 0;
  const unsigned all = __match_all_sync(mask, blockIdx.x % 2 ? value : 7u, &same);
  Store(out, 3, all * 2 + same);
  Store(out, 4, __shfl_sync(mask, value, __ffs(mask) - 1));
  Store(out, 5, __shfl_xor_sync(mask, value, 0, 16));
#if __CUDA_ARCH__ >= 800
  Store(out, 6, __reduce_add_sync(mask, value));
  Store(out, 7, __reduce_max_sync(mask, static_cast<int>(value)));
  Store(out, 8, __reduce_xor_sync(mask, value));
  Store(out, 9, __reduce_and_sync(mask, value | 0xf0) + __reduce_or_sync(mask, value & 0xf0f));
#endif
  // Diverged: odd and even lanes each vote among themselves.
  if (lane & 1) {
    Store(out, 10, __ballot_sync(mask & 0xaaaaaaaau, value & 2));
  } else {
    Store(out, 10, __ballot_sync(mask & 0x55555555u, value & 4) + 1);
  }
  __syncwarp(mask);
  Store(out, 11, __popc(__activemask() & ~mask));
  Store(out, 12, mask == 0xffffffffu ? __shfl_up_sync(mask, value, 3, 8) : 0);
  const unsigned long long wide = static_cast<unsigned long long>(value) << 20;
  Store(out, 13, mask == 0xffffffffu ? static_cast<unsigned>(__shfl_down_sync(mask, wide, 5) >> 20) : 0);
}

// What the kernel must have stored for a lane.
static void Expect(unsigned mask, unsigned block, unsigned lane, bool redux, unsigned* e) {
  unsigned v[32], ballot = 0, any = 0, all = 1, match = 0, same = 1, add = 0, exclusive = 0, both = ~0u, either = 0, odd = 0, even = 0;
  int largest = -2147483647 - 1, first = -1;
  for (unsigned i = 0; i < 32; ++i) v[i] = Mix(block * 977 + i);
  const auto key = [&](unsigned i) { return block % 2 ? v[i] : 7u; };
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    if (first < 0) first = i;
    ballot |= (v[i] & 1) << i;
    any |= (v[i] & 0xff) == 0;
    all &= v[i] > 1000;
    match |= static_cast<unsigned>(v[i] % 5 == v[lane] % 5) << i;
    same &= key(i) == key(first);
    add += v[i];
    largest = static_cast<int>(v[i]) > largest ? static_cast<int>(v[i]) : largest;
    exclusive ^= v[i];
    both &= v[i] | 0xf0;
    either |= v[i] & 0xf0f;
    if (i & 1) odd |= static_cast<unsigned>((v[i] & 2) != 0) << i;
    if (!(i & 1)) even |= static_cast<unsigned>((v[i] & 4) != 0) << i;
  }
  const unsigned expected[kResults] = {ballot, any * 2 + all, match, (same ? mask : 0) * 2 + same, v[first], v[lane],
      redux ? add : 0, redux ? static_cast<unsigned>(largest) : 0, redux ? exclusive : 0, redux ? both + either : 0,
      lane & 1 ? odd : even + 1, 0, mask + 1 ? 0 : v[lane % 8 >= 3 ? lane - 3 : lane], mask + 1 ? 0 : v[lane + 5 < 32 ? lane + 5 : lane]};
  for (int i = 0; i < kResults; ++i) e[i] = expected[i];
}

int main() {
  const int blocks = 8;
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, Intrinsics));
  std::vector<unsigned> got(blocks * kResults * 32);
  unsigned* out;
  CHECK(cudaMalloc(&out, got.size() * sizeof(unsigned)));
  bool ok = true;
  for (const unsigned mask : {0xffffffffu, 0x0000ffffu, 0x80000001u, 0x5a5a1248u}) {
    CHECK(cudaMemset(out, 0, got.size() * sizeof(unsigned)));
    Intrinsics<<<blocks, 32>>>(mask, out);
    CHECK(cudaMemcpy(got.data(), out, got.size() * sizeof(unsigned), cudaMemcpyDeviceToHost));
    int wrong = 0;
    for (unsigned block = 0; block < blocks; ++block) {
      for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        unsigned expected[kResults];
        Expect(mask, block, lane, attributes.ptxVersion >= 80, expected);
        for (int i = 0; i < kResults; ++i) {
          const unsigned value = got[(block * kResults + i) * 32 + lane];
          if (value == expected[i]) continue;
          if (++wrong < 5) std::printf("  block %u lane %u result %d: %08x, expected %08x\n", block, lane, i, value, expected[i]);
        }
      }
    }
    std::printf("mask %08x: %d wrong, checksum %016llx\n", mask, wrong,
                (unsigned long long)Checksum(got.data(), got.size() * sizeof(unsigned)));
    ok = ok && wrong == 0;
  }
  CHECK(cudaFree(out));
  return Finish("warpVotes", ok);
}
