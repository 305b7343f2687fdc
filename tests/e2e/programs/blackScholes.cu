// Prices European options by the Black-Scholes formula, checked against the host in double
// precision.
#include <cmath>
#include <vector>

#include "common.h"

constexpr float kRate = 0.02f;
constexpr float kVolatility = 0.30f;

__global__ void BlackScholes(const float* price, const float* strike, const float* years,
                             float* call, float* put, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float s = price[i], x = strike[i], t = years[i];
  const float root = sqrtf(t);
  const float d1 =
      (logf(s / x) + (kRate + 0.5f * kVolatility * kVolatility) * t) / (kVolatility * root);
  const float d2 = d1 - kVolatility * root;
  const float cnd1 = 0.5f * erfcf(-d1 * 0.70710678f);
  const float cnd2 = 0.5f * erfcf(-d2 * 0.70710678f);
  const float discounted = x * expf(-kRate * t);
  call[i] = s * cnd1 - discounted * cnd2;
  put[i] = discounted * (1.0f - cnd2) - s * (1.0f - cnd1);
}

static double HostCall(double s, double x, double t) {
  const double rate = kRate, volatility = kVolatility;
  const double d1 =
      (std::log(s / x) + (rate + 0.5 * volatility * volatility) * t) / (volatility * std::sqrt(t));
  const double d2 = d1 - volatility * std::sqrt(t);
  return s * 0.5 * std::erfc(-d1 * std::sqrt(0.5)) -
         x * std::exp(-rate * t) * 0.5 * std::erfc(-d2 * std::sqrt(0.5));
}

int main() {
  const int n = 40000;
  const size_t bytes = n * sizeof(float);
  std::vector<float> price(n), strike(n), years(n), call(n), put(n);
  Random random(6);
  for (int i = 0; i < n; ++i) {
    price[i] = random.Uniform(5.0f, 30.0f);
    strike[i] = random.Uniform(1.0f, 100.0f);
    years[i] = random.Uniform(0.25f, 10.0f);
  }

  float* device[5];
  for (float*& pointer : device) CHECK(cudaMalloc(&pointer, bytes));
  CHECK(cudaMemcpy(device[0], price.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device[1], strike.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(device[2], years.data(), bytes, cudaMemcpyHostToDevice));
  BlackScholes<<<(n + 127) / 128, 128>>>(device[0], device[1], device[2], device[3], device[4], n);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpy(call.data(), device[3], bytes, cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(put.data(), device[4], bytes, cudaMemcpyDeviceToHost));
  for (float* pointer : device) CHECK(cudaFree(pointer));

  double worst = 0.0;
  for (int i = 0; i < n; ++i) {
    const double expected = HostCall(price[i], strike[i], years[i]);
    // Put-call parity gives the put.
    const double parity = expected - price[i] + strike[i] * std::exp(-(double)kRate * years[i]);
    worst = std::fmax(worst, std::fabs(call[i] - expected));
    worst = std::fmax(worst, std::fabs(put[i] - parity));
  }
  std::printf("blackScholes: %d options, largest error below 1e-4: %s\n", n,
              worst < 1e-4 ? "yes" : "no");
  std::printf("checksum %016llx %016llx\n", (unsigned long long)Checksum(call.data(), bytes),
              (unsigned long long)Checksum(put.data(), bytes));
  return Finish("blackScholes", worst < 1e-4);
}
