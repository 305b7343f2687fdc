// Managed memory as introductions use it: host and device work on the same pointers in turn: an
// array, a linked list whose nodes are allocated one by one, copies, and memory larger than a page;
// and where managed memory is less expected: behind a call's result and a kernel's parameters, in a
// graph, in a forked child.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
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

__global__ void increase(int* value, int by) {
  *value += by;
}

struct Box {
  int* where;
  int by;
  int value;
};

// Calls write their results to managed memory: each item's link is filled in by the next
// allocation, which is the driver's own.
bool LinkInPlace() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion("cuMemAllocManaged", &entry, 12000, cudaEnableDefault,
                                         &found));
  const auto allocate = reinterpret_cast<int (*)(Item**, size_t, unsigned)>(entry);
  Item* first = nullptr;
  Item** link = &first;
  for (int i = 1; i <= 20; ++i) {
    if (allocate(link, sizeof(Item), cudaMemAttachGlobal) != 0) return false;
    (*link)->value = i;
    (*link)->next = nullptr;
    Item* item = *link;
    link = &item->next;
    increase<<<1, 1>>>(&item->value, 1);  // The item is on the device from here on.
    CHECK(cudaDeviceSynchronize());
  }
  int sum = 0;
  while (first != nullptr) {
    Item* next = first->next;
    sum += first->value;
    CHECK(cudaFree(first));
    first = next;
  }
  printf("linked in place: %d\n", sum);
  return sum == 230;
}

// The kernel's parameters lie beside what it changes.
bool ParametersInPlace() {
  Box* box = nullptr;
  CHECK(cudaMallocManaged(&box, sizeof(Box)));
  *box = {&box->value, 5, 100};
  for (int i = 0; i < 3; ++i) {
    void* parameters[] = {&box->where, &box->by};
    CHECK(cudaLaunchKernel(reinterpret_cast<const void*>(&increase), dim3(1), dim3(1), parameters, 0,
                           nullptr));
    CHECK(cudaDeviceSynchronize());
    box->by += 1;
  }
  const int value = box->value;
  printf("parameters in place: %d\n", value);
  CHECK(cudaFree(box));
  return value == 118;
}

// A graph copies from and to managed memory as if it were the host's.
bool CopiesInGraph() {
  int *from = nullptr, *to = nullptr, *device = nullptr;
  CHECK(cudaMallocManaged(&from, 4096 * sizeof(int)));
  CHECK(cudaMallocManaged(&to, 4096 * sizeof(int)));
  CHECK(cudaMalloc(&device, 4096 * sizeof(int)));
  for (int i = 0; i < 4096; ++i) from[i] = 3 * i;
  cudaGraph_t graph;
  cudaGraphNode_t up, down;
  cudaGraphExec_t exec;
  CHECK(cudaGraphCreate(&graph, 0));
  CHECK(cudaGraphAddMemcpyNode1D(&up, graph, nullptr, 0, device, from, 4096 * sizeof(int),
                                 cudaMemcpyHostToDevice));
  CHECK(cudaGraphAddMemcpyNode1D(&down, graph, &up, 1, to, device, 4096 * sizeof(int),
                                 cudaMemcpyDeviceToHost));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  from[7] = -7;
  CHECK(cudaGraphLaunch(exec, nullptr));
  CHECK(cudaDeviceSynchronize());
  const bool ok = to[7] == -7 && to[4095] == 3 * 4095;
  printf("copied by a graph: %d\n", ok);
  CHECK(cudaGraphExecDestroy(exec));
  CHECK(cudaGraphDestroy(graph));
  CHECK(cudaFree(from));
  CHECK(cudaFree(to));
  CHECK(cudaFree(device));
  return ok;
}

// A forked child has no GPU. Whether it can read managed memory is not said, but it ends, and its
// parent goes on.
bool TouchedByChild() {
  int* data = nullptr;
  CHECK(cudaMallocManaged(&data, 1024 * sizeof(int)));
  data[1] = 21;
  twice<<<4, 256>>>(data, 1024);
  CHECK(cudaDeviceSynchronize());
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    alarm(20);
    const volatile int* read = data;
    _exit(read[1] == 42 ? 0 : 1);
  }
  int status = 0;
  const bool ended = waitpid(child, &status, 0) == child;
  const bool stuck = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
  twice<<<4, 256>>>(data, 1024);
  CHECK(cudaDeviceSynchronize());
  const int value = data[1];
  printf("after a child: %d, stuck %d\n", value, stuck);
  CHECK(cudaFree(data));
  return ended && !stuck && value == 84;
}

// Attaching changes nothing that a program can see, but is checked.
bool AttachedToStreams() {
  int *data = nullptr, *device = nullptr;
  const size_t bytes = 4096 * sizeof(int);
  cudaStream_t stream;
  CHECK(cudaMallocManaged(&data, bytes, cudaMemAttachHost));
  CHECK(cudaMalloc(&device, bytes));
  CHECK(cudaStreamCreate(&stream));
  data[0] = 21;
  CHECK(cudaStreamAttachMemAsync(stream, data));
  CHECK(cudaStreamAttachMemAsync(stream, data, bytes, cudaMemAttachGlobal));
  CHECK(cudaStreamAttachMemAsync(stream, data, 0, cudaMemAttachHost));
  CHECK(cudaStreamAttachMemAsync(nullptr, data, 0, cudaMemAttachGlobal));
  twice<<<16, 256, 0, stream>>>(data, 4096);
  CHECK(cudaStreamSynchronize(stream));
  const auto refused = [](cudaError_t result) {
    cudaGetLastError();
    return result == cudaErrorInvalidValue;
  };
  const bool ok = data[0] == 42 && refused(cudaStreamAttachMemAsync(stream, device)) &&
                  refused(cudaStreamAttachMemAsync(stream, data, bytes - 4, cudaMemAttachGlobal)) &&
                  refused(cudaStreamAttachMemAsync(stream, data, 0, 3)) &&
                  refused(cudaStreamAttachMemAsync(nullptr, data, 0, cudaMemAttachSingle));
  printf("attached: %d\n", ok);
  CHECK(cudaStreamDestroy(stream));
  CHECK(cudaFree(data));
  CHECK(cudaFree(device));
  return ok;
}

// A fat binary with one text, so long that no call has read all of it before it is sent.
bool LoadedFromManagedMemory() {
  void *load = nullptr, *unload = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion("cuModuleLoadData", &load, 12000, cudaEnableDefault,
                                         &found));
  CHECK(cudaGetDriverEntryPointByVersion("cuModuleUnload", &unload, 12000, cudaEnableDefault,
                                         &found));
  std::string text =
      ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry nothing() { ret; }\n";
  while (text.size() < (size_t{3} << 20)) text += "// This line only makes the text longer.\n";
  text.resize((text.size() + 8) / 8 * 8);  // Ends with a zero.
  struct {
    unsigned magic = 0xBA55ED50;
    unsigned short version = 1, header_bytes = 16;
    unsigned long long bytes = 0;
    unsigned short kind = 1, flags = 0x101;
    unsigned entry_header_bytes = 64;
    unsigned long long stored_bytes = 0;
    unsigned compressed_bytes = 0, option_offset = 0;
    unsigned short minor = 0, major = 7;
    unsigned sm = 70, name_offset = 0, name_bytes = 0;
    unsigned long long entry_flags = 0x11, reserved = 0, uncompressed_bytes = 0;
  } header;
  static_assert(sizeof header == 80, "a container's header and an entry's");
  header.stored_bytes = text.size();
  header.bytes = 64 + text.size();
  char* image = nullptr;
  CHECK(cudaMallocManaged(&image, sizeof header + text.size()));
  memcpy(image, &header, sizeof header);
  memcpy(image + sizeof header, text.data(), text.size());
  int* elsewhere = nullptr;
  CHECK(cudaMalloc(&elsewhere, 1024 * sizeof(int)));
  twice<<<4, 256>>>(elsewhere, 1024);  // The image is on the device from here on.
  CHECK(cudaDeviceSynchronize());
  void* module = nullptr;
  const int result = reinterpret_cast<int (*)(void**, const void*)>(load)(&module, image);
  printf("loaded from managed memory: %d\n", result);
  if (result == 0) reinterpret_cast<int (*)(void*)>(unload)(module);
  CHECK(cudaFree(image));
  CHECK(cudaFree(elsewhere));
  return result == 0;
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
  ok = LinkInPlace() && ok;
  ok = ParametersInPlace() && ok;
  ok = CopiesInGraph() && ok;
  ok = AttachedToStreams() && ok;
  ok = LoadedFromManagedMemory() && ok;
  ok = TouchedByChild() && ok;
  return Finish("managedList", ok);
}
