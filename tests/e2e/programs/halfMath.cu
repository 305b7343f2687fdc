// 16-bit and 8-bit floats by the intrinsics of cuda_fp16.h, cuda_bf16.h and cuda_fp8.h: the same
// operations on the device and, by the same headers, on the host give the same bits.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "common.h"

constexpr int kCount = 4096;

template <typename T>
__host__ __device__ unsigned Bits(T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4);
  unsigned short half[2] = {0, 0};
  memcpy(half, &value, sizeof(T));
  return half[0] | unsigned{half[1]} << 16;
}

// NaNs are alike: which one an operation gives is nobody's promise.
__host__ __device__ inline unsigned short Plain(unsigned short bits, unsigned short infinity) {
  return (bits & 0x7fff) > infinity ? 0x7fff : bits;
}
__host__ __device__ inline unsigned Plain2(unsigned bits, unsigned short infinity) {
  return Plain(static_cast<unsigned short>(bits), infinity) |
         unsigned{Plain(static_cast<unsigned short>(bits >> 16), infinity)} << 16;
}

// The host has no fused operations on these types: the exact sum of a product and a number, its last
// bit telling of what does not fit, rounded once.
inline double Exact(double product, double c) {
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double part = sum - product;
  const double lost = (product - (sum - part)) + (c - part);
  unsigned long long bits;
  memcpy(&bits, &sum, sizeof bits);
  if (lost == 0) return sum;
  if ((lost < 0) != (sum < 0)) --bits;
  bits |= 1;
  double odd;
  memcpy(&odd, &bits, sizeof odd);
  return odd;
}
__host__ __device__ inline half Fused(half a, half b, half c) {
#ifdef __CUDA_ARCH__
  return __hfma(a, b, c);
#else
  return __double2half(Exact(double(__half2float(a)) * __half2float(b), __half2float(c)));
#endif
}
__host__ __device__ inline half2 Fused(half2 a, half2 b, half2 c) {
#ifdef __CUDA_ARCH__
  return __hfma2(a, b, c);
#else
  return __halves2half2(Fused(a.x, b.x, c.x), Fused(a.y, b.y, c.y));
#endif
}
__host__ __device__ inline __nv_bfloat162 Fused(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
#ifdef __CUDA_ARCH__
  return __hfma2(a, b, c);
#else
  const auto one = [](__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z) {
    return __double2bfloat16(Exact(double(__bfloat162float(x)) * __bfloat162float(y), __bfloat162float(z)));
  };
  return __halves2bfloat162(one(a.x, b.x, c.x), one(a.y, b.y, c.y));
#endif
}

constexpr int kHalfResults = 20;
__host__ __device__ void HalfOps(unsigned a_bits, unsigned b_bits, unsigned c_bits, unsigned* out) {
  half2 a, b, c;
  memcpy(&a, &a_bits, 4);
  memcpy(&b, &b_bits, 4);
  memcpy(&c, &c_bits, 4);
  int k = 0;
  const auto put = [&](unsigned bits) { out[k++] = Plain2(bits, 0x7c00); };
  put(Bits(__hadd2(a, b)));
  put(Bits(__hsub2(a, b)));
  put(Bits(__hmul2(a, b)));
  put(Bits(Fused(a, b, c)));
  put(Bits(__hadd2_sat(a, b)));
  put(Bits(__hmul2_sat(a, b)));
  put(Bits(__hmin2(a, b)));
  put(Bits(__hmax2(a, b)));
  put(Bits(__hmax2_nan(a, b)));
  put(Bits(__hneg2(a)));
  put(Bits(__habs2(a)));
  put(Bits(__heq2(a, b)));
  put(Bits(__hltu2(a, b)));
  put(Bits(__hadd(__low2half(a), __high2half(b))));
  put(Bits(Fused(__low2half(a), __low2half(b), __high2half(c))));
  put(__hbgt2(a, b) ? 1 : 0);
  put(__hle(__low2half(a), __low2half(b)) ? 1 : 0);
  put(Bits(__float2half_rz(__low2float(a) * 1.001f)));
  put(Bits(__float2half_ru(__high2float(a) * 0.999f)));
  put(Bits(__floats2half2_rn(__low2float(a) / 3.0f, __high2float(b) / 7.0f)));
}

// The host does not order the two zeros as the device does.
__host__ __device__ inline unsigned WithoutNegativeZero(unsigned bits) {
  if ((bits & 0xffff) == 0x8000) bits &= 0xffff0000;
  if (bits >> 16 == 0x8000) bits &= 0xffff;
  return bits;
}

constexpr int kBrainResults = 15;
__host__ __device__ void BrainOps(unsigned a_bits, unsigned b_bits, unsigned c_bits, unsigned* out) {
  __nv_bfloat162 a, b, c;
  memcpy(&a, &a_bits, 4);
  memcpy(&b, &b_bits, 4);
  memcpy(&c, &c_bits, 4);
  int k = 0;
  const auto put = [&](unsigned bits) { out[k++] = Plain2(bits, 0x7f80); };
  put(Bits(__hadd2(a, b)));
  put(Bits(__hsub2(a, b)));
  put(Bits(__hmul2(a, b)));
  put(Bits(Fused(a, b, c)));
  put(WithoutNegativeZero(Bits(__hmin2(a, b))));
  put(WithoutNegativeZero(Bits(__hmax2_nan(a, b))));
  put(Bits(__hneg2(a)));
  put(Bits(__habs2(a)));
  put(Bits(__hne2(a, b)));
  put(Bits(__hadd(__low2bfloat16(a), __high2bfloat16(b))));
  put(__hgeu(__low2bfloat16(a), __low2bfloat16(b)) ? 1 : 0);
  put(Bits(__float2bfloat16_rz(__low2float(a) * 1.001f)));
  put(Bits(__float2bfloat16_rn(__high2float(a) * 0.999f)));
  put(Bits(__double2bfloat16(__high2float(a) * 1.00390625)));
  put(Bits(__int2bfloat16_rn(static_cast<int>(a_bits))));
}

constexpr int kByteResults = 6;
__host__ __device__ void ByteOps(unsigned a_bits, unsigned b_bits, unsigned, unsigned* out) {
  half2 a;
  memcpy(&a, &a_bits, 4);
  const float2 x = make_float2(__low2float(a), __high2float(a) * 3.0f);
  out[0] = __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E4M3);
  out[1] = __nv_cvt_float2_to_fp8x2(x, __NV_SATFINITE, __NV_E5M2);
  out[2] = __nv_cvt_float_to_fp8(x.x * 100.0f, __NV_SATFINITE, __NV_E4M3);
  __half2_raw raw;
  memcpy(&raw, &a_bits, 4);
  out[3] = __nv_cvt_halfraw2_to_fp8x2(raw, __NV_SATFINITE, __NV_E4M3);
  const __half2_raw wide4 = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(b_bits), __NV_E4M3);
  const __half2_raw wide5 = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(b_bits), __NV_E5M2);
  out[4] = Plain2(wide4.x | unsigned{wide4.y} << 16, 0x7c00);
  out[5] = Plain2(wide5.x | unsigned{wide5.y} << 16, 0x7c00);
}

// Functions that only the device has, or whose bits the host does not share: compared by value.
__global__ void Functions(const unsigned* in, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  half2 a;
  memcpy(&a, in + 3 * i, 4);
  const half x = __habs(__low2half(a));
  float* const to = out + 8 * i;
  to[0] = __half2float(hsqrt(x));
  to[1] = __half2float(hrcp(x));
  to[2] = __half2float(hexp2(__low2half(a)));
  to[3] = __half2float(hlog2(x));
  to[4] = __half2float(hsin(__low2half(a)));
  to[5] = __bfloat162float(hsqrt(__float2bfloat16(__half2float(x))));
  to[6] = __bfloat162float(hexp(__float2bfloat16(__half2float(__low2half(a)))));
  to[7] = __half2float(hrint(__low2half(a)));
}

template <int results, void (*Operations)(unsigned, unsigned, unsigned, unsigned*)>
__global__ void OnDevice(const unsigned* in, unsigned* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  Operations(in[3 * i], in[3 * i + 1], in[3 * i + 2], out + results * i);
}

template <int results, void (*Operations)(unsigned, unsigned, unsigned, unsigned*)>
bool Compare(const char* name, const std::vector<unsigned>& in, const unsigned* device_in) {
  std::vector<unsigned> out(results * kCount);
  unsigned* device_out;
  CHECK(cudaMalloc(&device_out, out.size() * sizeof(unsigned)));
  OnDevice<results, Operations><<<kCount / 128, 128>>>(device_in, device_out);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(out.data(), device_out, out.size() * sizeof(unsigned), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_out));
  int different = 0;
  for (int i = 0; i < kCount; ++i) {
    unsigned expected[results];
    Operations(in[3 * i], in[3 * i + 1], in[3 * i + 2], expected);
    for (int k = 0; k < results; ++k) {
      if (expected[k] == out[results * i + k]) continue;
      if (++different <= 5)
        std::printf("%s %d of %08x %08x %08x: host %08x, device %08x\n", name, k, in[3 * i], in[3 * i + 1], in[3 * i + 2],
                    expected[k], out[results * i + k]);
    }
  }
  std::printf("%s: %d of %d results differ, checksum %016llx\n", name, different, results * kCount,
              (unsigned long long)Checksum(out.data(), out.size() * sizeof(unsigned)));
  return different == 0;
}

bool CompareFunctions(const std::vector<unsigned>& in, const unsigned* device_in) {
  std::vector<float> out(8 * kCount);
  float* device_out;
  CHECK(cudaMalloc(&device_out, out.size() * sizeof(float)));
  Functions<<<kCount / 128, 128>>>(device_in, device_out);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(out.data(), device_out, out.size() * sizeof(float), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(device_out));
  bool ok = true;
  for (int i = 0; i < kCount; ++i) {
    half2 a;
    std::memcpy(&a, &in[3 * i], 4);
    const double x = __low2float(a);
    if (!(std::fabs(x) > 1e-3 && std::fabs(x) < 8)) continue;
    const double expected[8] = {std::sqrt(std::fabs(x)), 1 / std::fabs(x), std::exp2(x), std::log2(std::fabs(x)),
                                std::sin(x), std::sqrt(std::fabs(x)), std::exp(x), std::rint(x)};
    for (int k = 0; k < 8; ++k) {
      const double limit = (k == 5 || k == 6 ? 0.05 : 0.003) * (std::fabs(expected[k]) + 0.1);
      if (std::fabs(expected[k] - out[8 * i + k]) <= limit) continue;
      if (ok) std::printf("function %d of %g: %g instead of %g\n", k, x, out[8 * i + k], expected[k]);
      ok = false;
    }
  }
  std::printf("functions: %s, checksum %016llx\n", ok ? "close" : "FAR",
              (unsigned long long)Checksum(out.data(), out.size() * sizeof(float)));
  return ok;
}

int main() {
  Random random(23);
  std::vector<unsigned> in(3 * kCount);
  const unsigned short special[] = {0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x3f80, 0x7f80};
  for (size_t i = 0; i < in.size(); ++i) {
    const auto half_bits = [&]() -> unsigned {
      return random.Next() % 4 == 0 ? special[random.Next() % 14] : random.Next() % 3 == 0 ? 0x3800 + random.Next() % 0x1000
                                                                                          : random.Next() & 0xffff;
    };
    const unsigned low = half_bits();
    in[i] = low | half_bits() << 16;
  }
  unsigned* device_in;
  CHECK(cudaMalloc(&device_in, in.size() * sizeof(unsigned)));
  CHECK(cudaMemcpy(device_in, in.data(), in.size() * sizeof(unsigned), cudaMemcpyHostToDevice));
  bool ok = Compare<kHalfResults, HalfOps>("half", in, device_in);
  ok &= Compare<kBrainResults, BrainOps>("bfloat16", in, device_in);
  ok &= Compare<kByteResults, ByteOps>("fp8", in, device_in);
  ok &= CompareFunctions(in, device_in);
  CHECK(cudaFree(device_in));
  return Finish("halfMath", ok);
}
