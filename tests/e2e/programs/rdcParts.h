// What the files of rdcMain share.
#pragma once

using Operation = int (*)(int);
constexpr int kWeights = 4;

extern __device__ int Twice(int x);
extern __device__ int Square(int x);
extern __device__ void AddToTotal(int sum);
extern __device__ int bias;
extern __device__ int total;
extern __constant__ int weights[kWeights];
extern __managed__ int calls;

void SetBias(int value);
