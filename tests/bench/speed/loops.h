// The references of the speed suite: the kernels' algorithms as plain loops over a range, as one
// writes them for one core. Compiled by g++ -O3. Pure functions but for their outputs.
#pragma once

#include <cstddef>
#include <vector>

namespace farwarp::bench {

void AddLoop(const float* a, const float* b, float* sum, std::size_t begin, std::size_t end);
unsigned SumLoop(const unsigned* values, std::size_t begin, std::size_t end);
// Adds to the 256 bins.
void HistogramLoop(const unsigned char* values, unsigned* bins, std::size_t begin, std::size_t end);
// Rows [begin, end) of the inside of a square.
void StencilLoop(const float* from, float* to, std::size_t width, std::size_t begin,
                 std::size_t end);

// Rows [begin, end) of c = a * b, all of them square.
void MatmulLoop(const float* a, const float* b, float* c, std::size_t width, std::size_t begin,
                std::size_t end);
void BlackScholesLoop(const float* price, const float* strike, const float* years, float* call,
                      float* put, std::size_t begin, std::size_t end);
// Accelerations of bodies [begin, end); each body is x, y, z and mass, each result x, y, z, 0.
void NbodyLoop(const float* bodies, float* accelerations, std::size_t count, std::size_t begin,
               std::size_t end);

void SoftmaxLoop(const float* from, float* to, std::size_t width, std::size_t begin,
                 std::size_t end);
void LayernormLoop(const float* from, float* to, std::size_t width, std::size_t begin,
                   std::size_t end);

// Least significant digit first, eight bits at a time.
void RadixSortLoop(const std::vector<unsigned>& from, std::vector<unsigned>& to, unsigned cores);
// Exclusive prefix sum.
void ScanLoop(const std::vector<unsigned>& from, std::vector<unsigned>& to, unsigned cores);

}  // namespace farwarp::bench
