// CUB's device-wide algorithms over several types: radix sort, scan, reduction, selection, histogram, run lengths.
#include <cub/device/device_histogram.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_run_length_encode.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>

#include <algorithm>
#include <numeric>
#include <vector>

#include "common.h"

template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t n) : n_(n) { CHECK(cudaMalloc(&data_, (n + 1) * sizeof(T))); }
  explicit Buffer(const std::vector<T>& from) : Buffer(from.size()) {
    CHECK(cudaMemcpy(data_, from.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Buffer() { CHECK(cudaFree(data_)); }
  T* get() const { return data_; }
  std::vector<T> Read(size_t n) const {
    std::vector<T> out(n);
    CHECK(cudaMemcpy(out.data(), data_, n * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t n_;
};

// CUB's protocol: the first call says how much scratch memory the second one needs.
template <typename Call>
void WithScratch(Call call) {
  size_t bytes = 0;
  CHECK(call(nullptr, bytes));
  Buffer<char> scratch(bytes);
  CHECK(call(scratch.get(), bytes));
}

static bool all_ok = true;

template <typename T>
void Report(const char* what, const std::vector<T>& got, const std::vector<T>& expected) {
  const bool same = got == expected;
  std::printf("%-24s %zu items, checksum %016llx%s\n", what, got.size(),
              (unsigned long long)Checksum(got.data(), got.size() * sizeof(T)), same ? "" : " WRONG");
  all_ok = all_ok && same;
}

struct IsMultipleOf7 {
  __host__ __device__ bool operator()(int value) const { return value % 7 == 0; }
};

int main() {
  const int n = 70001;
  Random random(41);
  std::vector<int> keys(n), values(n);
  std::vector<float> floats(n);
  for (int i = 0; i < n; ++i) {
    keys[i] = static_cast<int>(random.Next()) - (1 << 23);
    values[i] = i;
    floats[i] = random.Uniform(-1000.0f, 1000.0f);
  }
  Buffer<int> d_keys(keys), d_values(values), d_keys_out(n), d_values_out(n), d_count(1);
  Buffer<float> d_floats(floats), d_floats_out(n);

  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(scratch, bytes, d_keys.get(), d_keys_out.get(), d_values.get(), d_values_out.get(), n);
  });
  std::vector<int> order(values);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return keys[a] < keys[b]; });
  std::vector<int> sorted(keys);
  std::sort(sorted.begin(), sorted.end());
  Report("radix sort, keys", d_keys_out.Read(n), sorted);
  Report("radix sort, values", d_values_out.Read(n), order);

  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceRadixSort::SortKeysDescending(scratch, bytes, d_floats.get(), d_floats_out.get(), n);
  });
  std::vector<float> descending(floats);
  std::sort(descending.begin(), descending.end(), std::greater<float>());
  Report("radix sort, floats", d_floats_out.Read(n), descending);

  std::vector<int> expected(n);
  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(scratch, bytes, d_keys.get(), d_keys_out.get(), n);
  });
  std::exclusive_scan(keys.begin(), keys.end(), expected.begin(), 0u);
  Report("exclusive sum", d_keys_out.Read(n), expected);

  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceReduce::ArgMin(scratch, bytes, d_floats.get(), d_floats_out.get(), d_count.get(), n);
  });
  const auto smallest = std::min_element(floats.begin(), floats.end());
  Report("smallest, where", d_count.Read(1), {static_cast<int>(smallest - floats.begin())});
  Report("smallest, value", d_floats_out.Read(1), {*smallest});

  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceSelect::If(scratch, bytes, d_keys.get(), d_keys_out.get(), d_count.get(), n, IsMultipleOf7());
  });
  expected.clear();
  std::copy_if(keys.begin(), keys.end(), std::back_inserter(expected), IsMultipleOf7());
  Report("selected", d_keys_out.Read(d_count.Read(1)[0]), expected);

  const int bins = 128;
  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceHistogram::HistogramEven(scratch, bytes, d_floats.get(), d_keys_out.get(), bins + 1, -512.0f, 512.0f, n);
  });
  expected.assign(bins, 0);
  for (float value : floats) {
    if (value >= -512.0f && value < 512.0f) ++expected[static_cast<int>((value + 512.0f) * 0.125f)];
  }
  Report("histogram", d_keys_out.Read(bins), expected);

  std::vector<int> runs(n);
  for (int i = 0, left = 0, value = 0; i < n; ++i, --left) {
    if (left == 0) left = 1 + random.Next() % 90, ++value;
    runs[i] = value;
  }
  Buffer<int> d_runs(runs);
  WithScratch([&](void* scratch, size_t& bytes) {
    return cub::DeviceRunLengthEncode::Encode(scratch, bytes, d_runs.get(), d_keys_out.get(), d_values_out.get(), d_count.get(), n);
  });
  std::vector<int> unique, lengths;
  for (int value : runs) {
    if (unique.empty() || unique.back() != value) unique.push_back(value), lengths.push_back(0);
    ++lengths.back();
  }
  const int count = d_count.Read(1)[0];
  Report("runs, values", d_keys_out.Read(count), unique);
  Report("runs, lengths", d_values_out.Read(count), lengths);
  return Finish("cubDevice", all_ok);
}
