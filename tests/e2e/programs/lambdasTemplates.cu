// Device lambdas with captures, variadic and member templates, constexpr tables, structured bindings: C++ on the device.
#include <vector>

#include "common.h"

template <typename F>
__global__ void ForEach(int n, F f) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) f(i);
}

// f after all of the others.
template <typename F, typename... Rest>
struct Composed {
  F f;
  Composed<Rest...> rest;
  __host__ __device__ auto operator()(int value) const { return f(rest(value)); }
};
template <typename F>
struct Composed<F> {
  F f;
  __host__ __device__ auto operator()(int value) const { return f(value); }
};
template <int kSize, typename T>
struct SmallVector {
  T values[kSize];
  template <typename Combine>
  __host__ __device__ T Fold(T start, Combine combine) const {
    for (const T& value : values) start = combine(start, value);
    return start;
  }
  template <int kOther>
  __host__ __device__ SmallVector<kSize + kOther, T> operator+(const SmallVector<kOther, T>& other) const {
    SmallVector<kSize + kOther, T> joined;
    for (int i = 0; i < kSize; ++i) joined.values[i] = values[i];
    for (int i = 0; i < kOther; ++i) joined.values[kSize + i] = other.values[i];
    return joined;
  }
};

template <int kCount>
struct Primes {
  int values[kCount] = {};
  constexpr Primes() {
    int found = 0;
    for (int n = 2; found < kCount; ++n) {
      bool prime = true;
      for (int i = 0; i < found; ++i) prime = prime && n % values[i] != 0;
      if (prime) values[found++] = n;
    }
  }
};
__constant__ constexpr Primes<40> primes;

template <typename... Ts>
__host__ __device__ auto Sum(Ts... values) {
  return (values + ... + 0);
}

struct Pair {
  int quotient, remainder;
};
__host__ __device__ Pair Divide(int a, int b) { return {a / b, a % b}; }

struct Affine {
  int a, b;
  __host__ __device__ int operator()(int x) const { return a * x + b; }
};

struct Horner {
  __host__ __device__ int operator()(int a, int b) const { return a * 31 + b; }
};

template <typename T>
struct Accumulator {
  T* total;
  T weight;
  __device__ void operator()(int i) const { atomicAdd(total, weight * static_cast<T>(i)); }
};

int main() {
  const int n = 1000;
  int *d_out, *d_more;
  CHECK(cudaMalloc(&d_out, n * sizeof(int)));
  CHECK(cudaMalloc(&d_more, n * sizeof(int)));
  std::vector<int> out(n);
  bool ok = true;
  const auto read = [&](const int* from) { CHECK(cudaMemcpy(out.data(), from, n * sizeof(int), cudaMemcpyDeviceToHost)); };

  const int offset = 17;
  const Affine affine = {3, 4};
  ForEach<<<4, 96>>>(n, [=] __device__(int i) { d_out[i] = affine(i) + offset; });
  read(d_out);
  for (int i = 0; i < n; ++i) ok = ok && out[i] == 3 * i + 21;
  std::printf("captures %016llx\n", (unsigned long long)Checksum(out.data(), n * sizeof(int)));

  const Composed<Affine, Affine, Affine> chain = {{2, 1}, {{5, -3}, {{1, 9}}}};
  ForEach<<<2, 64>>>(n, [=] __device__(int i) { d_more[i] = chain(d_out[i]); });
  read(d_more);
  for (int i = 0; i < n; ++i) ok = ok && out[i] == chain(3 * i + 21);
  std::printf("composed %016llx\n", (unsigned long long)Checksum(out.data(), n * sizeof(int)));

  ForEach<<<3, 32>>>(n, [=] __device__(int i) {
    const SmallVector<2, int> two = {{i, i + 1}};
    const SmallVector<3, int> three = {{2 * i, 7, -i}};
    const auto [quotient, remainder] = Divide(i, primes.values[i % 40]);
    d_out[i] = (two + three).Fold(1, Horner()) + Sum(quotient, remainder, 3);
  });
  read(d_out);
  constexpr Primes<40> host_primes;
  for (int i = 0; i < n; ++i) {
    const SmallVector<5, int> five = {{i, i + 1, 2 * i, 7, -i}};
    const auto [quotient, remainder] = Divide(i, host_primes.values[i % 40]);
    ok = ok && out[i] == five.Fold(1, Horner()) + quotient + remainder + 3;
  }
  std::printf("templates %016llx\n", (unsigned long long)Checksum(out.data(), n * sizeof(int)));

  double* d_total;
  double total = 0;
  CHECK(cudaMalloc(&d_total, sizeof total));
  CHECK(cudaMemset(d_total, 0, sizeof total));
  ForEach<<<5, 128>>>(n, Accumulator<double>{d_total, 0.5});
  CHECK(cudaMemcpy(&total, d_total, sizeof total, cudaMemcpyDeviceToHost));
  std::printf("total %.2f\n", total);
  ok = ok && total == 0.5 * n * (n - 1) / 2;
  return Finish("lambdasTemplates", ok);
}
