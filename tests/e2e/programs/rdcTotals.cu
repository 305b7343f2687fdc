// A member of a library of relocatable device code.
#include "rdcParts.h"

static __device__ int factor = 1;
__device__ int total = 0;

__device__ void AddToTotal(int sum) {
  atomicAdd(&total, factor * sum);
}
