// Managed memory as introductions use it: host and device work on the same pointers in turn: an
// array, a linked list whose nodes are allocated one by one, copies, and memory larger than a page.
#include <cstring>
#include <vector>

#include "common.h"

struct Item {
  int value;
  Item* next;
};

__global__ void twice(int* data, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] *= 2;
}
__global__ void walk(Item* list, int* sum, int* count) {
  for (Item* item = list; item != nullptr; item = item->next) {
    *sum += item->value;
    ++*count;
    item->value = -item->value;
  }
}

int main() {
  bool ok = true;
  int supported = 0;
  CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrManagedMemory, 0));
  printf("managed memory: %d\n", supported);

  const int n = 1 << 20;
  int* data = nullptr;
  CHECK(cudaMallocManaged(&data, n * sizeof(int)));
  for (int i = 0; i < n; ++i) data[i] = i;
  for (int round = 0; round < 3; ++round) {
    twice<<<(n + 255) / 256, 256>>>(data, n);
    CHECK(cudaDeviceSynchronize());
    data[round] += 1;  // Between two launches.
  }
  for (int i = 0; i < n; ++i) {
    const int expected = i == 0 ? (((0 * 2 + 1) * 2) * 2) : i == 1 ? ((4 + 1) * 2) : i == 2 ? 17 : 8 * i;
    if (data[i] != expected) {
      if (ok) printf("element %d is %d instead of %d\n", i, data[i], expected);
      ok = false;
    }
  }
  printf("checksum %016llx\n", static_cast<unsigned long long>(Checksum(data, n * sizeof(int))));

  Item* list = nullptr;
  int expected_sum = 0;
  for (int i = 0; i < 100; ++i) {
    Item* item = nullptr;
    CHECK(cudaMallocManaged(&item, sizeof(Item)));
    item->value = 3 * i + 1;
    item->next = list;
    list = item;
    expected_sum += item->value;
  }
  int* results = nullptr;
  CHECK(cudaMallocManaged(&results, 2 * sizeof(int)));
  results[0] = results[1] = 0;
  cudaStream_t stream;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  walk<<<1, 1, 0, stream>>>(list, &results[0], &results[1]);
  CHECK(cudaStreamSynchronize(stream));
  printf("list: sum %d of %d\n", results[0], results[1]);
  ok = ok && results[0] == expected_sum && results[1] == 100;
  int negative = 0;
  for (Item* item = list; item != nullptr; item = item->next) negative += item->value < 0;
  printf("negated: %d\n", negative);
  ok = ok && negative == 100;

  // Copies between managed and other memory.
  std::vector<int> host(1000);
  CHECK(cudaMemcpy(host.data(), data, 1000 * sizeof(int), cudaMemcpyDefault));
  for (int i = 3; i < 1000; ++i) ok = ok && host[i] == 8 * i;
  data[500] = -1;
  CHECK(cudaMemcpy(host.data(), data, 1000 * sizeof(int), cudaMemcpyDeviceToHost));
  ok = ok && host[500] == -1;
  CHECK(cudaMemset(data, 0, 500 * sizeof(int)));
  ok = ok && data[499] == 0 && data[500] == -1;
  int* device = nullptr;
  CHECK(cudaMalloc(&device, 1000 * sizeof(int)));
  CHECK(cudaMemcpy(device, data, 1000 * sizeof(int), cudaMemcpyHostToDevice));
  CHECK(cudaMemcpy(host.data(), device, 1000 * sizeof(int), cudaMemcpyDeviceToHost));
  ok = ok && std::memcmp(host.data(), data, 1000 * sizeof(int)) == 0;

  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, data + 5));
  printf("type %d, same host pointer %d\n", static_cast<int>(attributes.type),
         attributes.hostPointer == attributes.devicePointer);
  while (list != nullptr) {
    Item* next = list->next;
    CHECK(cudaFree(list));
    list = next;
  }
  CHECK(cudaFree(results));
  CHECK(cudaFree(device));
  CHECK(cudaFree(data));
  return Finish("managedList", ok);
}
