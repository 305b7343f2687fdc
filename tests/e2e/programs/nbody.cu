// Moves bodies under their mutual gravity, all pairs, with tiles of positions in shared memory.
#include <cmath>
#include <utility>
#include <vector>

#include "common.h"

constexpr int kThreads = 64;
constexpr float kSoftening = 0.01f;
constexpr float kStep = 0.001f;

__global__ void Advance(const float4* positions, float4* moved, float4* velocities, int n) {
  __shared__ float4 tile[kThreads];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float4 me = i < n ? positions[i] : make_float4(0, 0, 0, 0);
  float3 force = make_float3(0, 0, 0);
  for (int start = 0; start < n; start += kThreads) {
    const int j = start + threadIdx.x;
    tile[threadIdx.x] = j < n ? positions[j] : make_float4(0, 0, 0, 0);
    __syncthreads();
    for (int k = 0; k < kThreads; ++k) {
      const float4 other = tile[k];
      const float dx = other.x - me.x, dy = other.y - me.y, dz = other.z - me.z;
      const float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + kSoftening);
      const float scale = other.w * inverse * inverse * inverse;
      force.x += dx * scale;
      force.y += dy * scale;
      force.z += dz * scale;
    }
    __syncthreads();
  }
  if (i >= n) return;
  float4 velocity = velocities[i];
  velocity.x += force.x * kStep;
  velocity.y += force.y * kStep;
  velocity.z += force.z * kStep;
  velocities[i] = velocity;
  moved[i] = make_float4(me.x + velocity.x * kStep, me.y + velocity.y * kStep,
                         me.z + velocity.z * kStep, me.w);
}

struct Body {
  double x, y, z, mass, vx, vy, vz;
};

static void HostAdvance(std::vector<Body>& bodies) {
  const std::vector<Body> before = bodies;
  for (Body& body : bodies) {
    double fx = 0, fy = 0, fz = 0;
    for (const Body& other : before) {
      const double dx = other.x - body.x, dy = other.y - body.y, dz = other.z - body.z;
      const double inverse = 1.0 / std::sqrt(dx * dx + dy * dy + dz * dz + kSoftening);
      const double scale = other.mass * inverse * inverse * inverse;
      fx += dx * scale;
      fy += dy * scale;
      fz += dz * scale;
    }
    body.vx += fx * kStep;
    body.vy += fy * kStep;
    body.vz += fz * kStep;
  }
  for (Body& body : bodies) {
    body.x += body.vx * kStep;
    body.y += body.vy * kStep;
    body.z += body.vz * kStep;
  }
}

int main() {
  const int n = 500, steps = 4;
  std::vector<float4> positions(n);
  std::vector<Body> expected(n);
  Random random(8);
  for (int i = 0; i < n; ++i) {
    positions[i] = make_float4(random.Uniform(-1, 1), random.Uniform(-1, 1), random.Uniform(-1, 1),
                               random.Uniform(0.5f, 1.5f));
    expected[i] = {positions[i].x, positions[i].y, positions[i].z, positions[i].w, 0, 0, 0};
  }
  float4 *current, *next, *velocities;
  const size_t bytes = n * sizeof(float4);
  CHECK(cudaMalloc(&current, bytes));
  CHECK(cudaMalloc(&next, bytes));
  CHECK(cudaMalloc(&velocities, bytes));
  CHECK(cudaMemcpy(current, positions.data(), bytes, cudaMemcpyHostToDevice));
  CHECK(cudaMemset(velocities, 0, bytes));
  for (int step = 0; step < steps; ++step) {
    Advance<<<(n + kThreads - 1) / kThreads, kThreads>>>(current, next, velocities, n);
    CHECK(cudaGetLastError());
    std::swap(current, next);
    HostAdvance(expected);
  }
  CHECK(cudaMemcpy(positions.data(), current, bytes, cudaMemcpyDeviceToHost));
  CHECK(cudaFree(current));
  CHECK(cudaFree(next));
  CHECK(cudaFree(velocities));

  double worst = 0.0;
  for (int i = 0; i < n; ++i) {
    worst = std::fmax(worst, std::fabs(positions[i].x - expected[i].x));
    worst = std::fmax(worst, std::fabs(positions[i].y - expected[i].y));
    worst = std::fmax(worst, std::fabs(positions[i].z - expected[i].z));
  }
  std::printf("nbody: %d bodies, %d steps, largest error below 1e-5: %s\n", n, steps,
              worst < 1e-5 ? "yes" : "no");
  std::printf("checksum %016llx\n", (unsigned long long)Checksum(positions.data(), bytes));
  return Finish("nbody", worst < 1e-5);
}
