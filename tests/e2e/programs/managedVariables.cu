// Variables declared __managed__: host and device use the same names in turn. Several of them, of
// sizes around a page, among ordinary device variables.
#include <cstdio>
#include <cstring>

#include "common.h"

struct Totals {
  int calls;
  double sum;
};

__device__ int before = 11;
__managed__ int counter = 5;
__managed__ Totals totals = {1, 0.5};
__managed__ float large[100000];
__managed__ char text[64] = "written by the compiler";
__device__ int after = 22;
__managed__ int* link;

__global__ void Count(int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(&counter, 1);
  large[i] += static_cast<float>(i);
  if (i == 0) {
    ++totals.calls;
    totals.sum += 2.25;
    ++before;
    --after;
    text[0] = 'W';
    if (link != nullptr) atomicAdd(link, 1000);  // Other blocks add at the same time.
  }
}

bool Same(const char* what, double got, double want) {
  if (got == want) return true;
  std::printf("%s is %g, not %g\n", what, got, want);
  return false;
}

int main() {
  constexpr int kCount = 100000;
  // The first touch is the host's.
  bool ok = Same("counter", counter, 5) & Same("calls", totals.calls, 1);
  ok &= std::strcmp(text, "written by the compiler") == 0;
  for (int i = 0; i < kCount; ++i) large[i] = 1;
  counter = 7;
  link = &counter;
  Count<<<(kCount + 255) / 256, 256>>>(kCount);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  ok &= Same("counter", counter, 7 + kCount + 1000) & Same("calls", totals.calls, 2);
  ok &= Same("sum", totals.sum, 2.75) & (text[0] == 'W');
  for (int i = 0; i < kCount; ++i) ok &= large[i] == 1.0f + static_cast<float>(i);
  // Again, with some of them changed by the host in between and a copy that is not by name.
  counter = 0;
  totals.sum = 0;
  CHECK(cudaMemset(large, 0, sizeof large));
  Count<<<(kCount + 255) / 256, 256>>>(kCount);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  ok &= Same("counter", counter, kCount + 1000) & Same("calls", totals.calls, 3);
  ok &= Same("sum", totals.sum, 2.25);
  float last = 0;
  CHECK(cudaMemcpy(&last, large + kCount - 1, sizeof last, cudaMemcpyDefault));
  ok &= Same("last", last, kCount - 1);
  int beside[2] = {};
  CHECK(cudaMemcpyFromSymbol(&beside[0], before, sizeof(int)));
  CHECK(cudaMemcpyFromSymbol(&beside[1], after, sizeof(int)));
  ok &= Same("before", beside[0], 13) & Same("after", beside[1], 20);
  void* address = nullptr;
  CHECK(cudaGetSymbolAddress(&address, counter));
  ok &= address == &counter;
  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, &totals));
  std::printf("counter %d, totals %d %g, text '%s', %s\n", counter, totals.calls, totals.sum, text,
              ok ? "right" : "wrong");
  return ok ? 0 : 1;
}
