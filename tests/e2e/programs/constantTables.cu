// Constant memory: tables filled by initialisers, by symbol copies and by address, read uniformly and by different lanes.
#include <cmath>
#include <vector>

#include "common.h"

struct Material {
  float colour[3];
  int kind;
  const char* name;
};

__constant__ float filter[9] = {1, 2, 1, 2, 4, 2, 1, 2, 1};
__constant__ Material materials[4];
__constant__ int permutation[256];
__constant__ unsigned char bytes[5] = {'h', 'e', 'l', 'l', 'o'};
__constant__ double scale = 0.125;
__device__ const int device_table[6] = {3, 1, 4, 1, 5, 9};
__device__ int device_values[2] = {-1, 7};
__constant__ int* pointers[2] = {&device_values[1], &device_values[0]};

__global__ void Look(const int* indices, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int at = indices[i] & 255;
  for (int k = 0; k < 3; ++k) at = permutation[at];
  const Material& m = materials[at % 4];
  float sum = m.kind + m.colour[at % 3];
  for (int k = 0; k < 9; ++k) sum += filter[k];
  sum += bytes[at % 5] + device_table[at % 6] + *pointers[at % 2];
  out[i] = sum * static_cast<float>(scale);
}

__global__ void FirstLetters(const Material* copied, int* out) {
  out[threadIdx.x] = materials[threadIdx.x].name == copied[threadIdx.x].name;
}

int main() {
  const int n = 3000;
  Random random(77);
  Material host_materials[4];
  for (int i = 0; i < 4; ++i) host_materials[i] = {{i + 0.5f, i * 2.0f, -0.25f * i}, i * 10, reinterpret_cast<const char*>(0x1000 + i)};
  int host_permutation[256];
  for (int i = 0; i < 256; ++i) host_permutation[i] = i;
  for (int i = 255; i > 0; --i) {
    const int j = static_cast<int>(random.Next() % (i + 1)), held = host_permutation[i];
    host_permutation[i] = host_permutation[j];
    host_permutation[j] = held;
  }
  CHECK(cudaMemcpyToSymbol(materials, host_materials, sizeof host_materials));
  // In two parts, the second by the address of the symbol.
  CHECK(cudaMemcpyToSymbol(permutation, host_permutation, 100 * sizeof(int)));
  void* address;
  size_t size = 0;
  CHECK(cudaGetSymbolAddress(&address, permutation));
  CHECK(cudaGetSymbolSize(&size, permutation));
  CHECK(cudaMemcpy(static_cast<int*>(address) + 100, host_permutation + 100, size - 100 * sizeof(int), cudaMemcpyHostToDevice));

  std::vector<int> indices(n);
  for (int& index : indices) index = static_cast<int>(random.Next());
  std::vector<float> out(n);
  int* d_indices;
  float* d_out;
  CHECK(cudaMalloc(&d_indices, n * sizeof(int)));
  CHECK(cudaMalloc(&d_out, n * sizeof(float)));
  CHECK(cudaMemcpy(d_indices, indices.data(), n * sizeof(int), cudaMemcpyHostToDevice));
  bool ok = size == sizeof host_permutation;
  for (const double factor : {0.125, 2.0}) {
    CHECK(cudaMemcpyToSymbolAsync(scale, &factor, sizeof factor, 0, cudaMemcpyHostToDevice, cudaStreamPerThread));
    CHECK(cudaStreamSynchronize(cudaStreamPerThread));
    Look<<<(n + 127) / 128, 128>>>(d_indices, d_out, n);
    CHECK(cudaMemcpy(out.data(), d_out, n * sizeof(float), cudaMemcpyDeviceToHost));
    const int table[6] = {3, 1, 4, 1, 5, 9};
    int wrong = 0;
    for (int i = 0; i < n; ++i) {
      int at = indices[i] & 255;
      for (int k = 0; k < 3; ++k) at = host_permutation[at];
      const Material& m = host_materials[at % 4];
      const float sum = m.kind + m.colour[at % 3] + 16.0f + static_cast<float>("hello"[at % 5] + table[at % 6] + (at % 2 ? -1 : 7));
      wrong += out[i] != sum * static_cast<float>(factor);
    }
    std::printf("scale %.3f: %d wrong, checksum %016llx\n", factor, wrong, (unsigned long long)Checksum(out.data(), n * sizeof(float)));
    ok = ok && wrong == 0;
  }
  // Constant memory copied on the device and read back from its symbol.
  Material* copied;
  CHECK(cudaMalloc(&copied, sizeof host_materials));
  CHECK(cudaMemcpyFromSymbol(copied, materials, sizeof host_materials, 0, cudaMemcpyDeviceToDevice));
  FirstLetters<<<1, 4>>>(copied, d_indices);
  int same[4];
  float back[9];
  CHECK(cudaMemcpy(same, d_indices, sizeof same, cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpyFromSymbol(back, filter, 3 * sizeof(float), 4 * sizeof(float)));
  std::printf("copied %d%d%d%d, part of the filter %.0f %.0f %.0f\n", same[0], same[1], same[2], same[3], back[0], back[1], back[2]);
  ok = ok && same[0] && same[1] && same[2] && same[3] && back[0] == 4 && back[1] == 2 && back[2] == 1;
  const cudaError_t outside = cudaMemcpyToSymbol(filter, back, sizeof back, 4);
  std::printf("past the end: %s\n", cudaGetErrorName(outside));
  ok = ok && outside == cudaErrorInvalidValue;
  return Finish("constantTables", ok);
}
