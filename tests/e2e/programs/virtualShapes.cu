// Objects with virtual functions made on the device, function pointers in tables, and a visitor over a tree by recursion.
#include <vector>

#include "common.h"

__device__ int squares_destroyed;

class Shape {
 public:
  __device__ virtual ~Shape() {}
  __device__ virtual double Area() const = 0;
  __device__ virtual int Corners() const { return 0; }
};

class Circle : public Shape {
 public:
  __device__ explicit Circle(double r) : r_(r) {}
  __device__ double Area() const override { return 3.0 * r_ * r_; }

 private:
  double r_;
};

class Named {
 public:
  __device__ virtual int Name() const { return 1; }
};

class Box : public Shape, public Named {
 public:
  __device__ Box(double a, double b) : a_(a), b_(b) {}
  __device__ double Area() const override { return a_ * b_; }
  __device__ int Corners() const override { return 4; }
  __device__ int Name() const override { return 7; }

 protected:
  double a_, b_;
};

class Square final : public Box {
 public:
  __device__ explicit Square(double a) : Box(a, a) {}
  __device__ ~Square() override { atomicAdd(&squares_destroyed, 1); }
  __device__ int Name() const override { return Box::Name() + 2; }
};

__global__ void Make(Shape** shapes, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  switch (i % 3) {
    case 0: shapes[i] = new Circle(i); break;
    case 1: shapes[i] = new Box(i, 2.0); break;
    default: shapes[i] = new Square(i); break;
  }
}

// Lanes of a warp meet different classes.
__global__ void Measure(Shape** shapes, double* areas, int* corners, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  areas[i] = shapes[i]->Area();
  corners[i] = shapes[i]->Corners();
  if (i % 3) corners[i] += 10 * static_cast<Named*>(static_cast<Box*>(shapes[i]))->Name();
}

__global__ void Destroy(Shape** shapes, int n, int* destroyed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) delete shapes[i];
  __syncthreads();
  if (i == 0) *destroyed = squares_destroyed;
}

// Function pointers: device functions in a table, taken on the device and handed over by the host.
typedef int (*Operation)(int, int);
__device__ int Add(int a, int b) { return a + b; }
__device__ int Multiply(int a, int b) { return a * b; }
__device__ __noinline__ int Power(int a, int b) { return b <= 0 ? 1 : a * Power(a, b - 1); }
__device__ Operation table[3] = {Add, Multiply, Power};
__device__ Operation chosen = Multiply;

__global__ void Apply(Operation given, int* out) {
  const int i = threadIdx.x;
  out[i] = table[i % 3](i % 5, i % 4) * 1000 + given(i, 3);
}

int main() {
  const int n = 200;
  Shape** shapes;
  double* d_areas;
  int *d_corners, *d_out;
  CHECK(cudaMalloc(&shapes, n * sizeof(Shape*)));
  CHECK(cudaMalloc(&d_areas, n * sizeof(double)));
  CHECK(cudaMalloc(&d_corners, n * sizeof(int)));
  CHECK(cudaMalloc(&d_out, 64 * sizeof(int)));
  Make<<<2, 128>>>(shapes, n);
  Measure<<<2, 128>>>(shapes, d_areas, d_corners, n);
  std::vector<double> areas(n);
  std::vector<int> corners(n);
  CHECK(cudaMemcpy(areas.data(), d_areas, n * sizeof(double), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(corners.data(), d_corners, n * sizeof(int), cudaMemcpyDeviceToHost));
  bool ok = true;
  for (int i = 0; i < n; ++i) {
    const double area = i % 3 == 0 ? 3.0 * i * i : i % 3 == 1 ? i * 2.0 : static_cast<double>(i) * i;
    const int expected = i % 3 == 0 ? 0 : i % 3 == 1 ? 74 : 94;
    ok = ok && areas[i] == area && corners[i] == expected;
  }
  std::printf("areas %016llx corners %016llx\n", (unsigned long long)Checksum(areas.data(), n * sizeof(double)),
              (unsigned long long)Checksum(corners.data(), n * sizeof(int)));
  Destroy<<<1, 256>>>(shapes, n, d_out);
  int destroyed = 0;
  CHECK(cudaMemcpy(&destroyed, d_out, sizeof destroyed, cudaMemcpyDeviceToHost));
  std::printf("squares destroyed: %d\n", destroyed);
  ok = ok && destroyed == n / 3;

  Operation from_device;
  CHECK(cudaMemcpyFromSymbol(&from_device, chosen, sizeof from_device));
  Apply<<<1, 64>>>(from_device, d_out);
  int out[64];
  CHECK(cudaMemcpy(out, d_out, sizeof out, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 64; ++i) {
    const int a = i % 5, b = i % 4;
    int power = 1;
    for (int k = 0; k < b; ++k) power *= a;
    ok = ok && out[i] == (i % 3 == 0 ? a + b : i % 3 == 1 ? a * b : power) * 1000 + i * 3;
  }
  std::printf("table %016llx\n", (unsigned long long)Checksum(out, sizeof out));
  return Finish("virtualShapes", ok);
}
