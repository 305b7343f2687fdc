// What the toolkit's own CUB does: sort and scan.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "device_array.h"
#include "harness.h"
#include "loops.h"

namespace farwarp::bench {
namespace {

constexpr int kCount = 4 << 20;

// call(temporary, bytes) is CUB's way: once to ask how much memory it needs, then to work.
template <typename Call, typename Loop>
void MeasureCall(const char* name, const DeviceArray<unsigned>& result, Call call, Loop loop) {
  std::size_t bytes = 0;
  SPEED_CHECK(call(nullptr, bytes));
  const DeviceArray<char> temporary(bytes);
  std::vector<unsigned> expected;
  Measure({name,
           [&] {
             SPEED_CHECK(call(temporary.get(), bytes));
             Finish();
           },
           [&](unsigned cores) { loop(expected, cores); },
           [&] { return result.Values() == expected; }});
}

}  // namespace

void MeasureCub() {
  const auto values = RandomBits(kCount, 13);
  const DeviceArray<unsigned> from(values), to(kCount);
  MeasureCall(
      "CUB radix sort 4 M", to,
      [&](void* temporary, std::size_t& bytes) {
        return cub::DeviceRadixSort::SortKeys(temporary, bytes, from.get(), to.get(), kCount);
      },
      [&](std::vector<unsigned>& expected, unsigned cores) {
        RadixSortLoop(values, expected, cores);
      });
  MeasureCall(
      "CUB exclusive scan 4 M", to,
      [&](void* temporary, std::size_t& bytes) {
        return cub::DeviceScan::ExclusiveSum(temporary, bytes, from.get(), to.get(), kCount);
      },
      [&](std::vector<unsigned>& expected, unsigned cores) { ScanLoop(values, expected, cores); });
}

}  // namespace farwarp::bench
