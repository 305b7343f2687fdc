// Bit intrinsics, packed byte and halfword arithmetic, 64-bit and 128-bit integers: device against host.
#include <vector>

#include "common.h"

struct Results {
  uint32_t word[12];
  uint64_t wide[9];
  unsigned __int128 huge[4];
};

__global__ void Compute(const uint64_t* a, const uint64_t* b, Results* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t x = static_cast<uint32_t>(a[i]), y = static_cast<uint32_t>(b[i]);
  Results& r = out[i];
  r.word[0] = __brev(x);
  r.word[1] = __clz(x) * 100 + __popc(x);
  r.word[2] = __ffs(x) + 64 * __ffsll(a[i]);
  r.word[3] = __byte_perm(x, y, 0x7041);
  r.word[4] = __funnelshift_l(x, y, y & 31) ^ __funnelshift_r(x, y, 7);
  r.word[5] = __umulhi(x, y);
  r.word[6] = static_cast<uint32_t>(__mulhi(static_cast<int>(x), static_cast<int>(y)));
  r.word[7] = __vaddus4(x, y);
  r.word[8] = __vabsdiffs2(x, y);
  r.word[9] = __vcmpgtu4(x, y);
  r.word[10] = static_cast<uint32_t>(__sad(static_cast<int>(x), static_cast<int>(y), 3u));
  r.word[11] = __uhadd(x, y) ^ __urhadd(x, y);
  r.wide[0] = __brevll(a[i]);
  r.wide[1] = static_cast<uint64_t>(__clzll(a[i])) * 1000 + __popcll(b[i]);
  r.wide[2] = __umul64hi(a[i], b[i]);
  r.wide[3] = static_cast<uint64_t>(__mul64hi(static_cast<int64_t>(a[i]), static_cast<int64_t>(b[i])));
  r.wide[4] = b[i] ? a[i] / b[i] : 0;
  r.wide[5] = b[i] ? a[i] % b[i] : 0;
  r.wide[6] = static_cast<uint64_t>(static_cast<int64_t>(a[i]) >> (b[i] & 63));
  r.wide[7] = y ? a[i] % y : 0;
  r.wide[8] = a[i] << (b[i] & 63);
  const unsigned __int128 p = static_cast<unsigned __int128>(a[i]) << 64 | b[i], q = static_cast<unsigned __int128>(y) * a[i] + 1;
  r.huge[0] = p + q;
  r.huge[1] = p * q;
  r.huge[2] = p / q;
  r.huge[3] = static_cast<unsigned __int128>(static_cast<__int128>(p) >> (x & 127)) - q;
}

// The same on the host, a bit at a time where the device has an instruction.
static uint32_t Bytes(uint32_t x, uint32_t y, uint32_t (*operation)(uint32_t, uint32_t)) {
  uint32_t result = 0;
  for (int i = 0; i < 32; i += 8) result |= operation(x >> i & 0xff, y >> i & 0xff) << i;
  return result;
}

static Results Reference(uint64_t a, uint64_t b) {
  const uint32_t x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b);
  const int64_t sx = static_cast<int32_t>(x), sy = static_cast<int32_t>(y);
  Results r = {};
  for (int i = 0; i < 32; ++i) r.word[0] |= (x >> i & 1) << (31 - i);
  for (int i = 0; i < 64; ++i) r.wide[0] |= (a >> i & 1) << (63 - i);
  r.word[1] = (x ? __builtin_clz(x) : 32) * 100 + __builtin_popcount(x);
  r.word[2] = __builtin_ffs(static_cast<int>(x)) + 64 * __builtin_ffsll(static_cast<long long>(a));
  const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
  r.word[3] = static_cast<uint32_t>((both >> 8 & 0xff) | (both >> 32 & 0xff) << 8 | (both & 0xff) << 16 | (both >> 56) << 24);
  r.word[4] = static_cast<uint32_t>((both << (y & 31)) >> 32) ^ static_cast<uint32_t>(both >> 7);
  r.word[5] = static_cast<uint32_t>(static_cast<uint64_t>(x) * y >> 32);
  r.word[6] = static_cast<uint32_t>(sx * sy >> 32);
  r.word[7] = Bytes(x, y, [](uint32_t p, uint32_t q) { return p + q > 255 ? 255 : p + q; });
  for (int i = 0; i < 32; i += 16) {
    const int p = static_cast<int16_t>(x >> i), q = static_cast<int16_t>(y >> i);
    r.word[8] |= static_cast<uint32_t>((p > q ? p - q : q - p) & 0xffff) << i;
  }
  r.word[9] = Bytes(x, y, [](uint32_t p, uint32_t q) { return p > q ? 0xffu : 0u; });
  r.word[10] = static_cast<uint32_t>(sx > sy ? sx - sy : sy - sx) + 3;
  r.word[11] = static_cast<uint32_t>((static_cast<uint64_t>(x) + y) >> 1) ^ static_cast<uint32_t>((static_cast<uint64_t>(x) + y + 1) >> 1);
  r.wide[1] = static_cast<uint64_t>(a ? __builtin_clzll(a) : 64) * 1000 + __builtin_popcountll(b);
  r.wide[2] = static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
  r.wide[3] = static_cast<uint64_t>(static_cast<__int128>(static_cast<int64_t>(a)) * static_cast<int64_t>(b) >> 64);
  r.wide[4] = b ? a / b : 0;
  r.wide[5] = b ? a % b : 0;
  r.wide[6] = static_cast<uint64_t>(static_cast<int64_t>(a) >> (b & 63));
  r.wide[7] = y ? a % y : 0;
  r.wide[8] = a << (b & 63);
  const unsigned __int128 p = static_cast<unsigned __int128>(a) << 64 | b, q = static_cast<unsigned __int128>(y) * a + 1;
  r.huge[0] = p + q;
  r.huge[1] = p * q;
  r.huge[2] = p / q;
  r.huge[3] = static_cast<unsigned __int128>(static_cast<__int128>(p) >> (x & 127)) - q;
  return r;
}

int main() {
  const uint64_t special[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, 0x00ff00ff80017ffe};
  std::vector<uint64_t> a, b;
  for (uint64_t x : special) {
    for (uint64_t y : special) a.push_back(x), b.push_back(y);
  }
  Random random(5);
  const auto wide = [&] { return static_cast<uint64_t>(random.Next()) << 45 ^ static_cast<uint64_t>(random.Next()) << 20 ^ random.Next(); };
  while (a.size() < 2000) a.push_back(wide() >> random.Next() % 64), b.push_back(wide() >> random.Next() % 64);
  const int n = static_cast<int>(a.size());
  uint64_t *d_a, *d_b;
  Results* d_out;
  CHECK(cudaMalloc(&d_a, n * sizeof *d_a));
  CHECK(cudaMalloc(&d_b, n * sizeof *d_b));
  CHECK(cudaMalloc(&d_out, n * sizeof *d_out));
  CHECK(cudaMemcpy(d_a, a.data(), n * sizeof *d_a, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_b, b.data(), n * sizeof *d_b, cudaMemcpyHostToDevice));
  CHECK(cudaMemset(d_out, 0, n * sizeof *d_out));
  Compute<<<(n + 127) / 128, 128>>>(d_a, d_b, d_out, n);
  std::vector<Results> got(n);
  CHECK(cudaMemcpy(got.data(), d_out, n * sizeof *d_out, cudaMemcpyDeviceToHost));
  int wrong = 0;
  for (int i = 0; i < n; ++i) {
    const Results expected = Reference(a[i], b[i]);
    const auto complain = [&](const char* kind, int which) {
      if (++wrong < 10) std::printf("  %016llx %016llx: %s %d\n", (unsigned long long)a[i], (unsigned long long)b[i], kind, which);
    };
    for (int k = 0; k < 12; ++k) if (got[i].word[k] != expected.word[k]) complain("word", k);
    for (int k = 0; k < 9; ++k) if (got[i].wide[k] != expected.wide[k]) complain("wide", k);
    for (int k = 0; k < 4; ++k) if (got[i].huge[k] != expected.huge[k]) complain("huge", k);
  }
  std::printf("%d pairs, %d wrong\n", n, wrong);
  return Finish("bitOperations", wrong == 0);
}
