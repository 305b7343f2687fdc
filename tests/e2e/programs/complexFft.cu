// Complex numbers: a radix-2 FFT in shared memory and back, and the escape times of the Mandelbrot set.
#include <cuda/std/complex>

#include <cmath>
#include <complex>
#include <vector>

#include "common.h"

using Complex = cuda::std::complex<double>;

// One block per signal of 2^bits values.
__global__ void Fft(Complex* data, int bits, int sign) {
  extern __shared__ double2 raw[];
  Complex* values = reinterpret_cast<Complex*>(raw);
  const unsigned n = 1u << bits;
  data += blockIdx.x * n;
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) values[__brev(i) >> (32 - bits)] = data[i];
  for (unsigned half = 1; half < n; half *= 2) {
    __syncthreads();
    for (unsigned i = threadIdx.x; i < n / 2; i += blockDim.x) {
      const unsigned k = i % half, at = i / half * 2 * half + k;
      double sine, cosine;
      sincospi(sign * static_cast<double>(k) / half, &sine, &cosine);
      const Complex twisted = Complex(cosine, sine) * values[at + half], plain = values[at];
      values[at] = plain + twisted;
      values[at + half] = plain - twisted;
    }
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) data[i] = sign < 0 ? values[i] : values[i] / static_cast<double>(n);
}

__host__ __device__ int EscapeTime(int x, int y) {
  // Steps of 1/64 and few iterations of integers: the same on every machine.
  const int cr = x - 96, ci = y - 48;
  int zr = 0, zi = 0, step = 0;
  for (; step < 60 && zr * zr + zi * zi < 4 * 64 * 64 * 256; ++step) {
    const int next = (zr * zr - zi * zi) / 1024 + cr * 16;
    zi = 2 * zr * zi / 1024 + ci * 16;
    zr = next;
  }
  return step;
}

__global__ void Mandelbrot(unsigned char* out, int width) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  out[y * width + x] = static_cast<unsigned char>(EscapeTime(x, y));
}

__global__ void Functions(const Complex* in, Complex* out, int n) {
  const int i = threadIdx.x;
  if (i < n) out[i] = exp(in[i]) * conj(in[i]) + sqrt(in[i]) / (in[i] + 1.5) + cuda::std::polar(abs(in[i]), arg(in[i]));
}

int main() {
  const int bits = 8, n = 1 << bits, signals = 3;
  Random random(4);
  std::vector<std::complex<double>> in(n * signals), spectrum(n * signals), back(n * signals);
  for (auto& value : in) value = {random.Uniform(-1, 1), random.Uniform(-1, 1)};
  Complex *d_data, *d_out;
  CHECK(cudaMalloc(&d_data, in.size() * sizeof(Complex)));
  CHECK(cudaMalloc(&d_out, in.size() * sizeof(Complex)));
  CHECK(cudaMemcpy(d_data, in.data(), in.size() * sizeof(Complex), cudaMemcpyHostToDevice));
  Fft<<<signals, 64, n * sizeof(Complex)>>>(d_data, bits, -1);
  CHECK(cudaMemcpy(spectrum.data(), d_data, in.size() * sizeof(Complex), cudaMemcpyDeviceToHost));
  Fft<<<signals, 64, n * sizeof(Complex)>>>(d_data, bits, 1);
  CHECK(cudaMemcpy(back.data(), d_data, in.size() * sizeof(Complex), cudaMemcpyDeviceToHost));
  double worst = 0.0;
  for (int s = 0; s < signals; ++s) {
    for (int k = 0; k < n; ++k) {
      std::complex<double> sum = 0.0;
      for (int i = 0; i < n; ++i) sum += in[s * n + i] * std::polar(1.0, -2.0 * 3.141592653589793 * (k * i % n) / n);
      worst = std::fmax(worst, std::abs(sum - spectrum[s * n + k]));
      worst = std::fmax(worst, std::abs(in[s * n + k] - back[s * n + k]));
    }
  }
  bool ok = worst < 1e-11;
  std::printf("FFT: %s %016llx\n", ok ? "close" : "too far", (unsigned long long)Checksum(spectrum.data(), spectrum.size() * sizeof(Complex)));

  CHECK(cudaMemcpy(d_data, in.data(), n * sizeof(Complex), cudaMemcpyHostToDevice));
  Functions<<<1, n>>>(d_data, d_out, n);
  CHECK(cudaMemcpy(back.data(), d_out, n * sizeof(Complex), cudaMemcpyDeviceToHost));
  worst = 0.0;
  for (int i = 0; i < n; ++i) {
    const auto z = in[i];
    const auto expected = std::exp(z) * std::conj(z) + std::sqrt(z) / (z + 1.5) + std::polar(std::abs(z), std::arg(z));
    worst = std::fmax(worst, std::abs(back[i] - expected));
  }
  ok = ok && worst < 1e-13;
  std::printf("functions: %s\n", worst < 1e-13 ? "close" : "too far");

  const int width = 128, height = 96;
  std::vector<unsigned char> image(width * height);
  unsigned char* d_image;
  CHECK(cudaMalloc(&d_image, image.size()));
  Mandelbrot<<<dim3(4, 12), dim3(32, 8)>>>(d_image, width);
  CHECK(cudaMemcpy(image.data(), d_image, image.size(), cudaMemcpyDeviceToHost));
  for (int i = 0; i < width * height; ++i) ok = ok && image[i] == EscapeTime(i % width, i / width);
  std::printf("Mandelbrot %016llx\n", (unsigned long long)Checksum(image.data(), image.size()));
  return Finish("complexFft", ok);
}
