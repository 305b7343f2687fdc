// Makes mistakes on purpose and checks that each is reported as CUDA documents it: which code, by
// which call, whether it is remembered, and that an error of the device itself stays.
#include <climits>
#include <cstring>

#include "common.h"

__global__ void Store(int* out, int value) {
  out[threadIdx.x] = value;
}
__global__ void WideBlock(int* out) {
  out[blockIdx.x] = blockDim.x;
}

static bool all_ok = true;

static void Expect(const char* what, cudaError_t got, cudaError_t expected) {
  std::printf("%-44s %s%s\n", what, cudaGetErrorName(got),
              got == expected ? "" : "  <- unexpected");
  all_ok = all_ok && got == expected;
}

static void MistakesAreRemembered() {
  Expect("nothing happened yet", cudaGetLastError(), cudaSuccess);
  Expect("set a device that does not exist", cudaSetDevice(INT_MAX), cudaErrorInvalidDevice);
  Expect("  peek", cudaPeekAtLastError(), cudaErrorInvalidDevice);
  Expect("  peek again", cudaPeekAtLastError(), cudaErrorInvalidDevice);
  Expect("  get clears", cudaGetLastError(), cudaErrorInvalidDevice);
  Expect("  nothing is left", cudaGetLastError(), cudaSuccess);

  Expect("free a pointer nobody allocated", cudaFree(reinterpret_cast<void*>(0x1234567)),
         cudaErrorInvalidValue);
  int* memory = nullptr;
  Expect("  a success does not clear it", cudaMalloc(&memory, 4096), cudaSuccess);
  Expect("  it is still there", cudaGetLastError(), cudaErrorInvalidValue);
  Expect("free null", cudaFree(nullptr), cudaSuccess);
  Expect("free", cudaFree(memory), cudaSuccess);
}

static void MistakesInMemory() {
  void* memory = nullptr;
  Expect("malloc without a place for the result", cudaMalloc(static_cast<void**>(nullptr), 16),
         cudaErrorInvalidValue);
  Expect("malloc of nearly everything", cudaMalloc(&memory, static_cast<size_t>(1) << 60),
         cudaErrorMemoryAllocation);
  Expect("malloc of nothing", cudaMalloc(&memory, 0), cudaSuccess);
  int value = 1;
  CHECK(cudaMalloc(&memory, 4096));
  Expect("copy in no direction",
         cudaMemcpy(memory, &value, sizeof(value), static_cast<cudaMemcpyKind>(77)),
         cudaErrorInvalidMemcpyDirection);
  Expect("copy of nothing", cudaMemcpy(memory, &value, 0, cudaMemcpyHostToDevice), cudaSuccess);
  Expect("copy with a pitch below the width",
         cudaMemcpy2D(memory, 4, &value, 16, 16, 1, cudaMemcpyHostToDevice),
         cudaErrorInvalidPitchValue);
  int attribute = 0;
  Expect("an attribute that does not exist",
         cudaDeviceGetAttribute(&attribute, static_cast<cudaDeviceAttr>(9999), 0),
         cudaErrorInvalidValue);
  Expect("an attribute of no device",
         cudaDeviceGetAttribute(&attribute, cudaDevAttrWarpSize, INT_MAX), cudaErrorInvalidDevice);
  CHECK(cudaFree(memory));
  cudaGetLastError();
}

static void MistakesInLaunches() {
  int* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4096));
  WideBlock<<<1, 4096>>>(memory);
  Expect("launch with 4096 threads in a block", cudaPeekAtLastError(),
         cudaErrorInvalidConfiguration);
  Expect("  it does not spoil the device", cudaDeviceSynchronize(), cudaSuccess);
  Expect("  get", cudaGetLastError(), cudaErrorInvalidConfiguration);
  WideBlock<<<0, 32>>>(memory);
  Expect("launch of no blocks", cudaGetLastError(), cudaErrorInvalidConfiguration);
  WideBlock<<<1, 32, 64 << 20>>>(memory);
  Expect("launch with 64 MiB of shared memory", cudaGetLastError(), cudaErrorInvalidValue);
  int number = 7;
  void* arguments[] = {&memory, &number};
  Expect("launch of something that is no kernel",
         cudaLaunchKernel(&number, dim3(1), dim3(1), arguments, 0, nullptr),
         cudaErrorInvalidDeviceFunction);
  cudaFuncAttributes attributes;
  Expect("attributes of something that is no kernel", cudaFuncGetAttributes(&attributes, &number),
         cudaErrorInvalidDeviceFunction);
  Expect("  get", cudaGetLastError(), cudaErrorInvalidDeviceFunction);
  Store<<<1, 32>>>(memory, 5);
  Expect("a right launch afterwards", cudaDeviceSynchronize(), cudaSuccess);
  int values[32];
  CHECK(cudaMemcpy(values, memory, sizeof(values), cudaMemcpyDeviceToHost));
  for (int value : values) all_ok = all_ok && value == 5;
  CHECK(cudaFree(memory));
}

static void EventsAndSymbols() {
  cudaEvent_t first, second, untimed;
  CHECK(cudaEventCreate(&first));
  CHECK(cudaEventCreate(&second));
  CHECK(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  float milliseconds = 0.0f;
  Expect("time between events never recorded", cudaEventElapsedTime(&milliseconds, first, second),
         cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(first));
  CHECK(cudaEventRecord(untimed));
  CHECK(cudaDeviceSynchronize());
  Expect("time to an event without timing", cudaEventElapsedTime(&milliseconds, first, untimed),
         cudaErrorInvalidResourceHandle);
  Expect("query of an event never recorded", cudaEventQuery(second), cudaSuccess);
  int number = 7;
  Expect("copy to something that is no symbol",
         cudaMemcpyToSymbol(&number, &number, sizeof(number)), cudaErrorInvalidSymbol);
  CHECK(cudaEventDestroy(first));
  CHECK(cudaEventDestroy(second));
  CHECK(cudaEventDestroy(untimed));
  cudaGetLastError();
}

static void Texts() {
  const cudaError_t codes[] = {
      cudaSuccess,       cudaErrorInvalidValue,   cudaErrorMemoryAllocation,
      cudaErrorNoDevice, cudaErrorIllegalAddress, cudaErrorUnknown};
  for (cudaError_t code : codes) {
    all_ok = all_ok && std::strlen(cudaGetErrorString(code)) > 0;
    std::printf("%d is %s\n", static_cast<int>(code), cudaGetErrorName(code));
  }
  std::printf("12345 is %s\n", cudaGetErrorName(static_cast<cudaError_t>(12345)));
}

// Last, because the context cannot be used after it.
static void FaultStays() {
  Store<<<1, 32>>>(reinterpret_cast<int*>(0x40), 1);
  Expect("launch that will fault", cudaGetLastError(), cudaSuccess);
  Expect("  the next wait says so", cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  Expect("  get", cudaGetLastError(), cudaErrorIllegalAddress);
  void* memory = nullptr;
  Expect("  malloc afterwards", cudaMalloc(&memory, 16), cudaErrorIllegalAddress);
  Expect("  and again", cudaDeviceSynchronize(), cudaErrorIllegalAddress);
}

int main() {
  MistakesAreRemembered();
  MistakesInMemory();
  MistakesInLaunches();
  EventsAndSymbols();
  Texts();
  FaultStays();
  return Finish("errorHandling", all_ok);
}
