// Lets a kernel fail and reads in CUDA's error log why: by iterator, and told while it happens.
#include <cuda.h>

#include <cstring>

#include "common.h"

__global__ void StoreFarAway(int* out, long distance) {
  out[distance] = 1;
}

// The driver's entry points, found as a runtime program finds them.
template <typename Function>
static Function Find(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status;
  CHECK(cudaGetDriverEntryPointByVersion(name, &found, 12090, cudaEnableDefault, &status));
  return reinterpret_cast<Function>(found);
}

struct Heard {
  int errors = 0;
  bool names_kernel = false;
};

static void Listen(void* data, CUlogLevel level, char* message, size_t length) {
  auto* heard = static_cast<Heard*>(data);
  if (level == CU_LOG_LEVEL_ERROR) ++heard->errors;
  heard->names_kernel = heard->names_kernel || std::strstr(message, "StoreFarAway") != nullptr;
  if (std::strlen(message) != length) heard->errors = -1;
}

int main() {
  const auto current = Find<decltype(&cuLogsCurrent)>("cuLogsCurrent");
  const auto dump = Find<decltype(&cuLogsDumpToMemory)>("cuLogsDumpToMemory");
  const auto listen = Find<decltype(&cuLogsRegisterCallback)>("cuLogsRegisterCallback");
  const auto leave = Find<decltype(&cuLogsUnregisterCallback)>("cuLogsUnregisterCallback");
  Heard heard;
  CUlogsCallbackHandle handle = nullptr;
  CUlogIterator before = 0;
  int* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4));
  bool ok = listen(Listen, &heard, &handle) == CUDA_SUCCESS && current(&before, 0) == CUDA_SUCCESS;

  StoreFarAway<<<1, 1>>>(memory, 1l << 34);
  const cudaError_t result = cudaDeviceSynchronize();
  std::printf("the kernel: %s\n", cudaGetErrorName(result));
  ok = ok && result == cudaErrorIllegalAddress;

  char text[4096];
  size_t size = sizeof(text);
  ok = ok && dump(&before, text, &size, 0) == CUDA_SUCCESS && std::strlen(text) == size;
  const bool told = std::strstr(text, "StoreFarAway") != nullptr;
  std::printf("the log names the kernel: %s\n", told ? "yes" : "no");
  std::printf("the callback heard an error: %s, with the kernel's name: %s\n",
              heard.errors > 0 ? "yes" : "no", heard.names_kernel ? "yes" : "no");
  ok = ok && told && heard.errors > 0 && heard.names_kernel;
  ok = ok && leave(handle) == CUDA_SUCCESS;
  return Finish("errorLog", ok);
}
