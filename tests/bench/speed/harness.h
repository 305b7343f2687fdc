// The speed suite's frame: each workload runs on the GPU that the library path offers, then as
// plain loops on one core and on all cores, in turns, and the results are compared. Prints one JSON
// object; tests/bench/bench makes the table. One thread, but for the loops that it spreads.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace farwarp::bench {

// One figure. Every function does the whole work once and returns when it is done.
struct Workload {
  std::string name;                          // "vectorAdd 16 M"
  std::function<void()> device;              // Launches and waits; inputs and outputs stay there.
  std::function<void(unsigned cores)> loop;  // The same algorithm as plain loops.
  std::function<bool()> same;                // Fetches what the device made and compares.
};

// Measures the workload and prints its line; ends the program if the results differ.
void Measure(const Workload& workload);

// Runs part(index, begin, end) for `cores` parts of [0, count) at once and waits for all.
void Spread(unsigned cores, std::size_t count,
            const std::function<void(unsigned, std::size_t, std::size_t)>& part);

// Values in [0, 1) and bits, the same in each run.
std::vector<float> RandomFloats(std::size_t count, unsigned seed);
std::vector<unsigned> RandomBits(std::size_t count, unsigned seed);

// Whether all values agree within `tolerance` of the larger of 1 and the expected one.
bool Close(const std::vector<float>& got, const std::vector<float>& expected, float tolerance);

// By topic: each measures its workloads.
void MeasureStreaming();   // vectorAdd, reduction, histogram, stencil
void MeasureArithmetic();  // matmul, Black-Scholes, n-body
void MeasureRows();        // softmax, layernorm
void MeasureCub();         // sort, scan

}  // namespace farwarp::bench
