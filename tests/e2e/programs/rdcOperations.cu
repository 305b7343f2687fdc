// Device functions and variables that rdcMain uses, and host code that touches one of them.
#include "common.h"
#include "rdcParts.h"

static __device__ int factor = 2;  // The other files have names like this of their own.
__device__ int bias = 3;
__constant__ int weights[kWeights];
__managed__ int calls = 0;

__device__ int Twice(int x) {
  return factor * x;
}
__device__ int Square(int x) {
  return x * x;
}

static __global__ void Set(int value) {
  bias = value;
}
void SetBias(int value) {
  Set<<<1, 1>>>(value);
  CHECK(cudaGetLastError());
}
