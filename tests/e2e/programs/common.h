// What every end-to-end program shares: an error check, reproducible input and a bitwise checksum.
//
// The programs are ordinary CUDA programs; nothing in here or in them knows of Farwarp. Each checks
// its own results on the host, prints the same lines in every run, and returns 0 only if all of its
// checks hold.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

// Stops the program at the first CUDA call that fails.
#define CHECK(call)                                                                 \
  do {                                                                              \
    const cudaError_t check_error = (call);                                         \
    if (check_error != cudaSuccess) {                                               \
      std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call,       \
                   cudaGetErrorName(check_error), cudaGetErrorString(check_error)); \
      std::exit(2);                                                                 \
    }                                                                               \
  } while (false)

// FNV-1a over the bytes: two runs agree on it only if they agree on every bit.
inline uint64_t Checksum(const void* data, size_t bytes) {
  const unsigned char* p = static_cast<const unsigned char*>(data);
  uint64_t hash = 14695981039346656037ull;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 1099511628211ull;
  return hash;
}

// A small generator whose sequence is the same on every machine.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed) {}
  uint32_t Next() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8;  // The low bits of this generator are weak.
  }
  float Uniform(float low, float high) {
    return low + (high - low) * (static_cast<float>(Next()) / 16777216.0f);
  }

 private:
  uint32_t state_;
};

// Prints the program's verdict; main returns its result.
inline int Finish(const char* program, bool ok) {
  std::printf("%s: %s\n", program, ok ? "PASSED" : "FAILED");
  return ok ? 0 : 1;
}
