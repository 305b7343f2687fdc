// Inline PTX as users write it: carry chains, predicates, labels, vector loads, special registers, cache hints, bit fields.
#include <vector>

#include "common.h"

struct Big {  // 128 bits.
  unsigned w[4];
};

__device__ Big AddBig(const Big& a, const Big& b) {
  Big r;
  asm("add.cc.u32 %0, %4, %8;\n\taddc.cc.u32 %1, %5, %9;\n\taddc.cc.u32 %2, %6, %10;\n\taddc.u32 %3, %7, %11;"
      : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3])
      : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.w[0]), "r"(b.w[1]), "r"(b.w[2]), "r"(b.w[3]));
  return r;
}

__device__ unsigned CompareBig(const Big& a, const Big& b) {  // 1 if a >= b.
  unsigned r;
  asm("{\n\t.reg .u32 t;\n\tsub.cc.u32 t, %1, %5;\n\tsubc.cc.u32 t, %2, %6;\n\tsubc.cc.u32 t, %3, %7;\n\tsubc.cc.u32 t, %4, %8;\n\t"
      "subc.u32 %0, 0, 0;\n\tadd.u32 %0, %0, 1;\n\t}"
      : "=r"(r)
      : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.w[0]), "r"(b.w[1]), "r"(b.w[2]), "r"(b.w[3]));
  return r;
}

__device__ unsigned Collatz(unsigned n) {  // A loop with labels and predicates of its own.
  unsigned steps;
  asm("{\n\t.reg .pred done, odd;\n\t.reg .u32 x, bit;\n\tmov.u32 x, %1;\n\tmov.u32 %0, 0;\n"
      "L_again:\n\tsetp.le.u32 done, x, 1;\n\t@done bra L_end;\n\tand.b32 bit, x, 1;\n\tsetp.ne.u32 odd, bit, 0;\n\t"
      "@odd mad.lo.u32 x, x, 3, 1;\n\t@!odd shr.u32 x, x, 1;\n\tadd.u32 %0, %0, 1;\n\tbra L_again;\nL_end:\n\t}"
      : "=&r"(steps)
      : "r"(n));
  return steps;
}

__global__ void Compute(const Big* a, const Big* b, Big* sums, unsigned* flags, unsigned* fields, unsigned long long* wide, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  Big x;
  asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.w[0]), "=r"(x.w[1]), "=r"(x.w[2]), "=r"(x.w[3]) : "l"(a + i));
  sums[i] = AddBig(x, b[i]);
  flags[i] = CompareBig(x, b[i]) + 2 * Collatz(static_cast<unsigned>(i) + 1);
  unsigned field, inserted, found, lane, size, permuted;
  asm("bfe.u32 %0, %1, 5, 9;" : "=r"(field) : "r"(x.w[0]));
  asm("bfi.b32 %0, %1, %2, 8, 12;" : "=r"(inserted) : "r"(x.w[1]), "r"(x.w[2]));
  asm("bfind.u32 %0, %1;" : "=r"(found) : "r"(x.w[3]));
  asm("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(permuted) : "r"(x.w[0]), "r"(x.w[1]), "r"(x.w[2]));
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  asm volatile("mov.u32 %0, %%nwarpid;" : "=r"(size));
  fields[i] = field ^ inserted ^ found ^ permuted ^ (lane << 24) ^ (size == 0);
  unsigned long long product;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(product) : "r"(x.w[0]), "r"(x.w[1]), "l"(wide[i]));
  asm volatile("st.global.wt.u64 [%0], %1;" ::"l"(wide + i), "l"(product) : "memory");
}

// The dot product of four bytes, saturating conversions, a select and a prefetch.
__global__ void Mixed(const unsigned* a, const unsigned* b, int* out) {
  const int i = threadIdx.x;
  asm volatile("prefetch.global.L2 [%0];" ::"l"(a + i));
  int dot, clipped, chosen;
  asm("dp4a.s32.u32 %0, %1, %2, %3;" : "=r"(dot) : "r"(a[i]), "r"(b[i]), "r"(i));
  asm("cvt.sat.s8.s32 %0, %1;" : "=r"(clipped) : "r"(static_cast<int>(a[i]) >> 12));
  asm("slct.s32.s32 %0, %1, %2, %3;" : "=r"(chosen) : "r"(dot), "r"(clipped), "r"(static_cast<int>(b[i])));
  out[i] = dot * 31 + clipped * 7 + chosen;
}

int main() {
  const int n = 500;
  Random random(3);
  std::vector<Big> a(n), b(n), sums(n);
  std::vector<unsigned> flags(n), fields(n);
  std::vector<unsigned long long> wide(n), wide_out(n);
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < 4; ++k) a[i].w[k] = random.Next() << 9 ^ random.Next(), b[i].w[k] = random.Next() % 3 ? a[i].w[k] : ~a[i].w[k];
    wide[i] = static_cast<unsigned long long>(random.Next()) << 33;
  }
  Big *d_a, *d_b, *d_sums;
  unsigned *d_flags, *d_fields;
  unsigned long long* d_wide;
  CHECK(cudaMalloc(&d_a, n * sizeof(Big)));
  CHECK(cudaMalloc(&d_b, n * sizeof(Big)));
  CHECK(cudaMalloc(&d_sums, n * sizeof(Big)));
  CHECK(cudaMalloc(&d_flags, n * sizeof(int)));
  CHECK(cudaMalloc(&d_fields, n * sizeof(int)));
  CHECK(cudaMalloc(&d_wide, n * sizeof(long long)));
  CHECK(cudaMemcpy(d_a, a.data(), n * sizeof(Big), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_b, b.data(), n * sizeof(Big), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(d_wide, wide.data(), n * sizeof(long long), cudaMemcpyHostToDevice));
  Compute<<<(n + 63) / 64, 64>>>(d_a, d_b, d_sums, d_flags, d_fields, d_wide, n);
  CHECK(cudaMemcpy(sums.data(), d_sums, n * sizeof(Big), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(flags.data(), d_flags, n * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(fields.data(), d_fields, n * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(wide_out.data(), d_wide, n * sizeof(long long), cudaMemcpyDeviceToHost));
  int wrong = 0;
  const auto big = [](const Big& v) {
    unsigned __int128 r = 0;
    for (int k = 3; k >= 0; --k) r = r << 32 | v.w[k];
    return r;
  };
  for (int i = 0; i < n; ++i) {
    unsigned steps = 0;
    for (unsigned x = i + 1; x > 1; ++steps) x = x % 2 ? 3 * x + 1 : x / 2;
    const unsigned* w = a[i].w;
    const unsigned mask = 0xfffu << 8;
    unsigned field = (w[0] >> 5 & 0x1ff) ^ ((w[1] << 8 & mask) | (w[2] & ~mask)) ^ (w[3] ? 31 - __builtin_clz(w[3]) : ~0u) ^
                     (w[0] ^ w[1] ^ w[2]) ^ static_cast<unsigned>(i % 32) << 24;
    wrong += big(sums[i]) != big(a[i]) + big(b[i]) || flags[i] != (big(a[i]) >= big(b[i])) + 2 * steps || fields[i] != field ||
             wide_out[i] != static_cast<unsigned long long>(w[0]) * w[1] + wide[i];
  }
  std::printf("%d wrong, sums %016llx fields %016llx\n", wrong, (unsigned long long)Checksum(sums.data(), n * sizeof(Big)),
              (unsigned long long)Checksum(fields.data(), n * sizeof(int)));

  int *d_out, out[64];
  CHECK(cudaMalloc(&d_out, sizeof out));
  Mixed<<<1, 64>>>(reinterpret_cast<unsigned*>(d_a), reinterpret_cast<unsigned*>(d_b), d_out);
  CHECK(cudaMemcpy(out, d_out, sizeof out, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; ++i) {
    const unsigned x = a[i / 4].w[i % 4], y = b[i / 4].w[i % 4];
    int dot = i;
    for (int k = 0; k < 32; k += 8) dot += static_cast<signed char>(x >> k) * static_cast<int>(y >> k & 0xff);
    int clipped = static_cast<int>(x) >> 12;
    clipped = clipped > 127 ? 127 : clipped < -128 ? -128 : clipped;
    wrong += out[i] != dot * 31 + clipped * 7 + (static_cast<int>(y) >= 0 ? dot : clipped);
  }
  std::printf("mixed %016llx\n", (unsigned long long)Checksum(out, sizeof out));
  return Finish("inlinePtx", wrong == 0);
}
