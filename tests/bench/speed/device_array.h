// DeviceArray: memory of the GPU with the lifetime of a C++ object, for the speed suite. A failing
// CUDA call ends the program with its place. One thread.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace farwarp::bench {

inline void CheckCuda(cudaError_t error, const char* file, int line) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, cudaGetErrorString(error));
  std::exit(1);
}
#define SPEED_CHECK(call) ::farwarp::bench::CheckCuda(call, __FILE__, __LINE__)

// Waits for what was launched.
inline void Finish() {
  SPEED_CHECK(cudaGetLastError());
  SPEED_CHECK(cudaDeviceSynchronize());
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    SPEED_CHECK(cudaMalloc(&data_, count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { Set(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  std::size_t size() const { return count_; }
  void Set(const std::vector<T>& values) {
    SPEED_CHECK(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> Values() const {
    std::vector<T> values(count_);
    SPEED_CHECK(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

}  // namespace farwarp::bench
