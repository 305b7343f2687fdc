// Dense linear algebra: LU with partial pivoting, Cholesky, a transpose through shared memory, Jacobi iterations to convergence.
#include <cmath>
#include <utility>
#include <vector>

#include "common.h"

// One block factors a matrix in place; the pivots are found by all of its threads.
__global__ void Lu(double* a, int* pivots, int n) {
  __shared__ double best_value[128];
  __shared__ int best_row[128];
  for (int k = 0; k < n; ++k) {
    double value = -1.0;
    int row = k;
    for (int i = k + threadIdx.x; i < n; i += blockDim.x) {
      if (fabs(a[i * n + k]) > value) value = fabs(a[i * n + k]), row = i;
    }
    best_value[threadIdx.x] = value;
    best_row[threadIdx.x] = row;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) {
        const double other = best_value[threadIdx.x + half];
        const int other_row = best_row[threadIdx.x + half];
        if (other > best_value[threadIdx.x] || (other == best_value[threadIdx.x] && other_row < best_row[threadIdx.x])) {
          best_value[threadIdx.x] = other;
          best_row[threadIdx.x] = other_row;
        }
      }
    }
    __syncthreads();
    const int pivot = best_row[0];
    if (threadIdx.x == 0) pivots[k] = pivot;
    for (int j = threadIdx.x; j < n && pivot != k; j += blockDim.x) {
      const double held = a[k * n + j];
      a[k * n + j] = a[pivot * n + j];
      a[pivot * n + j] = held;
    }
    __syncthreads();
    for (int i = k + 1 + threadIdx.x; i < n; i += blockDim.x) {
      const double factor = a[i * n + k] /= a[k * n + k];
      for (int j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
    }
    __syncthreads();
  }
}

__global__ void Cholesky(float* a, int n) {
  a += blockIdx.x * n * n;
  for (int k = 0; k < n; ++k) {
    if (threadIdx.x == 0) a[k * n + k] = sqrtf(a[k * n + k]);
    __syncthreads();
    for (int i = k + 1 + threadIdx.x; i < n; i += blockDim.x) a[i * n + k] /= a[k * n + k];
    __syncthreads();
    for (int i = k + 1 + threadIdx.x; i < n; i += blockDim.x) {
      for (int j = k + 1; j <= i; ++j) a[i * n + j] -= a[i * n + k] * a[j * n + k];
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void Transpose(const T* in, T* out, int width, int height) {
  __shared__ T tile[32][33];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) {
    if (x < width && y + j < height) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * width + x];
  }
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x;
  y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) {
    if (x < height && y + j < width) out[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
  }
}

__global__ void Jacobi(const double* a, const double* b, const double* x, double* next, int n, unsigned long long* change) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  double sum = b[i];
  for (int j = 0; j < n; ++j) sum -= j == i ? 0.0 : a[i * n + j] * x[j];
  next[i] = sum / a[i * n + i];
  atomicMax(change, static_cast<unsigned long long>(__double_as_longlong(fabs(next[i] - x[i]))));
}

template <typename T>
static T* Upload(const std::vector<T>& from) {
  T* to;
  CHECK(cudaMalloc(&to, from.size() * sizeof(T)));
  CHECK(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
  return to;
}

int main() {
  Random random(55);
  const int n = 48;
  std::vector<double> a(n * n), lu(n * n);
  for (double& value : a) value = random.Uniform(-1.0f, 1.0f);
  double* d_a = Upload(a);
  int *d_pivots, pivots[n];
  CHECK(cudaMalloc(&d_pivots, sizeof pivots));
  Lu<<<1, 128>>>(d_a, d_pivots, n);
  CHECK(cudaMemcpy(lu.data(), d_a, n * n * sizeof(double), cudaMemcpyDeviceToHost));
  CHECK(cudaMemcpy(pivots, d_pivots, sizeof pivots, cudaMemcpyDeviceToHost));
  std::vector<double> permuted(a);
  for (int k = 0; k < n; ++k) {
    for (int j = 0; j < n && pivots[k] != k; ++j) std::swap(permuted[k * n + j], permuted[pivots[k] * n + j]);
  }
  double worst = 0.0;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      double sum = 0.0;
      for (int k = 0; k <= (i < j ? i : j); ++k) sum += (k == i ? 1.0 : lu[i * n + k]) * lu[k * n + j];
      worst = std::fmax(worst, std::fabs(sum - permuted[i * n + j]));
    }
  }
  bool ok = worst < 1e-12;
  std::printf("LU: %s %016llx\n", ok ? "close" : "too far", (unsigned long long)Checksum(lu.data(), n * n * sizeof(double)));

  const int m = 24, batch = 6;
  std::vector<float> factor(batch * m * m), spd(batch * m * m), got(batch * m * m);
  for (int b = 0; b < batch; ++b) {
    float* f = &factor[b * m * m];
    for (int i = 0; i < m * m; ++i) f[i] = i % m > i / m ? 0.0f : i % m == i / m ? 4.0f : random.Uniform(-0.5f, 0.5f);
    for (int i = 0; i < m * m; ++i) {
      for (int k = 0; k < m; ++k) spd[b * m * m + i] += f[i / m * m + k] * f[i % m * m + k];
    }
  }
  float* d_spd = Upload(spd);
  Cholesky<<<batch, 32>>>(d_spd, m);
  CHECK(cudaMemcpy(got.data(), d_spd, got.size() * sizeof(float), cudaMemcpyDeviceToHost));
  worst = 0.0;
  for (int i = 0; i < batch * m * m; ++i) {
    if (i % m <= i / m % m) worst = std::fmax(worst, std::fabs(got[i] - factor[i]));
  }
  ok = ok && worst < 1e-5;
  std::printf("Cholesky: %s %016llx\n", worst < 1e-5 ? "close" : "too far", (unsigned long long)Checksum(got.data(), got.size() * sizeof(float)));

  const int width = 75, height = 50;
  std::vector<short> image(width * height), turned(width * height);
  for (short& value : image) value = static_cast<short>(random.Next());
  short *d_image = Upload(image), *d_turned = Upload(turned);
  Transpose<<<dim3(3, 2), dim3(32, 8)>>>(d_image, d_turned, width, height);
  CHECK(cudaMemcpy(turned.data(), d_turned, turned.size() * sizeof(short), cudaMemcpyDeviceToHost));
  for (int i = 0; i < width * height; ++i) ok = ok && turned[i % width * height + i / width] == image[i];
  std::printf("transpose %016llx\n", (unsigned long long)Checksum(turned.data(), turned.size() * sizeof(short)));

  std::vector<double> b(n), x(n, 0.0);
  for (int i = 0; i < n; ++i) {
    a[i * n + i] += i % 2 ? n : -n;
    b[i] = random.Uniform(-5.0f, 5.0f);
  }
  CHECK(cudaMemcpy(d_a, a.data(), n * n * sizeof(double), cudaMemcpyHostToDevice));
  double *d_b = Upload(b), *d_x = Upload(x), *d_next = Upload(x), change = 1.0;
  unsigned long long* d_change;
  CHECK(cudaMalloc(&d_change, sizeof *d_change));
  int steps = 0;
  for (; change > 1e-13 && steps < 500; ++steps) {
    CHECK(cudaMemset(d_change, 0, sizeof *d_change));
    Jacobi<<<2, 32>>>(d_a, d_b, d_x, d_next, n, d_change);
    CHECK(cudaMemcpy(&change, d_change, sizeof change, cudaMemcpyDeviceToHost));
    std::swap(d_x, d_next);
  }
  CHECK(cudaMemcpy(x.data(), d_x, n * sizeof(double), cudaMemcpyDeviceToHost));
  worst = 0.0;
  for (int i = 0; i < n; ++i) {
    double sum = -b[i];
    for (int j = 0; j < n; ++j) sum += a[i * n + j] * x[j];
    worst = std::fmax(worst, std::fabs(sum));
  }
  ok = ok && worst < 1e-10 && steps < 500;
  std::printf("Jacobi: %d steps, %s %016llx\n", steps, worst < 1e-10 ? "close" : "too far", (unsigned long long)Checksum(x.data(), n * sizeof(double)));
  return Finish("linearSolvers", ok);
}
