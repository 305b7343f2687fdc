// What is bound by arithmetic: tiled matrix product, Black-Scholes, n-body.
#include "device_array.h"
#include "formulas.h"
#include "harness.h"
#include "loops.h"

namespace farwarp::bench {
namespace {

constexpr int kTile = 32;
constexpr int kThreads = 256;

__global__ void Matmul(const float* a, const float* b, float* c, int width) {
  __shared__ float tile_a[kTile][kTile], tile_b[kTile][kTile];
  const int row = blockIdx.y * kTile + threadIdx.y;
  const int column = blockIdx.x * kTile + threadIdx.x;
  float sum = 0.0f;
  for (int tile = 0; tile < width; tile += kTile) {
    tile_a[threadIdx.y][threadIdx.x] = a[row * width + tile + threadIdx.x];
    tile_b[threadIdx.y][threadIdx.x] = b[(tile + threadIdx.y) * width + column];
    __syncthreads();
    for (int k = 0; k < kTile; ++k) sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
    __syncthreads();
  }
  c[row * width + column] = sum;
}

__global__ void BlackScholes(const float* price, const float* strike, const float* years,
                             float* call, float* put, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) PriceOption(price[i], strike[i], years[i], &call[i], &put[i]);
}

__global__ void Nbody(const float4* bodies, float4* accelerations, int count) {
  __shared__ float4 tile[kThreads];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float4 here = bodies[i];
  float ax = 0.0f, ay = 0.0f, az = 0.0f;
  for (int first = 0; first < count; first += kThreads) {
    tile[threadIdx.x] = bodies[first + threadIdx.x];
    __syncthreads();
    for (int j = 0; j < kThreads; ++j) {
      const float4 other = tile[j];
      const float dx = other.x - here.x, dy = other.y - here.y, dz = other.z - here.z;
      const float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + kSoftening);
      const float strength = other.w * inverse * inverse * inverse;
      ax += dx * strength, ay += dy * strength, az += dz * strength;
    }
    __syncthreads();
  }
  accelerations[i] = make_float4(ax, ay, az, 0.0f);
}

void MeasureMatmul() {
  constexpr int kWidth = 512;
  const auto a = RandomFloats(kWidth * kWidth, 6), b = RandomFloats(kWidth * kWidth, 7);
  std::vector<float> c(kWidth * kWidth);
  const DeviceArray<float> device_a(a), device_b(b), device_c(kWidth * kWidth);
  Measure({"matmul 512, tiles of 32",
           [&] {
             const dim3 threads(kTile, kTile), blocks(kWidth / kTile, kWidth / kTile);
             Matmul<<<blocks, threads>>>(device_a.get(), device_b.get(), device_c.get(), kWidth);
             Finish();
           },
           [&](unsigned cores) {
             Spread(cores, kWidth, [&](unsigned, size_t begin, size_t end) {
               MatmulLoop(a.data(), b.data(), c.data(), kWidth, begin, end);
             });
           },
           [&] { return Close(device_c.Values(), c, 1e-5f); }});
}

void MeasureBlackScholes() {
  constexpr int kCount = 4 << 20;
  auto price = RandomFloats(kCount, 8), strike = RandomFloats(kCount, 9),
       years = RandomFloats(kCount, 10);
  for (float& value : price) value = 5.0f + 25.0f * value;
  for (float& value : strike) value = 1.0f + 99.0f * value;
  for (float& value : years) value = 0.25f + 9.75f * value;
  std::vector<float> call(kCount), put(kCount);
  const DeviceArray<float> device_price(price), device_strike(strike), device_years(years),
      device_call(kCount), device_put(kCount);
  Measure({"Black-Scholes 4 M",
           [&] {
             BlackScholes<<<kCount / kThreads, kThreads>>>(device_price.get(), device_strike.get(),
                                                           device_years.get(), device_call.get(),
                                                           device_put.get(), kCount);
             Finish();
           },
           [&](unsigned cores) {
             Spread(cores, kCount, [&](unsigned, size_t begin, size_t end) {
               BlackScholesLoop(price.data(), strike.data(), years.data(), call.data(), put.data(),
                                begin, end);
             });
           },
           [&] {
             return Close(device_call.Values(), call, 1e-4f) &&
                    Close(device_put.Values(), put, 1e-4f);
           }});
}

void MeasureNbody() {
  constexpr int kCount = 8192;
  const auto bodies = RandomFloats(4 * kCount, 11);
  std::vector<float> accelerations(4 * kCount);
  const DeviceArray<float> device_bodies(bodies), device_accelerations(4 * kCount);
  Measure({"n-body 8 k",
           [&] {
             Nbody<<<kCount / kThreads, kThreads>>>(
                 reinterpret_cast<const float4*>(device_bodies.get()),
                 reinterpret_cast<float4*>(device_accelerations.get()), kCount);
             Finish();
           },
           [&](unsigned cores) {
             Spread(cores, kCount, [&](unsigned, size_t begin, size_t end) {
               NbodyLoop(bodies.data(), accelerations.data(), kCount, begin, end);
             });
           },
           [&] { return Close(device_accelerations.Values(), accelerations, 1e-3f); }});
}

}  // namespace

void MeasureArithmetic() {
  MeasureMatmul();
  MeasureBlackScholes();
  MeasureNbody();
}

}  // namespace farwarp::bench
