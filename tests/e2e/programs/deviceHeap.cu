// Memory that kernels allocate: malloc and free, new and delete with constructors and virtual
// destructors, lists that outlive the kernel which built them, over-aligned types, and a heap that
// runs out.
#include <vector>

#include "common.h"

struct Node {
  Node* next;
  int value;
};

// Each thread builds a list of its own; another kernel adds them up and takes them apart.
__global__ void Build(Node** heads, int length) {
  Node* head = nullptr;
  for (int i = 0; i < length; ++i) {
    Node* node = static_cast<Node*>(malloc(sizeof(Node)));
    if (node == nullptr) break;
    node->next = head;
    node->value = static_cast<int>(threadIdx.x) * 1000 + i;
    head = node;
  }
  heads[blockIdx.x * blockDim.x + threadIdx.x] = head;
}

__global__ void Sum(Node** heads, int* sums) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  // Those of another thread.
  Node* node = heads[gridDim.x * blockDim.x - 1 - thread];
  int sum = 0;
  while (node != nullptr) {
    Node* next = node->next;
    sum += node->value;
    free(node);
    node = next;
  }
  sums[thread] = sum;
}

class Shape {
 public:
  __device__ virtual ~Shape() {}
  __device__ virtual int Area() const = 0;
};

class Square : public Shape {
 public:
  __device__ explicit Square(int side) : side_(side) {}
  __device__ int Area() const override { return side_ * side_; }

 private:
  int side_;
};

class Polygon : public Shape {
 public:
  __device__ Polygon(int corners, int* alive)
      : corners_(corners), points_(new int2[corners]), alive_(alive) {
    for (int i = 0; i < corners; ++i) points_[i] = make_int2(i, 2 * i);
    atomicAdd(alive_, 1);
  }
  __device__ ~Polygon() override {
    delete[] points_;
    atomicSub(alive_, 1);
  }
  __device__ int Area() const override {
    int area = 0;
    for (int i = 0; i < corners_; ++i) area += points_[i].x + points_[i].y;
    return area;
  }

 private:
  int corners_;
  int2* points_;
  int* alive_;
};

__global__ void Objects(int* areas, int* alive) {
  const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  Shape* shape;
  if (thread % 3 == 0) {
    shape = new Square(thread);
  } else {
    shape = new Polygon(thread % 17 + 1, alive);
  }
  __syncthreads();
  areas[thread] = shape->Area();
  delete shape;
}

struct alignas(128) Line {
  char bytes[128];
};

__global__ void Aligned(int* wrong) {
  Line* line = new Line;
  int* odd = static_cast<int*>(malloc(20));
  if (line == nullptr || reinterpret_cast<unsigned long long>(line) % 128 != 0) atomicAdd(wrong, 1);
  if (odd == nullptr || reinterpret_cast<unsigned long long>(odd) % 16 != 0) atomicAdd(wrong, 1);
  for (char& byte : line->bytes) byte = static_cast<char>(threadIdx.x);
  __syncthreads();
  for (const char& byte : line->bytes) {
    if (byte != static_cast<char>(threadIdx.x)) atomicAdd(wrong, 1);
  }
  delete line;
  free(odd);
}

// One thread takes blocks until there are no more, and gives all of them back.
__global__ void Exhaust(unsigned long long bytes, int* got) {
  void** last = nullptr;
  int count = 0;
  for (;;) {
    void** block = static_cast<void**>(malloc(bytes));
    if (block == nullptr) break;
    *block = last;
    last = block;
    ++count;
  }
  while (last != nullptr) {
    void** before = static_cast<void**>(*last);
    free(last);
    last = before;
  }
  *got = count;
}

int main() {
  bool ok = true;
  constexpr size_t kHeap = size_t{16} << 20;
  size_t limit = 0;
  CHECK(cudaDeviceGetLimit(&limit, cudaLimitMallocHeapSize));
  std::printf("heap at first: %zu\n", limit);
  CHECK(cudaDeviceSetLimit(cudaLimitMallocHeapSize, kHeap));
  CHECK(cudaDeviceGetLimit(&limit, cudaLimitMallocHeapSize));
  ok &= limit >= kHeap;

  constexpr int kBlocks = 8, kThreads = 96, kAll = kBlocks * kThreads, kLength = 20;
  Node** heads;
  int* numbers;
  CHECK(cudaMalloc(&heads, kAll * sizeof(Node*)));
  CHECK(cudaMalloc(&numbers, kAll * sizeof(int)));
  std::vector<int> host(kAll);
  Build<<<kBlocks, kThreads>>>(heads, kLength);
  Sum<<<kBlocks, kThreads>>>(heads, numbers);
  CHECK(cudaMemcpy(host.data(), numbers, kAll * sizeof(int), cudaMemcpyDeviceToHost));
  for (int i = 0; i < kAll; ++i) {
    const int owner = (kAll - 1 - i) % kThreads;
    ok &= host[i] == kLength * owner * 1000 + kLength * (kLength - 1) / 2;
  }
  std::printf("lists: %016llx\n",
              static_cast<unsigned long long>(Checksum(host.data(), kAll * sizeof(int))));

  int* alive;
  CHECK(cudaMalloc(&alive, sizeof(int)));
  CHECK(cudaMemset(alive, 0, sizeof(int)));
  Objects<<<kBlocks, kThreads>>>(numbers, alive);
  CHECK(cudaMemcpy(host.data(), numbers, kAll * sizeof(int), cudaMemcpyDeviceToHost));
  for (int i = 0; i < kAll; ++i) {
    const int corners = i % 17 + 1;
    ok &= host[i] == (i % 3 == 0 ? i * i : 3 * corners * (corners - 1) / 2);
  }
  int left = -1;
  CHECK(cudaMemcpy(&left, alive, sizeof(int), cudaMemcpyDeviceToHost));
  ok &= left == 0;
  std::printf("objects: %016llx, %d alive\n",
              static_cast<unsigned long long>(Checksum(host.data(), kAll * sizeof(int))), left);

  CHECK(cudaMemset(alive, 0, sizeof(int)));
  Aligned<<<4, 64>>>(alive);
  CHECK(cudaMemcpy(&left, alive, sizeof(int), cudaMemcpyDeviceToHost));
  ok &= left == 0;

  // All that was taken has come back, so a second round gets as much as the first.
  int got[2] = {0, 0};
  for (int& count : got) {
    Exhaust<<<1, 1>>>(size_t{1} << 20, alive);
    CHECK(cudaMemcpy(&count, alive, sizeof(int), cudaMemcpyDeviceToHost));
  }
  ok &= got[0] == got[1] && got[0] >= 8 && got[0] <= 64;
  std::printf("exhausted the same way twice: %s\n", got[0] == got[1] ? "yes" : "no");

  // Too late: kernels have used the heap.
  ok &= cudaDeviceSetLimit(cudaLimitMallocHeapSize, 2 * kHeap) != cudaSuccess;
  cudaGetLastError();
  CHECK(cudaDeviceSynchronize());
  CHECK(cudaFree(heads));
  CHECK(cudaFree(numbers));
  CHECK(cudaFree(alive));
  return Finish("deviceHeap", ok);
}
