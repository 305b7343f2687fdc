// What kernels and loops of the speed suite compute for one element, so that both compute the same.
// Pure functions.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define SPEED_BOTH __host__ __device__ inline
#else
#define SPEED_BOTH inline
#endif

namespace farwarp::bench {

constexpr float kRate = 0.02f;
constexpr float kVolatility = 0.30f;
constexpr float kSoftening = 0.01f;
constexpr float kLayernormEpsilon = 1e-5f;

// The standard normal distribution by the polynomial of Abramowitz and Stegun, 26.2.17.
SPEED_BOTH float NormalDistribution(float d) {
  const float k = 1.0f / (1.0f + 0.2316419f * fabsf(d));
  const float polynomial =
      k * (0.31938153f +
           k * (-0.356563782f + k * (1.781477937f + k * (-1.821255978f + k * 1.330274429f))));
  const float tail = 0.39894228f * expf(-0.5f * d * d) * polynomial;
  return d > 0.0f ? 1.0f - tail : tail;
}

SPEED_BOTH void PriceOption(float price, float strike, float years, float* call, float* put) {
  const float root = sqrtf(years);
  const float d1 = (logf(price / strike) + (kRate + 0.5f * kVolatility * kVolatility) * years) /
                   (kVolatility * root);
  const float d2 = d1 - kVolatility * root;
  const float cnd1 = NormalDistribution(d1);
  const float cnd2 = NormalDistribution(d2);
  const float discounted = strike * expf(-kRate * years);
  *call = price * cnd1 - discounted * cnd2;
  *put = discounted * (1.0f - cnd2) - price * (1.0f - cnd1);
}

}  // namespace farwarp::bench
