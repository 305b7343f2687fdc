// What faults in kernels do: assert, trap, a wild pointer, a misaligned access, an endless stack. Each error stays until the device
// is reset, and afterwards everything works again.
#include <cassert>

#include "common.h"

__global__ void Asserting(int n) { assert(static_cast<int>(threadIdx.x) < n && "one thread too many"); }
__global__ void Trapping(int at) {
  if (static_cast<int>(threadIdx.x) == at) __trap();
}
__global__ void Store(int* where) { where[threadIdx.x] = 1; }
__global__ void Misaligned(char* bytes) { *reinterpret_cast<int*>(bytes + 1 + 4 * threadIdx.x) = 7; }

__device__ __noinline__ int Deep(int n, int* sink) {
  volatile int frame[64];
  for (int i = 0; i < 64; ++i) frame[i] = n + i;
  if (n == 0) return *sink;
  return Deep(n - 1, sink) + frame[n % 64];
}
__global__ void Overflow(int* sink) { *sink = Deep(1 << 20, sink); }

__global__ void Fill(int* data, int value) { data[threadIdx.x] = value + static_cast<int>(threadIdx.x); }

// Whether an ordinary program works.
static bool Works() {
  int *data, out[64];
  CHECK(cudaMalloc(&data, sizeof out));
  Fill<<<1, 64>>>(data, 5);
  CHECK(cudaMemcpy(out, data, sizeof out, cudaMemcpyDeviceToHost));
  CHECK(cudaFree(data));
  for (int i = 0; i < 64; ++i) {
    if (out[i] != i + 5) return false;
  }
  return true;
}

template <typename Launch>
static bool Fault(const char* what, cudaError_t expected, Launch launch) {
  launch();
  const cudaError_t at_wait = cudaDeviceSynchronize();
  void* memory = nullptr;
  const cudaError_t later = cudaMalloc(&memory, 16);  // The error sticks to everything.
  const cudaError_t last = cudaGetLastError();
  const cudaError_t again = cudaDeviceSynchronize();
  CHECK(cudaDeviceReset());
  const bool works = Works();
  std::printf("%s: %s, then %s, %s, %s; after a reset it %s\n", what, cudaGetErrorName(at_wait), cudaGetErrorName(later),
              cudaGetErrorName(last), cudaGetErrorName(again), works ? "works" : "is broken");
  return at_wait == expected && later == expected && last == expected && again == expected && works;
}

int main() {
  bool ok = Works();
  ok &= Fault("assert", cudaErrorAssert, [] { Asserting<<<1, 33>>>(32); });
  // Asserts that hold are no fault.
  Asserting<<<4, 32>>>(32);
  CHECK(cudaDeviceSynchronize());
  ok &= Fault("trap", cudaErrorLaunchFailure, [] { Trapping<<<2, 64>>>(40); });
  ok &= Fault("null", cudaErrorIllegalAddress, [] { Store<<<1, 32>>>(nullptr); });
  ok &= Fault("wild", cudaErrorIllegalAddress, [] { Store<<<1, 32>>>(reinterpret_cast<int*>(0x7000000000000000ull)); });
  ok &= Fault("misaligned", cudaErrorMisalignedAddress, [] {
    char* bytes;
    CHECK(cudaMalloc(&bytes, 256));
    Misaligned<<<1, 32>>>(bytes);
  });
  int* sink = nullptr;
  CHECK(cudaMalloc(&sink, sizeof(int)));
  Overflow<<<1, 1>>>(sink);
  const cudaError_t overflow = cudaDeviceSynchronize();
  std::printf("endless stack: %s\n", overflow == cudaSuccess ? "nothing" : "a fault");
  ok = ok && overflow != cudaSuccess;
  CHECK(cudaDeviceReset());
  // A launch that never starts is no fault: its error goes away when it is read.
  Fill<<<1, 4096>>>(nullptr, 0);
  const cudaError_t shape = cudaGetLastError();
  std::printf("too many threads: %s, then %s\n", cudaGetErrorName(shape), cudaGetErrorName(cudaGetLastError()));
  ok = ok && shape == cudaErrorInvalidConfiguration && Works();
  return Finish("faultsAndReset", ok);
}
