// Exclusive prefix sum of any length: work-efficient scan per block in dynamic shared memory, a
// scan of the block sums, and a third kernel that adds them.
#include <vector>

#include "common.h"

constexpr int kThreads = 256;
constexpr int kPerBlock = 2 * kThreads;

__global__ void ScanBlocks(const unsigned* in, unsigned* out, unsigned* sums, int n) {
  extern __shared__ unsigned buffer[];
  const int base = blockIdx.x * kPerBlock;
  const int t = threadIdx.x;
  buffer[2 * t] = base + 2 * t < n ? in[base + 2 * t] : 0;
  buffer[2 * t + 1] = base + 2 * t + 1 < n ? in[base + 2 * t + 1] : 0;
  int offset = 1;
  for (int d = kPerBlock / 2; d > 0; d /= 2) {
    __syncthreads();
    if (t < d) {
      const int left = offset * (2 * t + 1) - 1;
      const int right = offset * (2 * t + 2) - 1;
      buffer[right] += buffer[left];
    }
    offset *= 2;
  }
  __syncthreads();
  if (t == 0) {
    if (sums != nullptr) sums[blockIdx.x] = buffer[kPerBlock - 1];
    buffer[kPerBlock - 1] = 0;
  }
  for (int d = 1; d < kPerBlock; d *= 2) {
    offset /= 2;
    __syncthreads();
    if (t < d) {
      const int left = offset * (2 * t + 1) - 1;
      const int right = offset * (2 * t + 2) - 1;
      const unsigned value = buffer[left];
      buffer[left] = buffer[right];
      buffer[right] += value;
    }
  }
  __syncthreads();
  if (base + 2 * t < n) out[base + 2 * t] = buffer[2 * t];
  if (base + 2 * t + 1 < n) out[base + 2 * t + 1] = buffer[2 * t + 1];
}

__global__ void AddSums(unsigned* out, const unsigned* sums, int n) {
  const int i = blockIdx.x * kPerBlock + threadIdx.x;
  if (i < n) out[i] += sums[blockIdx.x];
  if (i + kThreads < n) out[i + kThreads] += sums[blockIdx.x];
}

void Scan(const unsigned* in, unsigned* out, int n) {
  const int blocks = (n + kPerBlock - 1) / kPerBlock;
  unsigned* sums = nullptr;
  if (blocks > 1) CHECK(cudaMalloc(&sums, blocks * sizeof(unsigned)));
  ScanBlocks<<<blocks, kThreads, kPerBlock * sizeof(unsigned)>>>(in, out, sums, n);
  CHECK(cudaGetLastError());
  if (blocks > 1) {
    Scan(sums, sums, blocks);
    AddSums<<<blocks, kThreads>>>(out, sums, n);
    CHECK(cudaGetLastError());
    CHECK(cudaFree(sums));
  }
}

int main() {
  bool ok = true;
  for (const int n : {1, 511, 512, 513, 100000, 262145}) {
    std::vector<unsigned> in(n), out(n);
    Random random(4);
    for (unsigned& x : in) x = random.Next() % 1000;
    unsigned *device_in, *device_out;
    CHECK(cudaMalloc(&device_in, n * sizeof(unsigned)));
    CHECK(cudaMalloc(&device_out, n * sizeof(unsigned)));
    CHECK(cudaMemcpy(device_in, in.data(), n * sizeof(unsigned), cudaMemcpyHostToDevice));
    Scan(device_in, device_out, n);
    CHECK(cudaMemcpy(out.data(), device_out, n * sizeof(unsigned), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(device_in));
    CHECK(cudaFree(device_out));
    unsigned sum = 0;
    bool same = true;
    for (int i = 0; i < n; ++i) {
      same = same && out[i] == sum;
      sum += in[i];
    }
    std::printf("scan: %6d elements, last prefix %10u, checksum %016llx, %s\n", n, out[n - 1],
                (unsigned long long)Checksum(out.data(), n * sizeof(unsigned)),
                same ? "right" : "wrong");
    ok = ok && same;
  }
  return Finish("scan", ok);
}
